"""Joins the model work of concurrent requests into batches, ahead of which no request waits idly.

Searches and bulk work (indexing, mining) have threads of their own; bulk threads are niced, so that a
search gets its core at once, and bulk work takes what is left: it lost no throughput when measured, and
a query beside it took as long as on an idle machine.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate, takewhile
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from quarry.deadline import Deadline
from quarry.models.base import CrossEncoder, Encoder, ModelInfo, PairScore
from quarry.models.runtime.batch_queue import BatchQueue, BatchRequest
from quarry.models.runtime.observed_model import ObservedModel, count_characters
from quarry.models.runtime.running import BatchModel
from quarry.models.runtime.step_adapters import CrossEncoderAdapter, EncoderAdapter

Item = TypeVar("Item")
Output = TypeVar("Output")
Pair = tuple[str, str]
Vector = NDArray[np.float32]

MAX_QUEUED_ITEMS = 16_384
BULK_NICENESS = 10
NO_DEADLINE = Deadline()


class Priority(Enum):
    """A class of work."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


@dataclass(frozen=True, slots=True)
class BatcherLimits:
    """The limits of a batcher.

    Attributes:
        queued_items: texts or pairs that may wait in each class.
        threads: batches run at once in each class; 0 for what the model wants.
    """

    queued_items: int = MAX_QUEUED_ITEMS
    threads: int = 0


class Batcher(Generic[Item, Output]):
    """The asyncio front of a model. Ended by ``close``."""

    def __init__(self, model: BatchModel[Item, Any, Output], limits: BatcherLimits = BatcherLimits()) -> None:
        self._model = ObservedModel(model)
        threads = limits.threads or model.parallel
        self._queues: dict[Priority, BatchQueue[Item, Output]] = {
            priority: BatchQueue(
                self._model, f"{priority.value}-{model.info.name}", threads, nice, limits.queued_items
            )
            for priority, nice in ((Priority.INTERACTIVE, 0), (Priority.BULK, BULK_NICENESS))
        }

    @property
    def info(self) -> ModelInfo:
        return self._model.info

    @property
    def truncated(self) -> int:
        """Items so far that were longer than the model reads."""
        return self._model.truncated

    async def run(
        self,
        items: Sequence[Item],
        priority: Priority = Priority.INTERACTIVE,
        deadline: Deadline = NO_DEADLINE,
    ) -> list[Output]:
        """Runs each item and returns its output, in order. Cancelling it drops the work that has not begun.

        Raises:
            LimitExceededError: too much is waiting.
            DeadlineExceeded: the deadline passed before all work had begun, or would while others' work runs.
            UnavailableError: the batcher was closed.
            ModelError: the model gave no usable output.
        """
        if not items:
            return []
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Output]] = loop.create_future()

        def settle(result: list[Output] | Exception) -> None:
            if answer.done():
                return
            if isinstance(result, Exception):
                answer.set_exception(result)
            else:
                answer.set_result(result)

        def finish(result: list[Output] | Exception) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle, result)

        request = BatchRequest(items, deadline, finish, answer.cancelled, self._expect_tokens(items))
        self._queues[priority].put(request)
        return await answer

    def count_tokens_within(self, seconds: float, priority: Priority = Priority.INTERACTIVE) -> int:
        """Counts tokens likely to be run in ``seconds`` from now, after what is waiting already."""
        return self._queues[priority].count_tokens_within(seconds)

    def count_in_turn(self, items: Sequence[Item], seconds: float, priority: Priority) -> int:
        """Counts how many of ``items``, from the first, are likely to be run in a turn of ``seconds``.

        At least one, and as many as one batch has.
        """
        budget = max(self._queues[priority].count_tokens_alone(seconds), self._model.batch_tokens)
        sizes = accumulate(self._estimate_item_tokens(count_characters(item)) for item in items)
        return max(1, sum(1 for _ in takewhile(lambda size: size <= budget, sizes)))

    def _expect_tokens(self, items: Sequence[Item]) -> int:
        """Estimates the tokens of the work that ``items`` are."""
        shares = self._model.estimate_shares(items)
        sizes = (self._estimate_item_tokens(count_characters(item)) for item in items)
        return int(sum(share * size for share, size in zip(shares, sizes, strict=True)))

    def _estimate_item_tokens(self, characters: int) -> int:
        """Estimates the tokens of an item of so many characters, special tokens included."""
        expected = int(characters * self._model.density.tokens_per_character) + 1
        return min(self.info.max_tokens, expected)

    def close(self) -> None:
        """Ends the threads; requests that wait fail with UnavailableError. Blocks for the running batches."""
        for queue in self._queues.values():
            queue.close()


class EncoderBatcher(Batcher[str, Vector]):
    """An encoder for concurrent callers."""

    def __init__(self, encoder: Encoder, limits: BatcherLimits = BatcherLimits()) -> None:
        steps: BatchModel[str, Any, Vector] = (
            encoder if isinstance(encoder, BatchModel) else EncoderAdapter(encoder)
        )
        super().__init__(steps, limits)

    async def encode(
        self,
        texts: Sequence[str],
        priority: Priority = Priority.INTERACTIVE,
        deadline: Deadline = NO_DEADLINE,
    ) -> Vector:
        """Encodes unit vectors, float32, shape ``(len(texts), dimension)``. Raises as ``run``."""
        vectors = await self.run(texts, priority, deadline)
        return np.stack(vectors) if vectors else np.empty((0, self.info.dimension), np.float32)


class PairBatcher(Batcher[Pair, PairScore]):
    """A cross-encoder for concurrent callers."""

    def __init__(self, model: CrossEncoder, limits: BatcherLimits = BatcherLimits()) -> None:
        steps: BatchModel[Pair, Any, PairScore] = (
            model if isinstance(model, BatchModel) else CrossEncoderAdapter(model)
        )
        super().__init__(steps, limits)

    async def score(
        self,
        pairs: Sequence[Pair],
        priority: Priority = Priority.INTERACTIVE,
        deadline: Deadline = NO_DEADLINE,
    ) -> list[PairScore]:
        """Scores each pair, in order. Raises as ``run``."""
        return await self.run(pairs, priority, deadline)

    def count_fitting(
        self, pairs: Sequence[Pair], seconds: float, priority: Priority = Priority.INTERACTIVE
    ) -> int:
        """Counts how many of ``pairs``, from the first, are likely to be scored in ``seconds``."""
        budget = self.count_tokens_within(seconds, priority)
        sizes = accumulate(
            share * self._estimate_item_tokens(len(query) + len(passage))
            for (query, passage), share in zip(pairs, self._model.estimate_shares(pairs), strict=True)
        )
        return sum(1 for size in sizes if size <= budget)
