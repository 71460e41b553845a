"""Keeps what searches gave out: a buffer that never makes an answer wait, and batches written behind it.

The event loop only appends to the buffer. A thread turns pages into impressions, finds out which text each
document had, and packs rows; the log's own writer stores them. What cannot be kept is counted and dropped.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cachetools import LRUCache

from quarry.documents.catalog import read_now_us
from quarry.errors import QuarryError
from quarry.feedback.contents import KnownContents, Place, Texts, TextSource, read_texts
from quarry.feedback.log import FeedbackLog, insert_impressions
from quarry.feedback.rows import make_impression_row
from quarry.feedback.types import Impression
from quarry.types import Docno

logger = logging.getLogger(__name__)
COMPLAINT_S = 60.0
"""Between two lines of the server's log about dropped impressions."""
_KNOWN_CONTENTS = 200_000


ContentOf = Callable[[Docno, int], str]
"""Hex hash of a document's text at a version; empty if it is not kept."""


class PageMaker(Protocol):
    """Makes the impression of a page when there is time; called in a thread."""

    def read_versions(self) -> Iterable[tuple[Docno, int]]:
        """Reads the versions of the documents shown and pooled."""
        ...

    def make_impression(self, content: ContentOf) -> Impression: ...


@dataclass(frozen=True, slots=True)
class AnsweredPage:
    """A page that was given out, as the buffer holds it. ``source`` has its documents' texts."""

    source: TextSource
    made: PageMaker


@dataclass(frozen=True, slots=True)
class BufferPolicy:
    """The rules by which impressions are kept.

    Attributes:
        max_pages: waiting to be written, at most; more are dropped.
        batch_pages: written at once, at most.
        interval_s: longest wait of a page for others to be written with.
    """

    max_pages: int = 2_000
    batch_pages: int = 100
    interval_s: float = 0.5


class ImpressionLog:
    """Lives on the log's event loop. Started by ``start``, ended by ``close``, which writes what waits.

    Attributes:
        writing: held by whoever writes impressions, or must know that nobody does.
    """

    def __init__(self, log: FeedbackLog, policy: BufferPolicy | None = None) -> None:
        self._log, self._policy = log, policy or BufferPolicy()
        self._buffer: deque[AnsweredPage] = deque()
        self._filled = asyncio.Event()
        self._hurry = asyncio.Event()
        self.writing = asyncio.Lock()
        self._known: KnownContents = LRUCache(_KNOWN_CONTENTS)
        self._gone: set[int] = set()
        self._dropped: Counter[int] = Counter()
        self._complained_s = -COMPLAINT_S
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="impressions")

    def offer(self, page: AnsweredPage) -> bool:
        """Takes a page to be logged; False if it is dropped. Never waits."""
        if len(self._buffer) >= self._policy.max_pages or self._task is None or self._task.done():
            self._drop(page.source.key, "the buffer is full")
            return False
        self._buffer.append(page)
        self._filled.set()
        if len(self._buffer) >= self._policy.batch_pages:
            self._hurry.set()
        return True

    def count_dropped(self, key: int) -> int:
        """Counts pages of a collection that were not kept, since the start."""
        return self._dropped[key]

    def forget(self, key: int) -> None:
        """Drops what waits of a collection that is gone."""
        self._gone.add(key)

    def is_forgotten(self, key: int) -> bool:
        return key in self._gone

    async def flush(self) -> None:
        """Returns when all that was offered before is written."""
        while self._buffer:
            await self._write_batch()
        async with self.writing:
            pass

    def forget_texts(self) -> None:
        """Texts may have been removed: none is taken for kept. Call it while holding ``writing``."""
        self._known.clear()

    async def close(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.flush()

    async def _run(self) -> None:
        while True:
            await self._filled.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._policy.interval_s):
                    await self._hurry.wait()
            # Cancelled in the middle, a batch would be lost: what has begun is finished.
            await asyncio.shield(asyncio.ensure_future(self._write_batch()))

    async def _write_batch(self) -> None:
        async with self.writing:
            pages = [self._buffer.popleft() for _ in range(min(len(self._buffer), self._policy.batch_pages))]
            if not self._buffer:
                self._filled.clear()
            if len(self._buffer) < self._policy.batch_pages:
                self._hurry.clear()
            if pages:
                await self._write(pages)

    async def _write(self, pages: Sequence[AnsweredPage]) -> None:
        try:
            ready = await asyncio.to_thread(self._prepare, pages)
            rows = [row for row in ready.rows if row[0] not in self._gone]
            texts = {place: text for place, text in ready.texts.items() if place[1] not in self._gone}
            await self._log.database.write(lambda c: insert_impressions(c, rows, texts))
            self._known.update(ready.learned)
        except QuarryError as error:
            for page in pages:
                self._drop(page.source.key, str(error))
        except Exception as error:  # a bug must not end the logging of all that follows
            logger.exception("impressions could not be made")
            for page in pages:
                self._drop(page.source.key, type(error).__name__)

    def _drop(self, key: int, reason: str) -> None:
        self._dropped[key] += 1
        now = time.monotonic()
        if now - self._complained_s >= COMPLAINT_S:
            self._complained_s = now
            logger.warning("impressions are dropped, %d so far: %s", self._dropped.total(), reason)

    def _prepare(self, pages: Sequence[AnsweredPage]) -> "PreparedBatch":
        """Prepares rows, the texts that they need, and what is known once both are stored. Runs in a
        thread."""
        wanted: dict[int, set[tuple[Docno, int]]] = {}
        for page in pages:
            key = page.source.key
            missing = {(d, v) for d, v in page.made.read_versions() if self._known.get((key, d, v)) is None}
            wanted.setdefault(key, set()).update(missing)
        learned: dict[Place, bytes] = {}
        texts: Texts = {}
        for source in {page.source.key: page.source for page in pages}.values():
            contents, found = read_texts(source, wanted[source.key])
            learned |= contents
            texts |= found
        received_us = read_now_us()
        rows = []
        for page in pages:

            def find_content(docno: Docno, version: int, key: int = page.source.key) -> str:
                place = (key, docno, version)
                return (self._known.get(place) or learned.get(place) or b"").hex()

            rows.append(
                make_impression_row(page.source.key, page.made.make_impression(find_content), received_us)
            )
            time.sleep(0)  # whoever answers a search goes first
        return PreparedBatch(rows, texts, learned)


@dataclass(frozen=True, slots=True)
class PreparedBatch:
    """The rows that a batch needs to be stored, and what is known then."""

    rows: list[tuple[Any, ...]]
    texts: Texts
    learned: dict[Place, bytes]
