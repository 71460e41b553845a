"""The retrievers of the pipeline: each asks one index for candidates, and can score others' candidates."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from quarry.deadline import Deadline
from quarry.filters import Filter
from quarry.retrieval.base import DenseStore, LexicalIndex
from quarry.types import Candidate, Docno

NO_LIMIT = Deadline()


@dataclass(frozen=True, slots=True)
class Retrieved:
    """What one arm gives for one query.

    Attributes:
        candidates: best first.
        low: lowest score that the arm's formula can give.
        high: highest score that it can give for this query.
        complete: true scores of other documents; one that is left out matches nothing and has score ``low``
            if ``absent_is_low``, or cannot be scored.
        total: documents that match in all, where the arm knows.
        truncated: the query was cut to what the arm reads.
        encode_s: time spent on turning the query into a vector.
        search_s: time spent in the index.
    """

    candidates: list[Candidate]
    low: float
    high: float
    complete: Callable[[Collection[Docno]], Awaitable[Mapping[Docno, Candidate]]]
    absent_is_low: bool
    total: int | None = None
    truncated: bool = False
    encode_s: float = 0.0
    search_s: float = 0.0


class Retriever(Protocol):
    """First stage of a search.

    Raises RetrieverUnavailableError when its index cannot answer, and DeadlineExceeded when it sees that it
    will not do so in time.
    """

    @property
    def name(self) -> str: ...

    async def retrieve(
        self,
        text: str,
        depth: int,
        filter: Filter | None,
        limit: Deadline = NO_LIMIT,
        boost_scale: float = 1.0,
    ) -> Retrieved:
        """The best documents.

        Args:
            limit: until when the caller waits at least; what cannot be done by then need not be begun.
            boost_scale: what the lexical arm multiplies the boosts of the schema's fields by.
        """
        ...


class QueryEncoder(Protocol):
    """Turns a query into a unit vector, and says whether it was cut."""

    async def encode_query(
        self, text: str, limit: Deadline = NO_LIMIT
    ) -> tuple[NDArray[np.float32], bool]: ...


class Bm25Retriever:
    name = "bm25"

    def __init__(self, index: LexicalIndex, threads: Executor) -> None:
        self._index, self._threads = index, threads

    async def retrieve(
        self,
        text: str,
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

        async def complete(docnos: Collection[Docno]) -> dict[Docno, Candidate]:
            scores = await loop.run_in_executor(self._threads, self._index.scores, text, docnos, boost_scale)
            return {docno: Candidate(docno, score) for docno, score in scores.items()}

        return Retrieved(
            found.candidates,
            low=0.0,
            high=found.ceiling,
            complete=complete,
            absent_is_low=True,
            total=found.total,
            search_s=time.perf_counter() - started,
        )


class DenseRetriever:
    name = "dense"

    def __init__(self, encoder: QueryEncoder, store: DenseStore) -> None:
        self._encoder, self._store = encoder, store

    async def retrieve(
        self,
        text: str,
        depth: int,
        filter: Filter | None,
        limit: Deadline = NO_LIMIT,
        boost_scale: float = 1.0,
    ) -> Retrieved:
        started = time.perf_counter()
        vector, truncated = await self._encoder.encode_query(text, limit)
        encoded = time.perf_counter()
        candidates = await self._store.nearest(vector, depth, filter)

        async def complete(docnos: Collection[Docno]) -> dict[Docno, Candidate]:
            return await self._store.similarities(vector, docnos)

        return Retrieved(
            candidates,
            low=-1.0,
            high=1.0,
            complete=complete,
            absent_is_low=False,
            truncated=truncated,
            encode_s=encoded - started,
            search_s=time.perf_counter() - encoded,
        )
