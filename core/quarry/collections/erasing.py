"""Erases from the disk, behind the callers' backs, what is left of deleted documents and collections.

What is to be done is always read off the files themselves, so a kill leaves nothing that the next start does
not find. Files that are removed are not overwritten: that is the business of the file system.
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import sqlalchemy as sa

from quarry.collections.collections import Collections
from quarry.collections.generation import Generation
from quarry.documents.catalog import Collection, read_now_us
from quarry.documents.requests import forget_old
from quarry.documents.vector_cache import ERASED_ROWS, VectorCache
from quarry.errors import QuarryError
from quarry.models.caches.state_cache import StateCache
from quarry.models.caches.state_store import DIGEST_BYTES
from quarry.waiting import end, finish_undisturbed

logger = logging.getLogger(__name__)
T = TypeVar("T")
LEFTOVERS_S = 3_600.0
"""Between two looks for what dropped generations, mining and kills have left in the vector cache."""
UNUSED_LIFETIME_US = 7 * 24 * 3_600 * 1_000_000
"""How long the cache keeps vectors that no document uses: those that mining makes for itself."""

EXPECTED = (QuarryError, OSError, sqlite3.Error, sa.exc.SQLAlchemyError)
"""Failures whose message says enough; of any other the log has the traceback."""


@dataclass(frozen=True, slots=True)
class ErasurePolicy:
    """The times of erasing.

    Attributes:
        files_s: between two runs.
        indexes_s: how long an index may hold something of a deleted document.
    """

    files_s: float = 60.0
    indexes_s: float = 86_400.0


class Eraser:
    """Begun by ``start``, ended by ``close``. Lives on the event loop of the open collections.

    Args:
        empty_logs: empties the write-ahead logs of the databases; blocks.
    """

    def __init__(
        self,
        open_collections: Collections,
        vectors: VectorCache,
        states: StateCache,
        empty_logs: Callable[[], None],
        policy: ErasurePolicy,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_collections, self._vectors, self._states = open_collections, vectors, states
        self._empty_databases, self._policy, self._clock_s = empty_logs, policy, clock_s
        self._leftovers_s = 0.0
        self._seen_texts: set[int] = set()
        self._erasing: dict[Generation, asyncio.Task[None]] = {}
        self._thread = ThreadPoolExecutor(1, "erase")
        self._task: asyncio.Task[None] | None = None
        open_collections.notify_when_deleted(self._look_for_leftovers)

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="erase")

    async def close(self) -> None:
        """Returns when nothing is erased any more, also if the caller is cancelled: the files close next."""
        await finish_undisturbed(self._end())

    async def _end(self) -> None:
        await end(task for task in (self._task, *self._erasing.values()) if task is not None)
        await asyncio.to_thread(self._thread.shutdown)

    async def _run(self) -> None:
        while True:
            try:
                await self.run_once()
            except Exception:
                logger.exception("erasing what was deleted failed, and is tried again")
            await asyncio.sleep(self._policy.files_s)

    async def run_once(self) -> None:
        """Erases what can be erased now, and waits for no index. What fails is tried again the next time, and
        keeps nothing else from being erased."""
        for generation in self._open_collections.list_generations():
            if generation not in self._erasing:
                task = asyncio.create_task(self._erase_index(generation), name=f"erase-{generation.name}")
                self._erasing[generation] = task
                task.add_done_callback(lambda _, generation=generation: self._erasing.pop(generation))  # type: ignore[misc]
        for step in (
            self._erase_leftovers,
            self._erase_states,
            partial(self._run_in_thread, self._empty_databases),
            partial(self._run_in_thread, self._vectors.empty_log),
            partial(self._run_in_thread, self._states.empty_log),
        ):
            try:
                await step()
            except EXPECTED as error:
                logger.warning("erasing what was deleted failed, and is tried again: %s", error)
            except Exception:
                logger.exception("erasing what was deleted failed, and is tried again")

    async def _run_in_thread(self, call: Callable[..., T], *arguments: object) -> T:
        """Runs ``call`` in the thread whose end ``close`` waits for."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(call, *arguments))

    async def _erase_index(self, generation: Generation) -> None:
        try:
            await generation.erase(read_now_us() - int(self._policy.indexes_s * 1_000_000))
        except* EXPECTED as some:
            causes = "; ".join(map(str, some.exceptions))
            logger.warning("%s still holds what was deleted, and is tried again: %s", generation.name, causes)
        except* Exception:
            logger.exception("%s still holds what was deleted, and is tried again", generation.name)

    async def _erase_leftovers(self) -> None:
        """Erases what no collection has any more; now and then, since it looks at everything."""
        if self._clock_s() < self._leftovers_s:
            return
        # first: a deletion that comes meanwhile asks for another look
        self._leftovers_s = self._clock_s() + LEFTOVERS_S
        try:
            await self._forget_owners()
            await self._delete_unused_vectors()
            await self._open_collections.database.write(forget_old)
        except Exception:
            self._leftovers_s = 0.0
            raise

    async def _forget_owners(self) -> None:
        """Forgets the indexes that no collection has any more.

        Those that a repair replaced wait until the new ones are full, which read vectors that nothing else
        uses.
        """
        # the owners first, or a new one would be forgotten
        owners = await self._run_in_thread(self._vectors.read_owners)
        for owner in owners - await self._open_collections.read_generations():
            docno = await self._run_in_thread(self._vectors.find_document, owner)
            if docno is not None and await self._open_collections.is_being_filled(docno):
                continue
            while await self._run_in_thread(self._vectors.forget_some, owner):
                pass

    async def _delete_unused_vectors(self) -> None:
        before_us = read_now_us() - UNUSED_LIFETIME_US
        last: bytes | None = b""
        while last is not None:
            last = await self._run_in_thread(self._vectors.delete_unused, before_us, last)

    async def _erase_states(self) -> None:
        """Erases states of passages that have gone, twice: a search that was running may have stored one."""
        gone = await self._run_in_thread(self._vectors.read_gone_texts)
        if not gone:
            return
        digests = {
            texts[start : start + DIGEST_BYTES]
            for texts in gone.values()
            for start in range(0, len(texts), DIGEST_BYTES)
        }
        keys = await self._run_in_thread(self._states.find_of_texts, digests)
        await self._run_in_parts(self._states.erase, keys)
        await self._run_in_parts(self._vectors.forget_gone_texts, list(self._seen_texts & gone.keys()))
        self._seen_texts = set(gone)

    async def _run_in_parts(self, call: Callable[[Sequence[T]], None], values: Sequence[T]) -> None:
        """Runs ``call`` with some of the values at a time, so that others write in between."""
        for start in range(0, len(values), ERASED_ROWS):
            await self._run_in_thread(call, values[start : start + ERASED_ROWS])

    async def _look_for_leftovers(self, _gone: Collection) -> None:
        self._leftovers_s = 0.0
