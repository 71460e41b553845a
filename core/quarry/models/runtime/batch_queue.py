"""One class of a model's work: its queue, and the threads that take batches from it."""

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from quarry.deadline import Deadline
from quarry.errors import DeadlineExceeded, LimitExceededError, UnavailableError
from quarry.models.runtime.packing import WASTE_SHARE, choose_batch_size
from quarry.models.runtime.running import BatchModel, measure_work
from quarry.models.runtime.throughput import Throughput

Item = TypeVar("Item")
Output = TypeVar("Output")

MIN_SHARE_TOKENS = 64
"""Work is not spread over threads in pieces smaller than this: a run of 8 tokens costs as much as 14."""


@dataclass(slots=True, eq=False)
class BatchRequest(Generic[Item, Output]):
    """Items that one caller waits for.

    Attributes:
        finish: called once, from a worker, with the outputs in order or with what went wrong.
        abandoned: whether the caller has gone; asked before work is done.
        tokens: that the items are expected to have.
        waiting: rows that are prepared and not yet taken.
        over: it was answered, or its caller has gone.
    """

    items: Sequence[Item]
    deadline: Deadline
    finish: Callable[[list[Output] | Exception], None]
    abandoned: Callable[[], bool]
    tokens: int = 0
    outputs: dict[int, Output] = field(default_factory=dict)
    waiting: int = 0
    over: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class QueuedItem(Generic[Item, Output]):
    """One prepared item of a request."""

    request: BatchRequest[Item, Output]
    position: int
    input: Any


class BatchQueue(Generic[Item, Output]):
    """Workers that prepare requests and run batches joined from all of them, oldest request first.

    A batch is the oldest request's longest row and what is nearest to it in length, whoever asked for it.
    A lone request is run at once: nothing is ever waited for to fill a batch.
    """

    def __init__(
        self, model: BatchModel[Item, Any, Output], name: str, threads: int, niceness: int, max_items: int
    ) -> None:
        self.throughput = Throughput()
        self._model, self._name, self._niceness, self._max_items = model, name, niceness, max_items
        self._changed = threading.Condition()
        self._new: deque[BatchRequest[Item, Output]] = deque()
        self._oldest: deque[BatchRequest[Item, Output]] = deque()
        self._rows: list[
            tuple[int, int, QueuedItem[Item, Output]]
        ] = []  # (length, minus age rank, row), ascending
        self._numbered = 0
        self._queued = 0
        self._running_tokens = 0
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run_forever, name=f"{name}-{i}", daemon=True)
            for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def count_tokens_within(self, seconds: float) -> int:
        """Counts tokens likely to be run in ``seconds`` from now, after what is running or waits already."""
        possible = self.count_tokens_alone(seconds)
        with self._changed:
            return max(0, possible - self._count_tokens_ahead())

    def count_tokens_alone(self, seconds: float) -> int:
        """Counts tokens likely to be run in ``seconds``, if nothing else is running or waits."""
        return int(min(seconds, 3_600.0) * self.throughput.tokens_per_s * len(self._threads))

    def _count_tokens_ahead(self) -> int:
        """Counts half of the tokens of batches that are running, and all that wait. Called with the lock
        held."""
        new = sum(request.tokens for request in self._new if not request.abandoned())
        prepared = sum(measure_work(row.input) for _, _, row in self._rows if not row.request.abandoned())
        return new + prepared + self._running_tokens // 2

    def put(self, request: BatchRequest[Item, Output]) -> None:
        """Queues a request. A single one over the limit is taken when nothing else waits.

        Raises:
            DeadlineExceeded: what is running or waits takes longer than the request has.
            LimitExceededError: too much is waiting.
            UnavailableError: the queue is closed.
        """
        with self._changed:
            if self._closed:
                raise UnavailableError(f"the model {self._model.info.name} is being closed")
            speed = self.throughput.tokens_per_s * len(self._threads)
            if self._count_tokens_ahead() > request.deadline.remaining_s * speed:
                raise DeadlineExceeded(
                    f"what waits for {self._model.info.name} takes longer than there is time"
                )
            if self._queued and self._queued + len(request.items) > self._max_items:
                raise LimitExceededError(
                    f"{self._queued} texts wait for {self._model.info.name}, at most {self._max_items} may",
                    model=self._model.info.name,
                )
            self._queued += len(request.items)
            self._new.append(request)
            self._changed.notify()

    def close(self) -> None:
        """Ends the workers after the batches they are running; what waits fails with UnavailableError."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        for request in [*self._oldest, *self._new]:
            self._finish(request, UnavailableError(f"the model {self._model.info.name} was closed"))

    def _run_forever(self) -> None:
        if self._niceness and sys.platform == "linux":  # where a thread has its own niceness
            thread = threading.get_native_id()
            nice = max(self._niceness, os.getpriority(os.PRIO_PROCESS, thread))  # lower needs privileges
            os.setpriority(os.PRIO_PROCESS, thread, nice)
        while (work := self._take_next()) is not None:
            if isinstance(work, BatchRequest):
                self._prepare(work)
            elif work:
                self._run(work)

    def _take_next(self) -> "BatchRequest[Item, Output] | list[QueuedItem[Item, Output]] | None":
        """Takes what to do next; waits for it. None when the queue is closed."""
        with self._changed:
            while not (self._closed or self._new or self._rows):
                self._changed.wait()
            if self._closed:
                return None
            return self._new.popleft() if self._new else self._take_batch()

    def _prepare(self, request: BatchRequest[Item, Output]) -> None:
        if self._drop_if_done(request):
            with self._changed:
                self._queued -= len(request.items)
            return
        try:
            inputs = self._model.prepare(request.items)
        except Exception as error:  # noqa: BLE001  # goes to the caller who waits for it
            with self._changed:
                self._queued -= len(request.items)
            self._finish(request, error)
            return
        with self._changed:
            for position, one in enumerate(inputs):
                self._numbered += 1
                self._rows.append((len(one), -self._numbered, QueuedItem(request, position, one)))
            self._rows.sort(key=lambda row: row[:2])
            request.waiting = len(inputs)
            self._oldest.append(request)
            if len(inputs) > 1:
                self._changed.notify_all()

    def _take_batch(self) -> list[QueuedItem[Item, Output]]:
        """Removes the next batch from the rows; called with the lock held. Empty if all were dropped."""
        self._drop_abandoned()
        if not self._rows:
            return []
        oldest = self._oldest[0]
        last = next(i for i in range(len(self._rows) - 1, -1, -1) if self._rows[i][2].request is oldest)
        first, end = self._choose_around(last, self._compute_budget())
        taken = [row for _, _, row in self._rows[first:end]]
        del self._rows[first:end]
        for row in taken:
            row.request.waiting -= 1
        self._queued -= len(taken)
        return taken

    def _choose_around(self, last: int, budget: int) -> tuple[int, int]:
        """Chooses the rows that are run with row ``last``: shorter ones first, then longer ones if there
        is room."""
        lengths = [row[0] for row in reversed(self._rows[max(0, last + 1 - budget) : last + 1])]
        size = choose_batch_size(lengths, 0, budget)
        end, used = last + 1, sum(lengths[:size])
        for length, _, _ in self._rows[last + 1 :]:
            padded, used = (size + 1) * length, used + length
            if padded > budget or padded - used > budget * WASTE_SHARE:
                break
            size, end = size + 1, end + 1
        return end - size, end

    def _compute_budget(self) -> int:
        """Computes tokens of the next batch: what the model likes, or a thread's share of the little there
        is."""
        share = -(-sum(length for length, _, _ in self._rows) // len(self._threads))
        return min(self._model.batch_tokens, max(MIN_SHARE_TOKENS, share))

    def _drop_abandoned(self) -> None:
        """Leaves out the work of callers who have gone or whose time is up, and requests that are done."""
        over = [request for request in self._oldest if self._drop_if_done(request) and request.waiting]
        if over:
            before = len(self._rows)
            self._rows = [row for row in self._rows if not row[2].request.over]
            self._queued -= before - len(self._rows)
        self._oldest = deque(request for request in self._oldest if request.waiting and not request.over)

    def _drop_if_done(self, request: BatchRequest[Item, Output]) -> bool:
        if not request.over and request.abandoned():
            request.over = True
        elif not request.over and request.deadline.remaining_s <= 0:
            self._finish(request, DeadlineExceeded("the time was up before the model had run"))
        return request.over

    def _run(self, rows: Sequence[QueuedItem[Item, Output]]) -> None:
        tokens = sum(measure_work(row.input) for row in rows)
        with self._changed:
            self._running_tokens += tokens
        try:
            started = time.perf_counter()
            outputs = self._model.run([row.input for row in rows])
            seconds = time.perf_counter() - started
        except Exception as error:  # noqa: BLE001  # goes to the caller who waits for it
            self._blame(rows, error)
            return
        finally:
            with self._changed:
                self._running_tokens -= tokens
        self.throughput.add(tokens, seconds)
        for request in self._store_outputs(rows, outputs):
            self._finish(request, None)

    def _store_outputs(
        self, rows: Sequence[QueuedItem[Item, Output]], outputs: Sequence[Output]
    ) -> list[BatchRequest[Item, Output]]:
        """Gives rows their outputs; returns the requests that now have all of theirs."""
        with self._changed:
            for row, output in zip(rows, outputs, strict=True):
                row.request.outputs[row.position] = output
            requests = dict.fromkeys(row.request for row in rows)
            return [request for request in requests if len(request.outputs) == len(request.items)]

    def _blame(self, rows: Sequence[QueuedItem[Item, Output]], error: Exception) -> None:
        """Fails the request whose input it was: those that only shared the batch are run alone."""
        requests = list(dict.fromkeys(row.request for row in rows))
        if len(requests) == 1:
            self._finish(requests[0], error)
            return
        for request in requests:
            self._run([row for row in rows if row.request is request])

    def _finish(self, request: BatchRequest[Item, Output], error: Exception | None) -> None:
        with self._changed:
            if request.over:
                return
            request.over = True
        request.finish(error or [request.outputs[position] for position in range(len(request.items))])
