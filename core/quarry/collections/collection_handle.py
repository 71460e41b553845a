"""A collection that is open: writes, searches, and whether its indexes agree with its log."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from quarry.collections.consistency import ArmDifferences, compare, reapply
from quarry.collections.generation import Generation, notify_all
from quarry.deadline import Deadline
from quarry.documents.bulk_updates import BulkProgress, FieldsChange
from quarry.documents.catalog import Collection
from quarry.documents.log import Upsert, WriteOutcome
from quarry.documents.store import DocumentLog, RequestId
from quarry.documents.view import DocumentView
from quarry.errors import DataLossError, DeadlineExceeded, InvalidArgumentError, UnavailableError
from quarry.filters import Filter
from quarry.retrieval.inspection import VectorSample
from quarry.search.requests import SearchedCollection
from quarry.types import Document, Fields
from quarry.waiting import OngoingWork

T = TypeVar("T")

SOME_VECTORS = VectorSample()
ALL_VECTORS, ALL_ENCODED = VectorSample(documents=None), VectorSample(documents=None, encoded=None)


@dataclass(frozen=True, slots=True)
class WriteSummary:
    """The result of a write.

    Attributes:
        outcomes: one for each document.
        sequence: of its last write; 0 if it wrote nothing.
        searchable: whether searches were seen to find it; False if nobody waited for that.
    """

    outcomes: Sequence[WriteOutcome]
    sequence: int
    searchable: bool


@dataclass(frozen=True, slots=True)
class Consistency:
    """A comparison of all arms with the log at ``sequence``."""

    sequence: int
    arms: Sequence[ArmDifferences]

    @property
    def consistent(self) -> bool:
        return all(arm.consistent for arm in self.arms)


class CollectionHandle:
    """One collection. ``use`` keeps it open while a request runs.

    Attributes:
        row: its settings, as of the last change.
        log: its documents.
        generation: its indexes.
        generations: all that follow the log, ``generation`` and those beside it; shared by them.
        successor: what serves instead since a switch; None while this one serves, or has yet to.
    """

    def __init__(self, collection: Collection, log: DocumentLog, generation: Generation) -> None:
        self.row, self.log, self.generation = collection, log, generation
        self.generations = {generation}
        self.successor: CollectionHandle | None = None
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()
        self._writes = OngoingWork()
        self._admitting = asyncio.Event()
        self._admitting.set()

    @contextlib.contextmanager
    def use(self) -> Iterator["CollectionHandle"]:
        self._users += 1
        self._unused.clear()
        try:
            yield self
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    def as_searched(self) -> SearchedCollection:
        """Returns what a search needs of it, which stays the same when others change the settings."""
        generation = self.generation

        async def cut_passages(documents: Sequence[Fields]) -> Sequence[Sequence[str]]:
            vectors = generation.vectors  # an arm that failed at first may be open by now
            return [()] * len(documents) if vectors is None else await vectors.cut_passages(documents)

        return SearchedCollection(
            self.row.key,
            self.row.settings.schema,
            self.log,
            generation.name,
            generation.searcher,
            cut_passages,
        )

    @property
    def read_only(self) -> DataLossError | None:
        """Why writes are refused; None if they are not."""
        return next((f.halted for f in self.generation.followers.values() if f.halted), None)

    async def upsert(
        self, upserts: Sequence[Upsert], request: RequestId, wait: bool, deadline: Deadline
    ) -> WriteSummary:
        """Stores documents. With ``wait``, until searches find them or the deadline is near."""
        await self._admitting.wait()
        if self.successor is not None:
            with self.serving.use() as serving:
                return await serving.adopt(upserts, self, request, wait, deadline)
        self._check_writable()
        outcomes = await self._write(self.log.upsert(upserts, request))
        return await self._report_written(outcomes, wait, deadline)

    async def adopt(
        self,
        upserts: Sequence[Upsert],
        earlier: "CollectionHandle",
        request: RequestId,
        wait: bool,
        deadline: Deadline,
    ) -> WriteSummary:
        """Stores documents that were checked against the schema of an ``earlier`` generation."""
        problems = [self._find_misfit(upsert, earlier) for upsert in upserts]
        fitting = [u for u, problem in zip(upserts, problems, strict=True) if problem is None]
        written = await self.upsert(fitting, request, wait, deadline)
        done = iter(written.outcomes)
        outcomes = [problem or next(done) for problem in problems]
        return replace(written, outcomes=outcomes)

    def _find_misfit(self, upsert: Upsert, earlier: "CollectionHandle") -> WriteOutcome | None:
        """Tells why the document cannot be stored under this schema; None if it can."""
        try:
            self.check_fields(upsert.fields, earlier)
        except InvalidArgumentError as error:
            return WriteOutcome(upsert.id, error=error.move_under("fields"))
        return None

    def check_fields(self, fields: Fields, earlier: "CollectionHandle", returning: bool = False) -> None:
        """Raises InvalidArgumentError if this schema misreads what was valid under ``earlier``'s."""
        if isinstance(self.log.view, DocumentView):
            self.log.view.check(fields, earlier.row.settings.schema, returning)

    async def delete(
        self, ids: Sequence[str], request: RequestId, wait: bool, deadline: Deadline
    ) -> WriteSummary:
        await self._admitting.wait()
        self._check_writable()
        outcomes = await self._write(self.log.delete(ids, request))
        return await self._report_written(outcomes, wait, deadline)

    async def delete_by_filter(
        self, filter: Filter, request: RequestId, wait: bool, deadline: Deadline
    ) -> WriteSummary:
        await self._admitting.wait()
        self._check_writable()
        outcomes = await self._write(self.log.delete_by_filter(filter, request))
        return await self._report_written(outcomes, wait, deadline)

    async def update(
        self,
        id: str,
        change: Callable[[Fields], Fields],
        if_version: int | None,
        allow_missing: bool,
        request: RequestId,
        wait: bool,
        deadline: Deadline,
    ) -> tuple[Document, WriteSummary]:
        await self._admitting.wait()
        if self.successor is not None:
            with self.serving.use() as serving:

                def check_fit(fields: Fields) -> Fields:
                    changed = change(fields)
                    try:
                        serving.check_fields(changed, self)
                    except InvalidArgumentError as error:
                        raise error.move_under("document.fields") from None
                    return changed

                return await serving.update(id, check_fit, if_version, allow_missing, request, wait, deadline)
        self._check_writable()
        document = await self._write(self.log.update(id, change, if_version, allow_missing, request))
        return document, await self._report_written([WriteOutcome(id, document.version)], wait, deadline)

    async def update_by_filter(
        self, filter: Filter, change: FieldsChange, request: RequestId, wait: bool, deadline: Deadline
    ) -> tuple[BulkProgress, WriteSummary]:
        """Changes all documents that pass ``filter``, a batch at a time; goes on where the same request was.

        Raises:
            DeadlineExceeded: what was changed by then stays.
            UnavailableError: a reindex has switched the schema meanwhile.
        """
        progress = await asyncio.to_thread(self.log.recall_update, request)
        while not progress.done:
            if deadline.timeout_s is not None and deadline.remaining_s <= 0:
                raise DeadlineExceeded(
                    f"{progress.updated:,} documents are changed; the same request goes on"
                )
            await self._admitting.wait()
            if self.successor is not None:
                raise UnavailableError("the collection has other indexes since: the same request goes on")
            self._check_writable()
            progress = await self._write(self.log.update_batch(filter, change, request, progress))
        summary = WriteSummary([], progress.sequence or 0, searchable=False)
        return progress, await self._wait_until_found(summary, 0, deadline) if wait else summary

    def _check_writable(self) -> None:
        if problem := self.read_only:
            raise problem

    async def _write(self, write: Coroutine[Any, Any, T]) -> T:
        """Writes; followers are told when that has ended, whether or not the caller is still there."""
        return await self._writes.finish(write, partial(notify_all, self.generations))

    @contextlib.asynccontextmanager
    async def hold_writes(self) -> AsyncIterator[None]:
        """Waits for the writes that are under way, and keeps further ones waiting until the block ends."""
        self._admitting.clear()
        try:
            await self._writes.wait()
            yield
        finally:
            self._admitting.set()

    @property
    def serving(self) -> "CollectionHandle":
        """What answers calls that begin now: this one, or what has taken over from it."""
        serving = self
        while serving.successor is not None:
            serving = serving.successor
        return serving

    async def _report_written(
        self, outcomes: Sequence[WriteOutcome], wait: bool, deadline: Deadline
    ) -> WriteSummary:
        versions = [outcome.version for outcome in outcomes]
        summary = WriteSummary(outcomes, max(versions, default=0), searchable=False)
        return (
            await self._wait_until_found(summary, min(versions, default=1) - 1, deadline) if wait else summary
        )

    async def _wait_until_found(self, summary: WriteSummary, after: int, deadline: Deadline) -> WriteSummary:
        """Waits until searches find all that was written after ``after``, or the deadline is near."""
        waited, seen, until = None, False, Deadline.set_after(_keep_margin(deadline))
        while waited is not self.serving:  # a switch meanwhile makes the next search ask other indexes
            waited = self.serving
            with waited.use():
                seen = await waited.generation.wait_visible(summary.sequence, until.timeout_s, after)
                seen = await waited._wait_for_switch(until.timeout_s) and seen
        return replace(summary, searchable=seen)

    async def _wait_for_switch(self, timeout_s: float | None) -> bool:
        """Waits until a switch that is under way has ended, at the latest after ``timeout_s``; tells whether
        it has.

        It has asked what is visible here already, and will not wait for what became so since.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._admitting.wait()
        return self._admitting.is_set()

    async def check(self, deadline: Deadline, sample: VectorSample = SOME_VECTORS) -> Consistency:
        """Compares every arm with the log, once it has caught up.

        Args:
            deadline: half of the time to it is for looking at vectors, where ``sample`` takes so long.

        Raises:
            DataLossError: an arm is ahead of the log.
            UnavailableError: an arm cannot be reached or does not catch up in time.
            ModelError: the encoder fails.
        """
        vectors_until = Deadline.set_after(None if deadline.timeout_s is None else deadline.remaining_s / 2)
        self._check_writable()
        sequence = await asyncio.to_thread(self.log.read_last_sequence)
        if not await self.generation.wait_visible(sequence, _keep_margin(deadline)):
            raise UnavailableError("an arm has not caught up with the log; try again")
        generation = self.generation
        found = [
            await compare(follower, generation.get_open_arm(arm), self.log)
            for arm, follower in generation.followers.items()
        ]
        return Consistency(
            sequence, [await generation.look_inside(arm, sample, vectors_until) for arm in found]
        )

    async def repair(self, deadline: Deadline) -> tuple[Consistency, Consistency]:
        """Applies again what differs; returns the differences before and after. All vectors are looked at.

        What is wrong with the files of an arm stays: it needs new ones.
        """
        before = await self.check(deadline, ALL_VECTORS)
        if any(arm.wrongly_encoded for arm in before.arms):
            before = await self.check(deadline, ALL_ENCODED)
        for arm in before.arms:
            opened = self.generation.get_open_arm(arm.arm)
            await reapply(self.generation.followers[arm.arm], arm, self.log, opened.forget)
        return before, await self.check(deadline, ALL_VECTORS)

    async def close(self, grace_s: float) -> None:
        """Waits for the requests that use it, at most ``grace_s``, then closes the indexes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._unused.wait()
        self.generations.discard(self.generation)
        await self.generation.close()


def _keep_margin(deadline: Deadline) -> float | None:
    """Waits end a little before the deadline, so that the answer still arrives."""
    timeout = deadline.timeout_s
    return None if timeout is None else max(0.0, timeout - min(0.5, 0.1 * timeout))
