"""One generation of a collection: its indexes, what keeps them up, and what searches them."""

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

from quarry.collections.consistency import ArmDifferences, VersionedIndex
from quarry.collections.vector_check import VectorCheck, VectorSample
from quarry.deadline import Deadline
from quarry.documents.catalog import Collection
from quarry.documents.follower import FollowedIndex, Follower, FollowPolicy
from quarry.documents.indexes import FollowedDense, FollowedLexical
from quarry.documents.store import DocumentLog
from quarry.documents.vectors import DocumentVectors
from quarry.errors import DataLossError, DeadlineExceeded, QuarryError, RetrieverUnavailableError
from quarry.filters import Filter
from quarry.retrieval.arms import NO_LIMIT, Bm25Retriever, DenseRetriever, QueryEncoder, Retrieved, Retriever
from quarry.retrieval.base import DenseStore, LexicalIndex
from quarry.schema import Schema
from quarry.search.pipeline import ArmState, Reranking, Searcher
from quarry.types import Docno

logger = logging.getLogger(__name__)
T = TypeVar("T")

DENSE_POLICY = FollowPolicy(batch_rows=512, batch_bytes=2**19, settle_batches=20, idle_settle_s=1.0)
BEHIND_AFTER_S = 2.0
"""How long an arm may lack what was written before it counts as behind."""
FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 60.0
"""Pauses before an arm that could not be opened is tried again."""
FILE_CHECKS = ThreadPoolExecutor(1, "check-files")
"""A thread of their own: they read whole indexes, and would keep all others from what searches need."""
LEXICAL_POLICY = FollowPolicy(batch_rows=4_096, batch_bytes=16 * 2**20)


class Engines(Protocol):
    """Opens the indexes of a generation. Raises DataLossError for one that cannot be read."""

    def lexical(self, folder: Path, generation: str, schema: Schema) -> LexicalIndex:
        """Blocks."""
        ...

    async def dense(self, folder: Path, generation: str, schema: Schema, dimension: int) -> DenseStore: ...


@dataclass(frozen=True, slots=True)
class DenseParts:
    """What a collection with an encoder needs for its dense arm.

    Attributes:
        dimension: of the encoder's vectors.
        max_tokens: longest passage that it reads.
    """

    encoder: QueryEncoder
    vectors: DocumentVectors
    dimension: int
    max_tokens: int


LoadDense = Callable[[], Awaitable[DenseParts | None]]
"""Raises QuarryError if a model cannot be had now."""


class FailedRetriever:
    """An arm that could not be opened: every search says so."""

    def __init__(self, name: str, cause: str) -> None:
        self.name, self._cause = name, cause

    async def retrieve(
        self,
        text: str,
        depth: int,
        filter: Filter | None,
        limit: Deadline = NO_LIMIT,
        boost_scale: float = 1.0,
    ) -> Retrieved:
        raise RetrieverUnavailableError(self.name, self._cause)


class Generation:
    """Open indexes, followed and searchable. Made by ``open``, ended by ``close``.

    Attributes:
        searcher: ranks its documents.
        followers: by arm; an arm that could not be opened has none.
        failures: by arm, why it could not be opened.
        vectors: what encodes its documents; None without a dense arm.
    """

    def __init__(
        self,
        collection: Collection,
        folder: Path,
        log: DocumentLog,
        engines: Engines,
        threads: Executor,
        answering: Executor,
        behind_after_s: float = BEHIND_AFTER_S,
    ) -> None:
        """``answering``: as ``Searcher`` takes it."""
        self._answering, self._behind_after_s = answering, behind_after_s
        self.name = collection.generation
        self._schema = collection.settings.schema
        self._folder = folder
        self._log = log
        self._engines = engines
        self._threads = threads
        self._catch_up_to = collection.last_sequence
        self._lexical: LexicalIndex | None = None
        self._dense: DenseStore | None = None
        self.followers: dict[str, Follower] = {}
        self.failures: dict[str, str] = {}
        self._reopening: asyncio.Task[None] | None = None
        self.vectors: DocumentVectors | None = None
        self.searcher: Searcher

    async def open(self, dense: LoadDense, reranking: Callable[[DenseParts | None], Reranking]) -> None:
        """Opens what there is and starts following the log.

        A dense arm whose model or store cannot be had now is tried again until it can.

        Args:
            dense: loads what the dense arm needs; gives None for a collection without one.
        """
        lexical = await self._open_lexical()
        retrievers: list[Retriever] = [Bm25Retriever(lexical, self._threads)]
        parts: DenseParts | None = None
        try:
            parts = await dense()
            if parts is not None:
                retrievers.append(await self._open_dense(parts))
        except QuarryError as error:
            logger.error("the dense arm cannot be opened, and will be tried again: %s", error)
            self.failures["dense"] = str(error)
            retrievers.append(FailedRetriever("dense", str(error)))
            self._reopening = asyncio.create_task(self._reopen_dense(dense), name="reopen-dense")
        self.searcher = Searcher(
            self.name,
            retrievers,
            lexical,
            self._log,
            reranking(parts),
            self.arm_state,
            self._threads,
            self._answering,
        )

    async def _reopen_dense(self, dense: LoadDense) -> None:
        pause_s = FIRST_RETRY_S
        while "dense" in self.failures:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_RETRY_S)
            try:
                parts = await dense()
                if parts is not None:
                    self.searcher.use(await self._open_dense(parts))
                self.failures.pop("dense")
            except QuarryError as error:
                self.failures["dense"] = str(error)

    async def _open_lexical(self) -> LexicalIndex:
        folder = self._folder / "bm25"
        self._lexical = await _opened(
            folder, lambda: asyncio.to_thread(self._engines.lexical, folder, self.name, self._schema)
        )
        whole = await asyncio.to_thread(self._lexical.browse, 1, None)
        await self._follow(FollowedLexical(self._lexical), LEXICAL_POLICY, whole.total)
        return self._lexical

    async def _open_dense(self, parts: DenseParts) -> Retriever:
        """Raises QuarryError if the store cannot be opened."""
        folder = self._folder / "dense"
        store = await _opened(
            folder, lambda: self._engines.dense(folder, self.name, self._schema, parts.dimension)
        )
        try:
            index = FollowedDense(store, parts.vectors, self._schema)
            await self._follow(index, DENSE_POLICY, await store.count())
        except BaseException:
            await store.close()
            raise
        self._dense, self.vectors = store, parts.vectors
        return DenseRetriever(parts.encoder, store)

    async def _follow(self, index: FollowedIndex, policy: FollowPolicy, held: int) -> None:
        follower = Follower(index, self.name, self._log.changes, self._log.last_sequence, policy)
        await follower.start(replay=await self._is_short(index, held))
        self.followers[index.arm] = follower

    async def _is_short(self, index: FollowedIndex, held: int) -> bool:
        """Whether the index holds fewer documents than its position says: no engine notices all damage."""
        position = (await index.position()).sequence
        expected = await asyncio.to_thread(self._log.count, position)
        if held >= expected or position > self._catch_up_to:
            return False
        logger.error(
            "the %s arm holds %d documents and should have %d: it is filled from the log again",
            *(index.arm, held, expected),
        )
        return True

    @property
    def visible(self) -> int:
        """Every arm answers with everything up to this sequence number; 0 if one is not open."""
        if self.failures:
            return 0
        return min((follower.visible for follower in self.followers.values()), default=0)

    def problem_of(self, arm: str) -> str:
        """Why an arm stands still now; empty if it does not."""
        follower = self.followers.get(arm)
        hangs = self._dense.problem if arm == "dense" and self._dense is not None else None
        return self.failures.get(arm) or hangs or (follower.error if follower else None) or ""

    @property
    def problem(self) -> str:
        """Why an arm stands still now; empty if none does."""
        arms = dict.fromkeys([*self.failures, *self.followers])
        return "; ".join(f"{arm}: {error}" for arm in arms if (error := self.problem_of(arm)))

    def arm_state(self, arm: str) -> ArmState:
        """How far an arm is; one that is not followed is nowhere."""
        follower = self.followers.get(arm)
        if follower is None:
            return ArmState(0, None)
        lacking = follower.error  # set when it is halted, too
        if lacking is None and follower.visible < self._catch_up_to:
            lacking = "it does not hold all documents yet"
        late_s = follower.lag.seconds
        behind = (
            f"it has lacked what was written for {late_s:.0f} s" if late_s > self._behind_after_s else None
        )
        return ArmState(follower.visible, lacking, behind)

    def notify(self) -> None:
        """Tells the followers that the log has grown."""
        for follower in self.followers.values():
            follower.notify()

    async def wait_visible(self, sequence: int, timeout_s: float | None) -> bool:
        """Whether every arm answers with everything up to ``sequence``, at the latest after ``timeout_s``."""
        waits = (f.wait_visible(sequence, timeout_s) for f in self.followers.values())
        return all(await asyncio.gather(*waits)) and not self.failures

    def versioned(self, arm: str) -> VersionedIndex:
        """An arm's index, to compare with the log."""
        if arm == "bm25" and self._lexical is not None:
            return _LexicalVersions(self._lexical)
        if arm == "dense" and self._dense is not None:
            return self._dense
        raise RetrieverUnavailableError(arm, self.failures.get(arm, "it is not open"))

    async def look_inside(
        self, arm: ArmDifferences, sample: VectorSample, deadline: Deadline
    ) -> ArmDifferences:
        """``arm`` with what is wrong with its files, or with those of its vectors that are looked at."""
        if arm.arm == "bm25" and self._lexical is not None:
            return replace(arm, files=await _damage(self._lexical, deadline))
        if arm.arm != "dense" or self._dense is None or self.vectors is None:
            return arm
        check = VectorCheck(self._dense, self.vectors, self.followers[arm.arm], self._log)
        found = await check.run(arm.compared, sample, deadline)
        return replace(
            arm,
            damaged=sorted(found.damaged),
            vectors=found.vectors,
            encoded=found.encoded,
            wrongly_encoded=found.wrongly_encoded,
        )

    async def close(self) -> None:
        """Stops following and releases files and processes, all of them whatever fails on the way."""
        async with contextlib.AsyncExitStack() as closing:
            if self._lexical is not None:
                closing.push_async_callback(asyncio.to_thread, self._lexical.close)
            if self._reopening is not None:
                self._reopening.cancel()
                await asyncio.gather(self._reopening, return_exceptions=True)
            if self._dense is not None:
                closing.push_async_callback(self._dense.close)
            for follower in self.followers.values():
                closing.push_async_callback(follower.stop)


class _LexicalVersions:
    def __init__(self, index: LexicalIndex) -> None:
        self._index = index

    async def versions(self) -> AsyncIterator[tuple[Docno, int]]:
        found: Sequence[tuple[Docno, int]] = await asyncio.to_thread(lambda: list(self._index.versions()))
        for version in found:
            yield version


async def _damage(index: LexicalIndex, deadline: Deadline) -> str:
    """As ``LexicalIndex.damage``, one index at a time; waiting for the others counts."""
    try:
        async with asyncio.timeout(deadline.timeout_s):
            return await asyncio.get_running_loop().run_in_executor(FILE_CHECKS, index.damage, deadline)
    except TimeoutError:
        raise DeadlineExceeded("there was not time enough to read all files of the lexical index") from None


async def _opened(folder: Path, open: Callable[[], Awaitable[T]]) -> T:
    """The index in ``folder``; one that cannot be read is set aside, and the log fills a new one."""
    try:
        return await open()
    except DataLossError as error:
        logger.error("the index %s is set aside and rebuilt from the log: %s", folder.name, error)
        await asyncio.to_thread(_set_aside, folder)
        return await open()


def _set_aside(folder: Path) -> None:
    if folder.exists():  # vectors on a Qdrant server have none
        shutil.move(folder, folder.with_name(f"{folder.name}.damaged-{time.time_ns()}"))
