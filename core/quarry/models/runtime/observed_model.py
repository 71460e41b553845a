"""A model whose inputs are counted on their way to it."""

import threading
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from quarry.models.base import ModelInfo
from quarry.models.runtime.running import BatchModel, PartialModel
from quarry.models.runtime.throughput import TokenDensity

Item = TypeVar("Item")
Output = TypeVar("Output")


class ObservedModel(Generic[Item, Output]):
    """A model whose inputs are counted on the way.

    Attributes:
        truncated: inputs that were longer than the model reads.
        density: tokens per character of those that were not.
    """

    def __init__(self, model: BatchModel[Item, Any, Output]) -> None:
        self._model = model
        self._lock = threading.Lock()
        self.truncated = 0
        self.density = TokenDensity()

    @property
    def info(self) -> ModelInfo:
        return self._model.info

    @property
    def batch_tokens(self) -> int:
        return self._model.batch_tokens

    @property
    def parallel(self) -> int:
        return self._model.parallel

    def estimate_shares(self, items: Sequence[Item]) -> list[float]:
        """Estimates how much of each item's work is left at most, in (0, 1]."""
        return (
            self._model.estimate_shares(items)
            if isinstance(self._model, PartialModel)
            else [1.0] * len(items)
        )

    def prepare(self, items: Sequence[Item]) -> list[Any]:
        inputs = self._model.prepare(items)
        whole = [i for i, one in enumerate(inputs) if not one.truncated]
        self.density.add(sum(len(inputs[i]) for i in whole), sum(count_characters(items[i]) for i in whole))
        with self._lock:
            self.truncated += len(inputs) - len(whole)
        return inputs

    def run(self, batch: Sequence[Any]) -> Sequence[Output]:
        return self._model.run(batch)


def count_characters(item: object) -> int:
    """Returns the characters of a text, or of all texts of a pair."""
    return len(item) if isinstance(item, str) else sum(map(len, item)) if isinstance(item, tuple) else 0
