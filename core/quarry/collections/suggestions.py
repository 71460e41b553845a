"""The index that suggestions are made from. It is made when a collection's first suggestion is asked for."""

import asyncio
import logging
import shutil
from pathlib import Path

from quarry.deadline import Deadline
from quarry.documents.follower import Follower
from quarry.documents.store import DocumentLog
from quarry.errors import DataLossError
from quarry.retrieval.base import ExcerptIndex
from quarry.retrieval.bm25_arm import FollowedLexical
from quarry.retrieval.definition import Engines
from quarry.schema import Schema
from quarry.search.shortfalls import ArmState

logger = logging.getLogger(__name__)

NAME = "suggestions"
LONGEST_WAIT_S = 0.25
"""For what was written before a call, so that whoever waited for a write gets it suggested."""


class SuggestionIndex:
    """An index of one generation, beside its arms: it follows the log from the first call of ``open`` on.

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
        self._opening = asyncio.Lock()
        self._index: ExcerptIndex | None = None
        self._follower: Follower | None = None
        self._catch_up_to = 0

    async def open(self, deadline: Deadline, searchable: int) -> ExcerptIndex:
        """Returns the index. The first call waits until it is filled, or half of its time is over.

        Args:
            searchable: sequence number up to which searches find what was written; a later call waits for it
                for a moment.

        Raises RetrieverUnavailableError if it cannot be had.
        """
        remaining = deadline.remaining_s / 2
        wait_s = min(remaining, LONGEST_WAIT_S)
        async with self._opening:
            if self._index is None or self._follower is None:
                searchable = self._catch_up_to = await asyncio.to_thread(self._log.read_last_sequence)
                self._index, self._follower = await self._open_or_make_anew()
                wait_s = remaining
            index, follower = self._index, self._follower
        await follower.wait_visible(searchable, wait_s)
        return index

    def read_state(self) -> ArmState:
        """Tells how far it is."""
        follower = self._follower
        if follower is None:
            return ArmState(0, None)
        lacking = follower.error
        if lacking is None and follower.visible < self._catch_up_to:
            lacking = "they are not made of all documents yet"
        late_s = follower.lag.seconds
        late = f"they have lacked what was written for {late_s:.0f} s"
        return ArmState(follower.visible, lacking, late if late_s > self._behind_after_s else None)

    def notify(self) -> None:
        """Tells that the log has grown."""
        if self._follower is not None:
            self._follower.notify()

    async def erase(self) -> None:
        """Removes the index with all that it holds of deleted documents; one that is in use is filled anew.

        Raises:
            OSError: a file cannot be removed.
            RetrieverUnavailableError: the new one cannot be opened; the next call tries again.
        """
        async with self._opening:
            in_use = self._index is not None
            await self._release()
            if self._folder.exists():
                await asyncio.to_thread(shutil.rmtree, self._folder)
            if in_use:
                self._catch_up_to = await asyncio.to_thread(self._log.read_last_sequence)
                self._index, self._follower = await self._open()

    async def close(self) -> None:
        """Stops following, and releases the files."""
        async with self._opening:
            await self._release()

    async def _release(self) -> None:
        if self._follower is not None:
            await self._follower.stop()
        if self._index is not None:
            await asyncio.to_thread(self._index.close)
        self._index = self._follower = None

    async def _open_or_make_anew(self) -> tuple[ExcerptIndex, Follower]:
        try:
            return await self._open()
        except DataLossError as error:
            logger.warning("the index %s is made anew from the log: %s", self._folder, error)
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
            return await self._open()

    async def _open(self) -> tuple[ExcerptIndex, Follower]:
        """Raises DataLossError if what lies in the folder cannot be read, or contradicts the log."""
        index = await asyncio.to_thread(
            self._engines.open_excerpts, self._folder, self._generation, self._schema
        )
        followed = FollowedLexical(index, NAME)
        follower = Follower(followed, self._generation, self._log.read_changes, self._log.read_last_sequence)
        await follower.start()
        if follower.halted is not None:
            await follower.stop()
            await asyncio.to_thread(index.close)
            raise follower.halted
        return index, follower
