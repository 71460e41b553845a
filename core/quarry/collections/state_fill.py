"""Does a collection's part of re-ranking beforehand: stores what its split re-rankers make of each passage.

It follows the log behind the dense arm, whose cuts it reads, on one niced thread. It has no position on disk:
after a start or a promotion it goes through all documents, and what is stored already costs only to be read.
It stops where the store is full, for it must not push out what searches use.
"""

import asyncio
import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from quarry.collections.collection_handle import CollectionHandle
from quarry.collections.collections import Collections
from quarry.errors import CollectionNotFoundError, QuarryError, UnavailableError
from quarry.models.runtime.batcher import BULK_NICENESS
from quarry.models.served_reranker import StateKeeper
from quarry.models.serving import ServedModels

logger = logging.getLogger(__name__)

PAUSE_S = 2.0
"""Between two looks at what was indexed meanwhile."""
RETRY_S = 60.0
"""From a failure to the next try: by then the disk may have room, and the log is not full of it."""
ROWS, BYTES, PASSAGES = 128, 2**20, 32
"""Changes read at a time, their content, and passages that one piece of work has."""
Filled = tuple[str, int]
"""Generation, and the sequence number up to which its documents are done."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some documents of a collection.

    Attributes:
        key: the collection's.
        texts: of their passages.
        done: sequence number up to which documents were done before; ``until``: with these.
        last: the log's; it is taken for done if there is no more room.
        visible: up to which documents are in the dense arm.
    """

    key: int
    generation: str
    texts: list[str]
    done: int
    until: int
    last: int
    visible: int


class StateFill:
    """Begun by ``start``, ended by ``close``. Lives on the event loop of the open collections."""

    def __init__(
        self,
        open_collections: Collections,
        models: ServedModels,
        pause_s: float = PAUSE_S,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_collections, self._models, self._pause_s, self._clock_s = (
            open_collections,
            models,
            pause_s,
            clock_s,
        )
        self._filled: dict[int, dict[str, Filled]] = {}  # by collection and re-ranker
        self._again_s: dict[tuple[str, str], float] = {}
        self._thread = ThreadPoolExecutor(1, "fill-states", _lower_priority)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="fill-states")

    async def close(self) -> None:
        try:
            if self._task is not None:
                self._task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._task
        finally:
            await asyncio.to_thread(self._thread.shutdown)

    async def run_once(self) -> None:
        """Stores what every collection has now, as far as there is room; one that failed waits."""
        for name in self._open_collections.names:
            for reranker in self._list_rerankers(name):
                if self._clock_s() >= self._again_s.get((name, reranker), 0.0):
                    await self._try_reranker(name, reranker)

    async def _run(self) -> None:
        while True:
            await self.run_once()
            await asyncio.sleep(self._pause_s)

    def _list_rerankers(self, name: str) -> list[str]:
        """Lists all re-rankers of the collection; what was done for those that it had before is forgotten."""
        try:
            with self._open_collections.use(name) as opened:
                collection = opened.row
        except (CollectionNotFoundError, UnavailableError):  # it went meanwhile
            return []
        names = sorted(collection.settings.rerankers)
        before = self._filled.get(collection.key, {})
        self._filled[collection.key] = {one: before[one] for one in names if one in before}
        return names

    async def _try_reranker(self, name: str, reranker: str) -> None:
        self._again_s.pop((name, reranker), None)
        try:
            while await self._fill_piece(name, reranker):
                pass
        except CollectionNotFoundError:  # it went meanwhile
            return
        except QuarryError as error:
            logger.warning("passage states of %s for %s are not stored: %s", name, reranker, error)
            self._again_s[name, reranker] = self._clock_s() + RETRY_S
        except Exception:
            logger.exception(
                "passage states of %s for %s failed with an error that has no type", name, reranker
            )
            self._again_s[name, reranker] = self._clock_s() + RETRY_S

    async def _fill_piece(self, name: str, reranker: str) -> bool:
        """Does a piece of a collection for one of its re-rankers; tells whether there is more."""
        with self._open_collections.use(
            name
        ) as opened:  # no longer than it is read: a deletion waits for that
            piece = await self._read(opened, reranker)
        if piece is None:
            return False
        with self._models.keep_reranker(reranker):
            keeper = self._find_keeper(reranker)
            if keeper is None:  # it was unloaded meanwhile
                return False
            until = piece.until if await self._store_texts(keeper, piece.texts) else piece.last
        self._filled[piece.key][reranker] = piece.generation, until
        return piece.done < until < piece.visible

    async def _read(self, opened: CollectionHandle, reranker: str) -> "_Piece | None":
        """Reads what is to be done next; None for nothing."""
        collection, generation = opened.row, opened.generation
        vectors, visible = generation.vectors, generation.visible
        of, done = self._filled.setdefault(collection.key, {}).get(reranker, ("", 0))
        done = done if of == generation.name else 0
        if self._find_keeper(reranker) is None or vectors is None or done >= visible:
            return None
        changes = await asyncio.to_thread(opened.log.read_changes, done, ROWS, BYTES)
        fields = [change.fields for change in changes if change.fields is not None]
        texts = [text for document in await vectors.cut_passages(fields) for text in document]
        last = max(done, await asyncio.to_thread(opened.log.read_last_sequence))
        until = changes[-1].version if changes else last
        return _Piece(collection.key, generation.name, texts, done, until, last, visible)

    def _find_keeper(self, reranker: str) -> StateKeeper | None:
        served = self._models.rerankers.peek(reranker)
        return None if served is None else served.keeper

    async def _store_texts(self, keeper: StateKeeper, texts: list[str]) -> bool:
        """Stores the states of texts; tells whether all of them are stored, some may be if not."""
        loop = asyncio.get_running_loop()
        for start in range(0, len(texts), PASSAGES):
            if not await loop.run_in_executor(self._thread, keeper.keep, texts[start : start + PASSAGES]):
                return False
        return True


def _lower_priority() -> None:
    if sys.platform == "linux":  # where a thread has its own niceness
        thread = threading.get_native_id()
        nice = max(BULK_NICENESS, os.getpriority(os.PRIO_PROCESS, thread))  # lower needs privileges
        os.setpriority(os.PRIO_PROCESS, thread, nice)
