"""The index that suggestions are made from. It is made when a collection's first suggestion is asked for."""

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from quarry.deadline import Deadline
from quarry.documents.follower import Follower
from quarry.documents.store import DocumentLog
from quarry.errors import DataLossError, RetrieverUnavailableError
from quarry.retrieval.base import ExcerptIndex
from quarry.retrieval.bm25_arm import FollowedLexical
from quarry.retrieval.definition import Engines
from quarry.schema import Schema
from quarry.search.shortfalls import ArmState
from quarry.waiting import run_to_its_end

logger = logging.getLogger(__name__)
T = TypeVar("T")

NAME = "suggestions"
LONGEST_WAIT_S = 0.25
"""For what was written before a call, so that whoever waited for a write gets it suggested."""


@dataclass(frozen=True, slots=True)
class _Opened:
    index: ExcerptIndex
    follower: Follower


class SuggestionIndex:
    """An index of one generation, beside its arms: it follows the log from the first call of ``ask`` on.

    No write waits for it, and a collection without suggestions has none. It can be thrown away.

    Args:
        folder: of this index alone.
        behind_after_s: how long it may lack what was written before it counts as behind.
    """

    def __init__(
        self,
        folder: Path,
        generation: str,
        schema: Schema,
        engines: Engines,
        log: DocumentLog,
        behind_after_s: float,
    ) -> None:
        self._folder, self._generation, self._schema = folder, generation, schema
        self._engines, self._log, self._behind_after_s = engines, log, behind_after_s
        self._changing = asyncio.Lock()
        self._opening: asyncio.Task[_Opened] | None = None
        self._opened: _Opened | None = None
        self._closed = False
        self._catch_up_to = 0

    async def ask(
        self, deadline: Deadline, searchable: int, question: Callable[[ExcerptIndex], Awaitable[T]]
    ) -> T:
        """Asks the index a question, and once more if the index was erased meanwhile.

        The question waits until the index is filled, or half of the time is over.

        Args:
            searchable: sequence number up to which searches find what was written; the question waits for it
                for a moment.

        Raises RetrieverUnavailableError if the index cannot be had, or as ``question``.
        """
        index = await self._open_filled(deadline, searchable)
        try:
            return await question(index)
        except RetrieverUnavailableError:
            if self._opened is not None and self._opened.index is index:
                raise
            return await question(await self._open_filled(deadline, searchable))

    async def _open_filled(self, deadline: Deadline, searchable: int) -> ExcerptIndex:
        opened = await self._open()
        if await opened.follower.wait_visible(self._catch_up_to, deadline.remaining_s / 2):
            await opened.follower.wait_visible(searchable, min(deadline.remaining_s / 2, LONGEST_WAIT_S))
        return opened.index

    async def _open(self) -> _Opened:
        """Opens the index for all who ask meanwhile: whoever gives up leaves the others to it."""
        if self._opened is not None:
            return self._opened
        if self._opening is None:
            self._opening = asyncio.create_task(self._open_alone(), name="open-suggestions")
        return await asyncio.shield(self._opening)

    async def _open_alone(self) -> _Opened:
        try:
            async with self._changing:
                if self._closed:
                    raise RetrieverUnavailableError(NAME, "the index is closed")
                self._catch_up_to = await asyncio.to_thread(self._log.read_last_sequence)
                self._opened = await self._open_or_make_anew()
                return self._opened
        finally:
            self._opening = None

    def read_state(self) -> ArmState:
        """Tells how far it is."""
        if self._opened is None:
            return ArmState(0, None)
        follower = self._opened.follower
        lacking = follower.error
        if lacking is None and follower.visible < self._catch_up_to:
            lacking = "they are not made of all documents yet"
        late_s = follower.lag.seconds
        late = f"they have lacked what was written for {late_s:.0f} s"
        return ArmState(follower.visible, lacking, late if late_s > self._behind_after_s else None)

    def notify(self) -> None:
        """Tells that the log has grown."""
        if self._opened is not None:
            self._opened.follower.notify()

    async def erase(self) -> None:
        """Removes the index with all that it holds of deleted documents; one that is in use is filled anew.

        Raises:
            OSError: a file cannot be removed.
            RetrieverUnavailableError: the new one cannot be opened; the next call tries again.
        """
        if await run_to_its_end(self._remove()):
            await self._open()

    async def _remove(self) -> bool:
        """Removes the index, and tells whether it was in use."""
        async with self._changing:
            in_use = self._opened is not None
            await self._release()
            if self._folder.exists():
                await asyncio.to_thread(shutil.rmtree, self._folder)
            return in_use

    async def close(self) -> None:
        """Stops following, and releases the files. What is asked from now on is refused."""
        self._closed = True
        async with self._changing:
            await self._release()

    async def _release(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.follower.stop()
            await asyncio.to_thread(opened.index.close)

    async def _open_or_make_anew(self) -> _Opened:
        try:
            return await self._open_files()
        except DataLossError as error:
            logger.warning("the index %s is made anew from the log: %s", self._folder, error)
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
            return await self._open_files()

    async def _open_files(self) -> _Opened:
        """Raises DataLossError if what lies in the folder cannot be read, or contradicts the log."""
        index = await asyncio.to_thread(
            self._engines.open_excerpts, self._folder, self._generation, self._schema
        )
        followed = FollowedLexical(index, NAME)
        follower = Follower(followed, self._generation, self._log.read_changes, self._log.read_last_sequence)
        try:
            await follower.start()
            if follower.halted is not None:
                raise follower.halted
        except BaseException:
            await follower.stop()
            await asyncio.to_thread(index.close)
            raise
        return _Opened(index, follower)
