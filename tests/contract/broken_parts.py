"""Parts that break their contracts, each in one way."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from quarry.deadline import NO_LIMIT, Deadline
from quarry.facets import Facet, FacetRequest
from quarry.filters import Filter
from quarry.models.base import ModelInfo, PairScore
from quarry.retrieval.base import (
    FIRST_DOCNO,
    ExcerptQuery,
    Excerpts,
    LexicalResult,
    OrderedResult,
    VectorChange,
)
from quarry.retrieval.lexical.clauses import Clause, WordClause
from quarry.retrieval.lexical.memory_lexical import MemoryExcerptIndex, MemoryLexicalIndex
from quarry.retrieval.memory_dense import MemoryDenseStore
from quarry.retrieval.ordering import MAX_ORDERED, OrderBy
from quarry.retrieval.retriever import Retrieved
from quarry.retrieval.text_query import SearchText
from quarry.testing.retriever import DOCUMENTS
from quarry.types import Candidate, Change, Docno
from quarry_miner.members.members import NO_DOCUMENT, Listed, VectorMember


class LastOfEquals(MemoryDenseStore):
    """Puts equal documents in the wrong order."""

    async def find_nearest(
        self, vector: NDArray[np.float32], depth: int, filter: Filter | None
    ) -> list[Candidate]:
        found = await super().find_nearest(vector, 10_000, filter)
        return sorted(found, key=lambda c: (-c.score, -c.docno))[: max(depth, 0)]


class NoFilter(MemoryDenseStore):
    """Lets every document through."""

    async def find_nearest(
        self, vector: NDArray[np.float32], depth: int, filter: Filter | None
    ) -> list[Candidate]:
        return await super().find_nearest(vector, depth, None)


class EarlyPosition(MemoryDenseStore):
    """Says that changes are durable as soon as they are applied."""

    async def apply(self, changes: Sequence[VectorChange], sequence: int) -> None:
        await super().apply(changes, sequence)
        await self.flush()


class FilterAfterTheCut(MemoryLexicalIndex):
    """Filters the best documents, in place of finding the best that pass."""

    def browse(self, depth: int, filter: Filter | None, first: Docno = FIRST_DOCNO) -> LexicalResult:
        listed = super().browse(depth, None, first).candidates
        passing = {c.docno for c in super().browse(10_000, filter).candidates}
        return LexicalResult([c for c in listed if c.docno in passing], len(passing))


class AtOnce(MemoryLexicalIndex):
    """Shows changes before they are committed."""

    def apply(self, changes: Sequence[Change]) -> None:
        super().apply(changes)
        self.commit(self.position.sequence)


class ExactSpelling(MemoryLexicalIndex):
    """Finds words only as they are written."""

    def _list_clauses(self, text: str, boost_scale: float) -> list[Clause]:
        clauses = super()._list_clauses(text, boost_scale)
        return [c._replace(others=()) if isinstance(c, WordClause) else c for c in clauses]


class HiddenBeginnings(MemoryExcerptIndex):
    """Gives the beginnings of documents that do not pass the filter."""

    def find_excerpts(self, query: ExcerptQuery, depth: int, filter: Filter | None) -> Excerpts:
        return super().find_excerpts(query, depth, None)


class UncutBeginnings(MemoryExcerptIndex):
    """Gives all beginnings that match, however few are asked for."""

    def find_excerpts(self, query: ExcerptQuery, depth: int, filter: Filter | None) -> Excerpts:
        return super().find_excerpts(query, 10_000, filter)


class AnyBeginnings(MemoryExcerptIndex):
    """Gives beginnings that have the first word alone; whoever suggests drops them again."""

    def find_excerpts(self, query: ExcerptQuery, depth: int, filter: Filter | None) -> Excerpts:
        return super().find_excerpts(replace(query, words=query.words[:1]), depth, filter)


class DeletedNeighbours(MemoryLexicalIndex):
    """Names a document that is deleted among those to write again."""

    def find_beside_deleted(self, thorough: bool = False) -> list[Docno]:
        return [Docno(1)]


class UnfilteredCounts(MemoryLexicalIndex):
    """Counts facets of what the filter leaves out, too."""

    def count_facets(
        self,
        text: SearchText,
        filter: Filter | None,
        facets: Sequence[FacetRequest],
        hidden: Collection[Docno] = (),
        limit: Deadline = NO_LIMIT,
    ) -> list[Facet]:
        return super().count_facets(text, None, facets, hidden, limit)


class HiddenCounts(MemoryLexicalIndex):
    """Counts facets of what is hidden, too."""

    def count_facets(
        self,
        text: SearchText,
        filter: Filter | None,
        facets: Sequence[FacetRequest],
        hidden: Collection[Docno] = (),
        limit: Deadline = NO_LIMIT,
    ) -> list[Facet]:
        return super().count_facets(text, filter, facets, (), limit)


class MissingFirst(MemoryLexicalIndex):
    """Orders documents without a value before those with one."""

    def order(
        self,
        text: SearchText,
        depth: int,
        filter: Filter | None,
        order: Sequence[OrderBy],
        hidden: Collection[Docno] = (),
    ) -> OrderedResult:
        found = super().order(text, MAX_ORDERED, filter, order, hidden)
        missing = [tie for tie in found.ties if self._read_first(tie[0], order[0].field) is None]
        return OrderedResult([*missing, *(tie for tie in found.ties if tie not in missing)], found.total)


class NoIndex:
    """Answers with fixed scores, and is wrong in what a subclass changes."""

    name = "fixed"

    async def retrieve(
        self,
        text: SearchText,
        depth: int,
        filter: Filter | None,
        limit: Deadline = NO_LIMIT,
        boost_scale: float = 1.0,
    ) -> Retrieved:
        return Retrieved(
            [Candidate(docno, 1.0) for docno in list(DOCUMENTS)[: self.most(depth)]],
            low=0.0,
            high=self.high,
            complete=self.complete,
            absent_is_low=True,
        )

    high = 1.0

    def most(self, depth: int) -> int:
        return depth

    async def complete(self, docnos: Collection[Docno]) -> Mapping[Docno, Candidate]:
        return {docno: Candidate(docno, 1.0) for docno in docnos if docno in DOCUMENTS}


class Unbounded(NoIndex):
    """Gives more candidates than it is asked for."""

    def most(self, depth: int) -> int:
        return depth + 1


class TooHigh(NoIndex):
    """Gives scores over the highest that it names."""

    high = 0.5


class OtherScores(NoIndex):
    """Gives the candidates of others scores that it would not give them itself."""

    async def complete(self, docnos: Collection[Docno]) -> Mapping[Docno, Candidate]:
        return {docno: Candidate(docno, 0.5) for docno in docnos if docno in DOCUMENTS}


class Letters:
    """Scores a pair by its letters, and reads up to 32 words of each text."""

    info = ModelInfo("letters", "letters", 32)

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[PairScore]:
        return [self.score_of(pair) for pair in pairs]

    def score_of(self, pair: tuple[str, str]) -> PairScore:
        words = [text.split() for text in pair]
        read = " ".join([*words[0][:32], "|", *words[1][:32]])
        score = sum(ord(letter) * place for place, letter in enumerate(read, 1)) / 10_000
        return PairScore(score, any(len(found) > 32 for found in words))


class BatchNorm(Letters):
    """Lets the other pairs of a call change a score."""

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[PairScore]:
        found = super().score(pairs)
        mean = sum(one.score for one in found) / (len(found) or 1)
        return [PairScore(one.score - mean, one.truncated) for one in found]


class SilentCut(Letters):
    """Does not say that it has read a part only."""

    def score_of(self, pair: tuple[str, str]) -> PairScore:
        return PairScore(super().score_of(pair).score, truncated=False)


class Neighbours(VectorMember):
    """Answers every query of a call as the first one."""

    def search(self, queries: Sequence[str], depth: int) -> Listed:
        return super().search([queries[0]] * len(queries) if queries else queries, depth)


class ZerosAtTheEnd(VectorMember):
    """Ends its rows in a document, where there is none."""

    def search(self, queries: Sequence[str], depth: int) -> Listed:
        found = super().search(queries, depth)
        return Listed(np.where(found.documents == NO_DOCUMENT, 0, found.documents), found.scores)
