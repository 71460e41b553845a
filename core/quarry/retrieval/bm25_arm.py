"""The arm that compares words: BM25 over the text fields of a collection."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

from quarry.deadline import NO_LIMIT, Deadline
from quarry.errors import DeadlineExceeded
from quarry.filters import Filter
from quarry.retrieval.base import ExcerptIndex, LexicalIndex
from quarry.retrieval.definition import ArmDefinition, ArmSite, FollowPolicy, OpenArm, Rewrite
from quarry.retrieval.inspection import Findings, Inspection
from quarry.retrieval.retriever import Retrieved
from quarry.retrieval.text_query import SearchText
from quarry.storage.faults import reach
from quarry.types import Candidate, Change, Docno, Position
from quarry.waiting import run_to_its_end

REWRITTEN_AT_ONCE = 1_000
"""Documents that are written again while other writes wait, for some tenths of a second."""
FILE_CHECKS = ThreadPoolExecutor(1, "check-files")
"""A thread of their own: they read whole indexes, and would keep all others from what searches need."""


class Bm25Retriever:
    """Searches a lexical index in threads."""

    def __init__(self, index: LexicalIndex, threads: Executor) -> None:
        self.name = BM25.name
        self._index, self._threads = index, threads

    async def retrieve(
        self,
        text: SearchText,
        depth: int,
        filter: Filter | None,
        limit: Deadline = NO_LIMIT,
        boost_scale: float = 1.0,
    ) -> Retrieved:
        loop = asyncio.get_running_loop()
        started = time.perf_counter()
        found = await loop.run_in_executor(
            self._threads, self._index.search, text, depth, filter, boost_scale
        )

        async def complete_candidates(docnos: Collection[Docno]) -> dict[Docno, Candidate]:
            scores = await loop.run_in_executor(
                self._threads, self._index.score_documents, text, docnos, boost_scale
            )
            return {docno: Candidate(docno, score) for docno, score in scores.items()}

        return Retrieved(
            found.candidates,
            low=BM25.low,
            high=found.ceiling,
            complete=complete_candidates,
            absent_is_low=True,
            total=found.total,
            search_s=time.perf_counter() - started,
        )


class FollowedLexical:
    """Puts documents, or their beginnings, into an index whose commit makes changes visible and durable at
    once."""

    visible_at_once = False

    def __init__(self, index: LexicalIndex | ExcerptIndex, arm: str = "bm25") -> None:
        self.arm = arm
        self._index = index

    async def read_position(self) -> Position:
        return self._index.position

    async def apply(self, changes: Sequence[Change], sequence: int) -> None:
        await run_to_its_end(asyncio.to_thread(self._index.apply, changes))
        reach(f"{self.arm}-applied")

    async def settle(self, sequence: int) -> None:
        await run_to_its_end(asyncio.to_thread(self._index.commit, sequence))
        reach(f"{self.arm}-committed")


class Bm25Arm(OpenArm):
    """An open lexical index, followed and searched."""

    def __init__(self, index: LexicalIndex, threads: Executor) -> None:
        self._index = index
        self.retriever, self.index = Bm25Retriever(index, threads), FollowedLexical(index)

    @property
    def lexical(self) -> LexicalIndex:
        return self._index

    async def count(self) -> int:
        return (await asyncio.to_thread(self._index.browse, 1, None)).total

    async def read_versions(self) -> AsyncIterator[tuple[Docno, int]]:
        found: Sequence[tuple[Docno, int]] = await asyncio.to_thread(
            lambda: list(self._index.read_versions())
        )
        for version in found:
            yield version

    async def inspect(self, inspection: Inspection) -> Findings:
        """Reads the files, of one index at a time; waiting for the others counts.

        Raises:
            DeadlineExceeded: they could not all be read in time.
            RetrieverUnavailableError: the index was closed meanwhile.
        """
        deadline, loop = inspection.deadline, asyncio.get_running_loop()
        try:
            async with asyncio.timeout(deadline.timeout_s):
                return Findings(await loop.run_in_executor(FILE_CHECKS, self._index.find_damage, deadline))
        except TimeoutError:
            problem = "there was not time enough to read all files of the lexical index"
            raise DeadlineExceeded(problem) from None

    async def erase(self, rewrite: Rewrite) -> None:
        """Writes again what shares a segment with something deleted: the engine drops what it replaces."""
        await rewrite([])  # moves the marker, which may be all that keeps a segment
        for thorough in (False, True):
            docnos = await asyncio.to_thread(self._index.find_beside_deleted, thorough)
            for start in range(0, len(docnos), REWRITTEN_AT_ONCE):
                await rewrite(docnos[start : start + REWRITTEN_AT_ONCE])

    async def close(self) -> None:
        await asyncio.to_thread(self._index.close)


async def open_bm25(site: ArmSite) -> Bm25Arm:
    """Opens the lexical index in the site's folder. Raises DataLossError for one that cannot be read."""
    index = await asyncio.to_thread(site.engines.open_lexical, site.folder, site.generation, site.schema)
    return Bm25Arm(index, site.threads)


BM25 = ArmDefinition(
    "bm25",
    open_bm25,
    weight=0.25,
    low=0.0,
    follow=FollowPolicy(batch_rows=4_096, batch_bytes=16 * 2**20),
    boosts=True,
    browses=True,
)
"""A query's own highest score is the ceiling that the index computes. The weight was chosen over five
collections, beside that of the dense arm: docs/explanation/benchmarks.md has the figures."""
