"""A collection that is open: writes, searches, and whether its indexes agree with its log."""

import asyncio
import contextlib
import shutil
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from quarry.consistency import ArmDifferences, compare, reapply
from quarry.deadline import Deadline
from quarry.documents.catalog import Collection
from quarry.documents.log import Outcome, Upsert
from quarry.documents.store import DocumentLog, RequestId
from quarry.errors import DataLossError, UnavailableError
from quarry.filters import Filter
from quarry.generation import Generation
from quarry.types import Document, Fields

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Written:
    """What a write did.

    Attributes:
        outcomes: one for each document.
        sequence: of its last write; 0 if it wrote nothing.
        searchable: whether searches were seen to find it; False if nobody waited for that.
    """

    outcomes: Sequence[Outcome]
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


class OpenCollection:
    """One collection. ``use`` keeps it open while a request runs.

    Attributes:
        collection: its settings, as of the last change.
        log: its documents.
        generation: its indexes.
    """

    def __init__(self, collection: Collection, log: DocumentLog, generation: Generation) -> None:
        self.collection, self.log, self.generation = collection, log, generation
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @contextlib.contextmanager
    def use(self) -> Iterator["OpenCollection"]:
        self._users += 1
        self._unused.clear()
        try:
            yield self
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    @property
    def read_only(self) -> DataLossError | None:
        """Why writes are refused; None if they are not."""
        return next((f.halted for f in self.generation.followers.values() if f.halted), None)

    async def upsert(
        self, upserts: Sequence[Upsert], request: RequestId, wait: bool, deadline: Deadline
    ) -> Written:
        """Stores documents. With ``wait``, until searches find them or the deadline is near."""
        self._check_writable()
        return await self._written(await self._logged(self.log.upsert(upserts, request)), wait, deadline)

    async def delete(self, ids: Sequence[str], request: RequestId, wait: bool, deadline: Deadline) -> Written:
        self._check_writable()
        return await self._written(await self._logged(self.log.delete(ids, request)), wait, deadline)

    async def delete_by_filter(
        self, filter: Filter, request: RequestId, wait: bool, deadline: Deadline
    ) -> Written:
        self._check_writable()
        outcomes = await self._logged(self.log.delete_by_filter(filter, request))
        return await self._written(outcomes, wait, deadline)

    async def update(
        self,
        id: str,
        change: Callable[[Fields], Fields],
        if_version: int | None,
        allow_missing: bool,
        request: RequestId,
        wait: bool,
        deadline: Deadline,
    ) -> tuple[Document, Written]:
        self._check_writable()
        document = await self._logged(self.log.update(id, change, if_version, allow_missing, request))
        return document, await self._written([Outcome(id, document.version)], wait, deadline)

    def _check_writable(self) -> None:
        if problem := self.read_only:
            raise problem

    async def _logged(self, write: Coroutine[Any, Any, T]) -> T:
        """The write's result. It goes on if the caller goes, since followers must hear of its commit."""
        running = asyncio.create_task(write)
        running.add_done_callback(lambda _: self.generation.notify())
        return await asyncio.shield(running)

    async def _written(self, outcomes: Sequence[Outcome], wait: bool, deadline: Deadline) -> Written:
        sequence = max((outcome.version for outcome in outcomes), default=0)
        if not wait:
            return Written(outcomes, sequence, searchable=False)
        seen = await self.generation.wait_visible(sequence, _margin(deadline))
        return Written(outcomes, sequence, searchable=seen)

    async def check(self, deadline: Deadline) -> Consistency:
        """Compares every arm with the log, once it has caught up.

        Raises:
            DataLossError: an arm is ahead of the log.
            UnavailableError: an arm cannot be reached or does not catch up in time.
        """
        self._check_writable()
        sequence = await asyncio.to_thread(self.log.last_sequence)
        if not await self.generation.wait_visible(sequence, _margin(deadline)):
            raise UnavailableError("an arm has not caught up with the log; try again")
        generation = self.generation
        found = [
            await compare(follower, generation.versioned(arm), self.log)
            for arm, follower in generation.followers.items()
        ]
        return Consistency(sequence, found)

    async def repair(self, deadline: Deadline) -> tuple[Consistency, Consistency]:
        """Applies again what differs; the differences before and after."""
        before = await self.check(deadline)
        for arm in before.arms:
            await reapply(self.generation.followers[arm.arm], arm, self.log)
        return before, await self.check(deadline)

    async def close(self, grace_s: float) -> None:
        """Waits for the requests that use it, at most ``grace_s``, then closes the indexes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._unused.wait()
        await self.generation.close()


def remove_folder(folder: Path) -> None:
    """Deletes ``folder`` and what is in it; one that is not there is fine."""
    if folder.exists():
        shutil.rmtree(folder)


def _margin(deadline: Deadline) -> float | None:
    """Waits end a little before the deadline, so that the answer still arrives."""
    timeout = deadline.timeout_s
    return None if timeout is None else max(0.0, timeout - min(0.5, 0.1 * timeout))
