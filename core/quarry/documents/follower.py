"""Keeps an index up with the document log."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence

from quarry.documents.lag import Lag
from quarry.documents.set_aside import Preparation, SetAside
from quarry.errors import DataLossError, DiskFullError, QuarryError
from quarry.retrieval.definition import FollowedIndex, FollowPolicy
from quarry.types import Change

logger = logging.getLogger(__name__)

USUAL_POLICY = FollowPolicy()
LONGEST_RETRY_S = 30.0
FULL_RETRY_S = 2.0
"""A try on a full disk costs next to nothing, so that the arm answers soon after the disk is freed."""


ReadChanges = Callable[[int, int, int], list[Change]]
"""(after sequence, most rows, most bytes) -> changes in order; blocks."""


class Follower:
    """Applies the log to one index, from the index's own position, for as long as it runs.

    After any failure it reads the position again and replays from there. If the index can prepare changes,
    large ones are set aside while it does, and smaller ones after them are applied first. The position of the
    index stays below the first change that is set aside.

    Attributes:
        visible: every write up to this sequence number is found by searches.
        durable: every write up to this one survives a crash of the index without replay.
        error: why the index is not being followed now; None while it is.
        halted: the index contradicts the log: it is not followed until someone repairs it.
        lag: for how long searches have not found something that was written.
    """

    def __init__(
        self,
        index: FollowedIndex,
        generation: str,
        read_changes: ReadChanges,
        last_sequence: Callable[[], int],
        policy: FollowPolicy = USUAL_POLICY,
    ) -> None:
        self.index = index
        self.visible = 0
        self.durable = 0
        self.error: str | None = None
        self.halted: DataLossError | None = None
        self.lag = Lag()
        self._generation = generation
        self._read_changes = read_changes
        self._last_sequence = last_sequence
        self._policy = policy
        self._written = asyncio.Event()
        self._progress = asyncio.Condition()
        self._wanted = 0
        self._moving = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._aside = SetAside(index, self._written.set)
        self._reached = 0
        self._lacking: list[int] = []
        """The writes up to ``_reached`` that searches do not find yet."""
        self._log_at_start: int | None = None
        self._from_beginning = False
        self._must_replay = False

    async def start(self, replay: bool = False) -> None:
        """Compares the index with the log, before anyone can add to that, and begins to follow it.

        Args:
            replay: from the log's beginning, since the index does not hold what its position says.
        """
        self._from_beginning = replay
        self._log_at_start = await asyncio.to_thread(self._last_sequence)
        try:
            await self._start_position()
        except DataLossError as error:
            await self._halt(error)
        except QuarryError as error:
            self.error = str(error)  # asked again while following
        self._task = asyncio.create_task(self._run(), name=f"follow-{self.index.arm}")

    async def stop(self) -> None:
        """Stops following. What was applied but not settled will be replayed."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        await self._aside.clear()

    def notify(self) -> None:
        """Tells that the log has grown."""
        self.lag.note_write()
        self._written.set()

    @property
    def reached_sequence(self) -> int:
        """The last write up to which searches find all, except those of ``list_preparations``."""
        return self._reached

    def list_preparations(self) -> list[Preparation]:
        """Lists the large changes up to ``reached_sequence`` that searches do not find yet, in order."""
        return self._aside.list_preparations(self._lacking)

    def pause(self) -> asyncio.Lock:
        """Returns a lock that keeps the index as it is while it is held."""
        return self._moving

    async def correct(self, changes: Sequence[Change]) -> None:
        """Applies and settles changes out of order, while the lock of ``pause`` is held.

        If that fails the index may have dropped more than these, so it is followed from its position again.
        """
        self._must_replay = True
        self._written.set()
        await self.index.apply(changes, self.visible)
        await self.index.settle(self.visible)
        self._must_replay = False

    async def wait_visible(self, sequence: int, timeout_s: float | None, after: int = 0) -> bool:
        """Waits until searches find everything that was written after ``after``, up to ``sequence``.

        Returns at the latest after ``timeout_s``, and tells whether they do.
        """
        if not self._is_found(after, sequence):
            self._wanted = max(self._wanted, sequence)
            self._written.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s), self._progress:
                    await self._progress.wait_for(
                        lambda: self._is_found(after, sequence) or self.halted is not None
                    )
        return self._is_found(after, sequence)

    def _is_found(self, after: int, until: int) -> bool:
        return self._reached >= until and not any(after < version <= until for version in self._lacking)

    async def _run(self) -> None:
        pause = self._policy.retry_s
        while self.halted is None:
            try:
                await self._follow()
            except DataLossError as error:
                await self._halt(error)
            except QuarryError as error:
                if self.error is None:
                    pause = self._policy.retry_s
                self.error = str(error)
                logger.warning("the %s arm fell behind: %s", self.index.arm, error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, FULL_RETRY_S if isinstance(error, DiskFullError) else LONGEST_RETRY_S)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                self.error = f"{type(error).__name__}: {error}"
                logger.exception("the %s arm stopped following the log", self.index.arm)
                await asyncio.sleep(LONGEST_RETRY_S)

    async def _halt(self, error: DataLossError) -> None:
        logger.error("the %s arm contradicts the log: %s", self.index.arm, error)
        async with self._progress:
            self.halted = error
            self.error = str(error)
            self._progress.notify_all()

    async def _follow(self) -> None:
        async with self._moving:
            await self._aside.clear()
            read = await self._start_position()
            self._from_beginning = False
        pending, settled_at = 0, time.monotonic() - self._policy.idle_settle_s
        while True:
            self._written.clear()
            async with self._moving:
                if self._must_replay:
                    self._must_replay = False
                    return
                changes = await self._read_next(read)
                read = changes[-1].version if changes else read
                ready = await self._aside.sort(changes)
                if ready:
                    await self.index.apply(ready, self._aside.limit(read))
                    pending += 1
                if self.index.visible_at_once and (changes or ready):
                    await self._advance(read)
                self.error = None
                since = time.monotonic() - settled_at
                settle = pending > 0 and self._is_due(bool(changes), pending, since)
                if settle:
                    await self.index.settle(self._aside.limit(read))
                    pending, settled_at = 0, time.monotonic()
                    await self._advance(read, durable=self._aside.limit(read))
            if not changes and not settle:
                await self._wait_for_writes(self._policy.idle_settle_s - since if pending else None)

    async def _read_next(self, after: int) -> list[Change]:
        """Reads the next changes; none while too much is set aside."""
        self.lag.note_reading()
        changes, end = await asyncio.to_thread(self._read_log, after)
        self.lag.read(end)
        return changes

    def _read_log(self, after: int) -> tuple[list[Change], int]:
        """Reads the next changes, and where the log ended before they were read."""
        end = self._last_sequence()
        if self._aside.is_full:
            return [], end
        return self._read_changes(after, self._policy.batch_rows, self._policy.batch_bytes), end

    def _is_due(self, more: bool, pending: int, since_s: float) -> bool:
        if not more:
            asked = self._wanted > self.visible
            return asked or since_s >= self._policy.idle_settle_s
        return pending >= self._policy.settle_batches or since_s >= self._policy.settle_s

    async def _wait_for_writes(self, timeout_s: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._written.wait()

    async def _start_position(self) -> int:
        position = await self.index.read_position()
        last = self._log_at_start  # what was written since may hide that some before it is lost
        if last is None:
            last = await asyncio.to_thread(self._last_sequence)
        if position.sequence and position.generation != self._generation:
            raise DataLossError(f"the {self.index.arm} index belongs to another generation")
        if position.sequence > last:
            raise DataLossError(
                f"the {self.index.arm} index has applied {position.sequence} writes and the log has {last}: "
                "part of the log is lost"
            )
        self._log_at_start = None
        start = 0 if self._from_beginning else position.sequence
        await self._advance(start, durable=start)
        return start

    async def _advance(self, reached: int, durable: int | None = None) -> None:
        async with self._progress:
            self._reached, self._lacking = reached, self._aside.versions
            self.visible = self._aside.limit(reached)
            self.lag.note_found(self.visible)
            if durable is not None:
                self.durable = durable
            self._progress.notify_all()
