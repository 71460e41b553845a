"""Gives a collection another encoder, schema or passage policy, beside what serves, in one step at the end.

A generation is begun (a row, then a folder), filled from the log by followers, held to the log, and switched
to. Every step can be repeated: after a restart, ``run`` goes on from where the indexes are.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from enum import StrEnum

import sqlalchemy as sa

from quarry.collections.collection_handle import CollectionHandle
from quarry.collections.collections import Collections
from quarry.collections.reindex_plan import ReindexPlan, Wanted, check_documents, plan_reindex
from quarry.deadline import Deadline
from quarry.documents import catalog
from quarry.documents.catalog import Collection
from quarry.documents.generations import (
    IndexSettings,
    Role,
    SideGeneration,
    begin_generation,
    find_generation,
    get_generation,
    list_generations,
    set_paused,
)
from quarry.documents.view import make_view
from quarry.errors import (
    ConflictError,
    DataLossError,
    FailedPreconditionError,
    LimitExceededError,
    QuarryError,
    ReindexRunningError,
    UnavailableError,
)
from quarry.registry.serving import check_own
from quarry.storage.faults import reach
from quarry.waiting import finish_undisturbed

TICK_S = 1.0
"""Between two looks at how far the indexes are."""
PAUSED_TICK_S = 10.0
"""Between two looks whether a paused reindex is still wanted."""
RATE_S = 30.0
"""Over how long the rate is taken."""
RETRIED = (UnavailableError, LimitExceededError)
"""What passes by itself, or when somebody has made room on the disk."""


class ReindexState(StrEnum):
    BUILDING = "building"
    PAUSED = "paused"
    CATCHING_UP = "catching_up"
    CHECKING = "checking"
    SWITCHING = "switching"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class ReindexProgress:
    """The progress of the indexes that are being built.

    Attributes:
        documents: that they hold in their current version.
        total: that exist.
        documents_per_s: over the last half minute; 0 while nothing is known.
        problem: why the work stands still; empty if it does not.
    """

    state: ReindexState
    documents: int = 0
    total: int = 0
    documents_per_s: float = 0.0
    problem: str = ""

    @property
    def remaining_s(self) -> float | None:
        """Seconds until all documents are there, at this rate; None while nothing is known."""
        left = self.total - self.documents
        return left / self.documents_per_s if self.documents_per_s else None


Report = Callable[[ReindexProgress], Awaitable[None]]


class _PausedNow(Exception):
    """Somebody has paused the reindex that is running."""


class Reindexer:
    """Plans, runs, pauses and undoes reindexes. Lives on the event loop of the open collections."""

    def __init__(self, open_collections: Collections) -> None:
        self._open_collections, self._database = open_collections, open_collections.database
        self._progress: dict[int, ReindexProgress] = {}
        self._wakeups: dict[int, asyncio.Event] = {}
        self._rolling_back: dict[int, str] = {}

    async def plan(self, name: str, revision: int | None, wanted: Wanted) -> ReindexPlan:
        """Does the same as ``plan_reindex``, for the collection as it is now.

        Raises, too:
            CollectionNotFoundError: there is no such collection.
            ConflictError: ``revision`` is not the current one.
            ReindexRunningError: one is under way.
        """
        with self._open_collections.use(name):
            return await plan_reindex(self._open_collections, await self._read_idle(name, revision), wanted)

    async def _read_idle(self, name: str, revision: int | None) -> Collection:
        """Reads the collection as it is now. Raises ReindexRunningError if it has a reindex or a rollback."""
        current = await self._open_collections.read_current(name)
        if revision is not None and revision != current.revision:
            raise ConflictError(f"the collection {name!r} has changed since", collection=name)
        await self._refuse_second(current)
        return current

    async def begin(self, plan: ReindexPlan, operation: str) -> None:
        """Records what is planned, to be made by ``run``.

        Raises ReindexRunningError, or FailedPreconditionError if the collection has changed since.
        """
        before, after = plan.before, plan.after
        settings, cost = IndexSettings.from_collection(after), plan.estimate.as_dict()
        await self._refuse_second(before)

        def write(connection: sa.Connection) -> None:
            check_own(connection, after)
            begin_generation(
                connection, before.key, before.revision, settings, after.mixed_fields, operation, cost
            )

        await self._database.write(write)
        reach("reindex-begun")
        if plan.reads_differently:
            with self._open_collections.use(before.settings.name) as serving:
                serving.log.view = make_view(before.settings.schema, after.mixed_fields)

    async def run(self, key: int, report: Report) -> Collection:
        """Makes the new generation and lets it serve. Cancelled or failed, it leaves everything as it is.

        Raises:
            FailedPreconditionError: nothing is in the making (any more).
            DocumentDoesNotFitError: a document that was written meanwhile cannot be read by the new schema.
            DataLossError: the new indexes do not hold what the log holds.
            CollectionNotFoundError: the collection was deleted.
        """
        try:
            while True:
                side = await self._read_row(key, Role.BUILDING)
                if side.paused:
                    await self._report_progress(
                        key, report, replace(self._get_progress(key), state=ReindexState.PAUSED)
                    )
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(PAUSED_TICK_S):
                            await self._get_wakeup(key).wait()
                    self._get_wakeup(key).clear()
                    continue
                try:
                    building = await self._open_collections.side_generations.open(key, Role.BUILDING)
                    return await self._complete(building, Role.BUILDING, report)
                except _PausedNow:
                    await self._open_collections.side_generations.close(key, Role.BUILDING)
                except RETRIED as error:
                    await self._wait_to_retry(key, report, error)
        finally:
            self._progress.pop(key, None)
            self._wakeups.pop(key, None)

    async def pause(self, name: str) -> None:
        """Raises FailedPreconditionError if no reindex is under way."""
        await self._set_paused(name, True)

    async def resume(self, name: str) -> None:
        """Raises FailedPreconditionError if no reindex is under way."""
        await self._set_paused(name, False)

    async def _set_paused(self, name: str, paused: bool) -> None:
        key = (await self._open_collections.read_current(name)).key
        await self._database.write(lambda c: set_paused(c, key, paused))
        self._get_wakeup(key).set()

    async def abandon(self, key: int) -> None:
        """Removes the generation in the making, if it is not serving yet."""
        try:
            await self._open_collections.side_generations.remove(key, Role.BUILDING)
        except FailedPreconditionError:
            return

    async def begin_rollback(self, name: str, revision: int | None, operation: str) -> int:
        """Claims the collection for a rollback, to be made by ``roll_back``; returns its key.

        Raises:
            ConflictError: ``revision`` is not the current one.
            FailedPreconditionError: no previous generation is kept, or a reindex is under way.
        """
        current = await self._read_idle(name, revision)
        await self._read_row(current.key, Role.PREVIOUS)
        await self._refuse_second(current)  # another call may have come first while this one looked
        self._rolling_back[current.key] = operation
        return current.key

    def release(self, key: int) -> None:
        """Gives back what ``begin_rollback`` has claimed, if no rollback comes of it."""
        self._rolling_back.pop(key, None)

    async def roll_back(self, key: int, report: Report) -> Collection:
        """Lets the previous generation serve again, once it has every write and is held to the log.

        Raises:
            DocumentDoesNotFitError: a document written since cannot be read by its schema.
            QuarryError: its indexes cannot be opened.
        """
        try:
            while True:
                try:
                    previous = await self._open_collections.side_generations.open(key, Role.PREVIOUS)
                    return await self._complete(previous, Role.PREVIOUS, report)
                except RETRIED as error:
                    await self._wait_to_retry(key, report, error)
        finally:
            self._rolling_back.pop(key, None)
            self._progress.pop(key, None)

    async def drop_previous(self, name: str) -> None:
        """Raises FailedPreconditionError if none is kept, or it is being rolled back to."""
        key = (await self._open_collections.read_current(name)).key
        if operation := self._rolling_back.get(key):
            raise ReindexRunningError(name, operation)
        await self._open_collections.side_generations.remove(key, Role.PREVIOUS)

    async def list_unfinished(self) -> list[SideGeneration]:
        """Lists what was in the making when the last server ended, or is paused."""
        found = await asyncio.to_thread(self._database.read, list_generations)
        return [side for side in found if side.role is Role.BUILDING]

    async def read_name(self, key: int) -> str:
        """Raises CollectionNotFoundError."""
        read = self._database.read
        found = await asyncio.to_thread(read, lambda c: catalog.read_collection_by_key(c, key))
        return found.settings.name

    async def list_side_generations(self, key: int) -> dict[Role, SideGeneration]:
        found = await asyncio.to_thread(self._database.read, lambda c: list_generations(c, key))
        return {side.role: side for side in found}

    def read_progress(self, side: SideGeneration) -> ReindexProgress:
        """Tells how far a reindex was when it was last looked at."""
        known = self._get_progress(side.key)
        return replace(known, state=ReindexState.PAUSED) if side.paused else known

    async def _complete(self, new: CollectionHandle, role: Role, report: Report) -> Collection:
        """Waits until the generation is whole, holds it to the log, and lets it serve."""
        key, returning = new.row.key, role is Role.PREVIOUS
        await self._fill(new, report)
        checked = await self._check_documents(new, 0, returning)
        await self._check_coverage(new)

        async def check() -> None:
            await self._check_documents(new, checked, returning)

        while True:
            await self._fill(new, report)  # what was written during the checks
            await self._report_progress(
                key, report, replace(self._get_progress(key), state=ReindexState.SWITCHING)
            )
            try:
                return await finish_undisturbed(
                    self._open_collections.side_generations.switch(key, role, check)
                )
            except UnavailableError as error:
                await self._wait_to_retry(key, report, error)

    async def _wait_to_retry(self, key: int, report: Report, error: QuarryError) -> None:
        """Says what keeps the work from going on, and waits before it is tried again."""
        await self._report_progress(key, report, replace(self._get_progress(key), problem=str(error)))
        await asyncio.sleep(TICK_S)

    async def _fill(self, new: CollectionHandle, report: Report) -> None:
        """Waits until the generation holds all that was there, and is at most a second behind what serves."""
        key, generation = new.row.key, new.generation
        target = await asyncio.to_thread(new.log.read_last_sequence)
        looks: deque[tuple[float, int]] = deque()
        state = ReindexState.BUILDING
        while state is not ReindexState.CHECKING:
            reached = await generation.wait_visible(target, TICK_S)
            await self._refuse_if_paused(key)
            if halted := new.read_only:
                raise halted
            if reached and state is ReindexState.CATCHING_UP:
                state = ReindexState.CHECKING
            elif reached or state is ReindexState.CATCHING_UP:
                state, target = ReindexState.CATCHING_UP, self._get_serving(new).generation.visible
            await self._report_progress(key, report, await self._look(new, state, looks))
            if generation.failures:
                await asyncio.sleep(TICK_S)

    async def _look(
        self, new: CollectionHandle, state: ReindexState, looks: deque[tuple[float, int]]
    ) -> ReindexProgress:
        visible = new.generation.visible
        done = await asyncio.to_thread(new.log.count, visible) if visible else 0
        collection = await asyncio.to_thread(
            self._database.read, lambda c: catalog.read_collection_by_key(c, new.row.key)
        )
        looks.append((time.monotonic(), done))
        while looks[-1][0] - looks[0][0] > RATE_S and len(looks) > 2:
            looks.popleft()
        seconds = looks[-1][0] - looks[0][0]
        rate = max(0, looks[-1][1] - looks[0][1]) / seconds if seconds else 0.0
        return ReindexProgress(state, done, collection.document_count, rate, new.generation.problem)

    async def _check_coverage(self, new: CollectionHandle) -> None:
        """Every arm holds exactly the log's documents, each in its version. What differs is applied again."""
        found = await new.check(Deadline())
        if not found.consistent:
            _, found = await new.repair(Deadline())
        for arm in found.arms:
            if not arm.consistent:
                differing = sum(map(len, (arm.missing, arm.surplus, arm.outdated, arm.damaged)))
                raise DataLossError(f"the new {arm.arm} index differs from the log in {differing} documents")

    async def _check_documents(self, new: CollectionHandle, checked: int, returning: bool) -> int:
        """Checks whether the generation's schema reads all that was written since ``checked``; returns until
        where it does.

        Raises DocumentDoesNotFitError.
        """
        before = self._get_serving(new).row
        return await check_documents(self._database, before, new.row, checked, returning)

    async def _refuse_second(self, collection: Collection) -> None:
        """Raises ReindexRunningError if the collection has a reindex or a rollback."""
        running = await asyncio.to_thread(
            self._database.read, lambda c: find_generation(c, collection.key, Role.BUILDING)
        )
        operation = running.operation if running else self._rolling_back.get(collection.key)
        if operation:
            raise ReindexRunningError(collection.settings.name, operation)

    async def _refuse_if_paused(self, key: int) -> None:
        """Raises _PausedNow; looks only after somebody has paused or resumed."""
        if key in self._rolling_back or not self._get_wakeup(key).is_set():
            return
        self._get_wakeup(key).clear()
        if (await self._read_row(key, Role.BUILDING)).paused:
            raise _PausedNow

    async def _read_row(self, key: int, role: Role) -> SideGeneration:
        return await asyncio.to_thread(self._database.read, lambda c: get_generation(c, key, role))

    def _get_serving(self, handle: CollectionHandle) -> CollectionHandle:
        with self._open_collections.use(handle.row.settings.name) as serving:
            return serving

    def _get_wakeup(self, key: int) -> asyncio.Event:
        return self._wakeups.setdefault(key, asyncio.Event())

    def _get_progress(self, key: int) -> ReindexProgress:
        return self._progress.get(key, ReindexProgress(ReindexState.BUILDING))

    async def _report_progress(self, key: int, report: Report, progress: ReindexProgress) -> None:
        self._progress[key] = progress
        with contextlib.suppress(*RETRIED):  # it is told again in a moment
            await report(progress)
