"""Facets of more values than the engine has buckets are still an answer, and say what they are."""

from collections.abc import Iterator
from typing import Any

import pytest

from quarry import facets
from quarry.deadline import Deadline
from quarry.errors import DeadlineExceeded
from quarry.facets import CalendarFacet, Interval, TermsFacet, count_facet
from quarry.retrieval.lexical.bm25 import TantivyIndex
from quarry.retrieval.lexical.results import tantivy_facets
from quarry.testing.strategies import FILTER_SCHEMA
from quarry.types import Change, Docno, Fields

DAY_US = 86_400_000_000
DOCUMENTS, VALUES = 112, 1_000


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TantivyIndex, list[Fields]]]:
    """An index of 112,000 different keywords, and as many days."""
    index = TantivyIndex(tmp_path_factory.mktemp("many"), "g", FILTER_SCHEMA)
    contents: list[Fields] = []
    for n in range(DOCUMENTS):
        numbers = range(n * VALUES, (n + 1) * VALUES)
        tags = ["common", *(f"t{number:06}" for number in numbers[1:])]
        contents.append({"title": "fox", "tag": tags, "time": [number * DAY_US for number in numbers]})
    index.apply([Change(Docno(n), n + 1, fields) for n, fields in enumerate(contents)])
    index.commit(1)
    yield index, contents
    index.close()


def test_terms_are_then_lower_bounds(filled: tuple[TantivyIndex, list[Fields]]) -> None:
    index, contents = filled
    (found,) = index.count_facets("fox", None, [TermsFacet("tag", 3)])
    expected = count_facet(TermsFacet("tag", 3), contents)
    assert found.counts[0] == expected.counts[0]
    assert not found.exact


class Counting:
    """A searcher that keeps the names of the aggregations of each call."""

    def __init__(self, searcher: Any) -> None:
        self._searcher, self.asked = searcher, list[list[str]]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._searcher, name)

    def aggregate(self, query: object, asked: dict[str, object]) -> Any:
        self.asked.append(list(asked))
        return self._searcher.aggregate(query, asked)


def test_facets_of_terms_are_counted_together_or_if_that_is_too_much_each_by_itself(
    filled: tuple[TantivyIndex, list[Fields]], monkeypatch: pytest.MonkeyPatch
) -> None:
    index, _ = filled
    counting = Counting(index._searcher)
    monkeypatch.setattr(index, "_searcher", counting)
    facets = [TermsFacet("tag", 3), CalendarFacet("time", Interval.YEAR, 1), TermsFacet("tag", 2)]
    together = index.count_facets("fox", None, facets)
    assert counting.asked == [["0", "2"], ["time"]]
    assert together == [index.count_facets("fox", None, [facet])[0] for facet in facets]
    counting.asked.clear()
    monkeypatch.setattr(tantivy_facets, "TIED_AT_ONCE", 40_000)
    assert index.count_facets("fox", None, facets) == together
    assert counting.asked == [["0", "2"], ["tag"], ["time"], ["tag"]]


def test_no_more_periods_are_made_than_are_listed_and_counting_stops_between_two(
    filled: tuple[TantivyIndex, list[Fields]], monkeypatch: pytest.MonkeyPatch
) -> None:
    index, _ = filled
    made: list[int] = []

    def find_periods(*of: Any) -> Iterator[int]:
        for start in facets.find_periods(*of):
            made.append(start)
            yield start

    class FewLooks(Deadline):
        @property
        def remaining_s(self) -> float:
            return float(next(looks))

    monkeypatch.setattr(tantivy_facets, "find_periods", find_periods)
    (found,) = index.count_facets("fox", None, [CalendarFacet("time", Interval.DAY, 5)])
    assert len(found.counts) == 5
    assert 5 <= len(made) < 2_000
    looks = iter([1, 1, 1, 1, 0])
    with pytest.raises(DeadlineExceeded):
        index.count_facets("fox", None, [CalendarFacet("time", Interval.DAY, 5)], (), FewLooks())
    assert next(looks, None) is None


@pytest.mark.parametrize("interval", list(Interval))
def test_periods_stay_exact(filled: tuple[TantivyIndex, list[Fields]], interval: Interval) -> None:
    index, contents = filled
    facet = CalendarFacet("time", interval, 5)
    assert index.count_facets("fox", None, [facet]) == [count_facet(facet, contents)]
