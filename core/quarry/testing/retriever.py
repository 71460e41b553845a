"""The contract of ``quarry.retrieval.retriever.Retriever``."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio

from quarry.deadline import Deadline
from quarry.filters import AllOf, EqualTo, Exists, Filter, NoneOf, matches
from quarry.retrieval.retriever import Retrieved, Retriever
from quarry.retrieval.text_query import Term, TextQuery
from quarry.types import Candidate, Docno, Fields

WORDS = ("apple", "bread", "candle", "daisy", "ember", "feather", "garden", "harbour")
DOCUMENTS: Mapping[Docno, Fields] = {
    Docno(n): {
        "title": WORDS[n % 8],
        "text": " ".join([WORDS[n % 8]] * (1 + n % 3) + [WORDS[n // 8]] + ["and"] * (n % 5)),
        "tag": ["even", "all"] if n % 2 == 0 else ["all"],
        "count": n,
    }
    for n in range(1, 41)
}
"""Forty documents with the schema ``FILTER_SCHEMA`` of ``quarry.testing.strategies``; some of them are about
each of ``WORDS``."""
FILTERS: list[Filter] = [
    EqualTo("tag", "even"),
    NoneOf((EqualTo("tag", "even"),)),
    AllOf((Exists("count"), EqualTo("count", 9))),
    EqualTo("tag", "nothing has it"),
]
QUERY = "apple garden"
TOLERANCE = 1e-5


def list_docnos(found: Retrieved) -> list[int]:
    return [int(candidate.docno) for candidate in found.candidates]


@pytest.mark.asyncio
class RetrieverContract:
    """The promises of every arm of the first stage. Subclass it as ``Test...``, and write ``open_retriever``.

    A subclass that must close what it opens overrides the fixture ``retriever`` instead.
    """

    async def open_retriever(self, folder: Path) -> Retriever:
        """Opens a retriever that holds ``DOCUMENTS``; ``folder`` is empty and the test's own."""
        raise NotImplementedError

    @pytest_asyncio.fixture
    async def retriever(self, tmp_path: Path) -> AsyncIterator[Retriever]:
        yield await self.open_retriever(tmp_path)

    async def test_it_has_a_name(self, retriever: Retriever) -> None:
        assert retriever.name

    async def test_a_query_of_terms_is_read_as_its_words_are(self, retriever: Retriever) -> None:
        plain = await retriever.retrieve(QUERY, 10, None)
        marked = await retriever.retrieve(TextQuery((Term(QUERY),)), 10, None)
        assert list_docnos(marked) == list_docnos(plain)
        scores = [candidate.score for candidate in plain.candidates]
        assert [candidate.score for candidate in marked.candidates] == pytest.approx(scores, abs=TOLERANCE)

    @pytest.mark.parametrize("depth", [1, 7, 40, 1_000])
    async def test_documents_come_once_and_best_first(self, retriever: Retriever, depth: int) -> None:
        found = await retriever.retrieve(QUERY, depth, None)
        assert 0 < len(found.candidates) <= depth
        assert len(set(list_docnos(found))) == len(found.candidates)
        assert DOCUMENTS.keys() >= set(list_docnos(found))
        places = [(-candidate.score, candidate.docno) for candidate in found.candidates]
        assert places == sorted(places), "best first, ties by docno"

    async def test_a_depth_of_zero_finds_nothing(self, retriever: Retriever) -> None:
        assert (await retriever.retrieve(QUERY, 0, None)).candidates == []

    async def test_a_shallow_list_is_the_beginning_of_a_deep_one(self, retriever: Retriever) -> None:
        deep, shallow = [await retriever.retrieve(QUERY, depth, None) for depth in (40, 5)]
        assert list_docnos(shallow) == list_docnos(deep)[:5]

    async def test_scores_lie_between_the_lowest_and_the_highest_that_it_names(
        self, retriever: Retriever
    ) -> None:
        for text in (QUERY, "ember", "harbour and and"):
            found = await retriever.retrieve(text, 40, None)
            assert found.low < found.high
            for candidate in found.candidates:
                assert found.low <= candidate.score <= found.high + TOLERANCE

    @pytest.mark.parametrize("filter", FILTERS, ids=str)
    async def test_a_filter_takes_documents_away_and_changes_no_score(
        self, retriever: Retriever, filter: Filter
    ) -> None:
        everything = await retriever.retrieve(QUERY, 40, None)
        found = await retriever.retrieve(QUERY, 40, filter)
        passing = [c for c in everything.candidates if matches(filter, DOCUMENTS[c.docno])]
        assert list_docnos(found) == [int(candidate.docno) for candidate in passing]
        for one, other in zip(found.candidates, passing, strict=True):
            assert one.score == pytest.approx(other.score, abs=TOLERANCE)

    async def test_other_documents_get_the_scores_that_a_deeper_search_gives_them(
        self, retriever: Retriever
    ) -> None:
        deep, shallow = [await retriever.retrieve(QUERY, depth, None) for depth in (40, 3)]
        completed = await shallow.complete([*DOCUMENTS, Docno(1_000)])
        expected = {candidate.docno: candidate for candidate in deep.candidates}
        assert completed.keys() >= expected.keys()
        assert Docno(1_000) not in completed
        for docno, candidate in completed.items():
            assert candidate.docno == docno
            assert candidate.score == pytest.approx(_score(expected, docno, deep), abs=TOLERANCE)
        if not shallow.absent_is_low:
            assert completed.keys() == DOCUMENTS.keys(), "no document has the lowest score by being absent"
        assert await shallow.complete([]) == {}

    async def test_it_counts_all_that_match_or_does_not_count(self, retriever: Retriever) -> None:
        for filter in (None, *FILTERS):
            found = await retriever.retrieve(QUERY, 1_000, filter)
            assert found.total in (None, len(found.candidates))
            assert (await retriever.retrieve(QUERY, 1, filter)).total == found.total

    async def test_calls_at_the_same_time_each_get_their_own_answer(self, retriever: Retriever) -> None:
        alone = [list_docnos(await retriever.retrieve(word, 10, None)) for word in WORDS]
        together = await asyncio.gather(*(retriever.retrieve(word, 10, None) for word in WORDS * 5))
        assert [list_docnos(found) for found in together] == alone * 5

    async def test_a_caller_with_time_gets_the_same_answer(self, retriever: Retriever) -> None:
        hurried = await retriever.retrieve(QUERY, 10, None, Deadline.set_after(60.0))
        assert list_docnos(hurried) == list_docnos(await retriever.retrieve(QUERY, 10, None))

    @pytest.mark.parametrize("text", ['"apple', "apple*", "title:apple AND (", "\x00", "🍎", "a" * 100_000])
    async def test_any_text_can_be_asked_for(self, retriever: Retriever, text: str) -> None:
        found = await retriever.retrieve(text, 5, None)
        assert len(found.candidates) <= 5


def _score(known: Mapping[Docno, Candidate], docno: Docno, found: Retrieved) -> float:
    return known[docno].score if docno in known else found.low
