"""Facets of more values than the engine has buckets are still an answer, and say what they are."""

from collections.abc import Iterator

import pytest

from quarry.facets import CalendarFacet, Interval, TermsFacet, count_facet
from quarry.retrieval.lexical.bm25 import TantivyIndex
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


@pytest.mark.parametrize("interval", list(Interval))
def test_periods_stay_exact(filled: tuple[TantivyIndex, list[Fields]], interval: Interval) -> None:
    index, contents = filled
    facet = CalendarFacet("time", interval, 5)
    assert index.count_facets("fox", None, [facet]) == [count_facet(facet, contents)]
