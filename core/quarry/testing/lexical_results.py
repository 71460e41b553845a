"""The contract of ``quarry.retrieval.base.LexicalIndex`` about facets, and about an order by fields."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from quarry.deadline import Deadline
from quarry.errors import DeadlineExceeded
from quarry.facets import (
    CalendarFacet,
    FacetCount,
    FacetRequest,
    Interval,
    RangesFacet,
    TermsFacet,
    count_facet,
)
from quarry.filters import EqualTo, Exists, Filter, Range, matches
from quarry.retrieval.base import LexicalIndex, OrderedResult
from quarry.retrieval.ordering import OrderBy, sort_by_fields
from quarry.retrieval.query_syntax import parse_text_query
from quarry.retrieval.text_query import SearchText, Term, TextQuery
from quarry.schema import FieldType, as_list
from quarry.testing.strategies import FILTER_SCHEMA, VALUES, draw_documents, draw_filters
from quarry.types import Change, Docno, Fields
from quarry.vocabulary import SynonymRule, Vocabulary

DAY_US = 86_400_000_000
SETTINGS = settings(
    max_examples=25,
    deadline=None,
    phases=set(Phase) - {Phase.explain},
    suppress_health_check=list(HealthCheck),
)
SHOP: list[Fields] = [
    {"title": "red shoe", "tag": ["sport", "sale"], "count": 3, "price": 5.0, "time": 0},
    {"title": "red hat", "tag": "sport", "count": 1, "sale": True, "time": 40 * DAY_US},
    {"title": "blue hat", "tag": "wool", "count": 3, "sale": False, "time": [40 * DAY_US, 41 * DAY_US]},
    {"title": "red coat", "tag": "sport", "price": 9.5},
]


ADVANCED = ('"red shoe" the', "wine -shoe the", "+red the", "sh* -red of", "the -shoe", "+shoe -blue red")
"""Queries of terms that often find something; words that are stop words among them."""


def draw_texts() -> st.SearchStrategy[SearchText]:
    """Draws an empty text, a plain one, or a query of terms, which may leave out or want a synonym."""
    known = Vocabulary((SynonymRule(("wine", "shoe")),), ("red",))
    advanced = st.sampled_from(ADVANCED).map(lambda text: parse_text_query(text, FILTER_SCHEMA))
    taught = st.sampled_from(["the wine", "the red"]).map(
        lambda text: TextQuery((Term(text),), vocabulary=known)
    )
    return st.sampled_from(["", "red shoe"]) | advanced | taught


def list_facets() -> Iterator[FacetRequest]:
    """Lists a facet of each kind for each field that can be counted so, with ends that documents have."""
    for field in FILTER_SCHEMA.filterable:
        values = VALUES[field.type]
        if field.type in (FieldType.KEYWORD, FieldType.BOOLEAN, FieldType.INTEGER):
            yield from (TermsFacet(field.name, limit) for limit in (1, 2, 1_000))
        if field.type in (FieldType.INTEGER, FieldType.FLOAT, FieldType.TIMESTAMP):
            ends = [Range(field.name, **{side: value}) for value in values for side in ("gte", "lt")]
            pairs = [Range(field.name, gte=a, lt=b) for a in values for b in values if a < b]  # type: ignore[operator]
            yield RangesFacet(field.name, (*ends, *pairs))
        if field.type is FieldType.TIMESTAMP:
            yield from (CalendarFacet(field.name, interval, n) for interval in Interval for n in (1, 1_000))


def fill(index: LexicalIndex, contents: list[Fields], doomed: int = 0) -> list[Fields]:
    """Fills ``index`` in two commits, and deletes the first ``doomed`` documents; returns what is left."""
    half = len(contents) // 2
    changes = [Change(Docno(n), n + 1, fields) for n, fields in enumerate(contents)]
    for some in (changes[:half], changes[half:], [Change(Docno(n), 1_000, None) for n in range(doomed)]):
        index.apply(some)
        index.commit(1)
    return contents[doomed:]


def list_order(result: OrderedResult) -> list[int]:
    return [docno for tie in result.ties for docno in tie]


class LexicalResultsContract:
    """The counts and orders of every lexical index. Subclass it as ``Test...``, and write ``open_index``."""

    def open_index(self, folder: Path) -> LexicalIndex:
        """Opens an empty index with the schema ``FILTER_SCHEMA``."""
        raise NotImplementedError

    @pytest.fixture
    def shop(self, tmp_path: Path) -> Iterator[LexicalIndex]:
        index = self.open_index(tmp_path)
        fill(index, SHOP)
        yield index
        index.close()

    def test_terms_are_counted_most_frequent_first_and_the_rest_as_others(self, shop: LexicalIndex) -> None:
        (tags,) = shop.count_facets("red", None, [TermsFacet("tag", 1)])
        assert (tags.counts, tags.others, tags.exact) == ((FacetCount("sport", 3),), 1, True)
        (tags, sales) = shop.count_facets("", None, [TermsFacet("tag"), TermsFacet("sale")])
        assert [(c.value, c.count) for c in tags.counts] == [("sport", 3), ("sale", 1), ("wool", 1)]
        assert [(c.value, c.count) for c in sales.counts] == [(False, 1), (True, 1)]

    def test_the_filter_counts_and_a_text_without_words_matches_nothing(self, shop: LexicalIndex) -> None:
        (tags,) = shop.count_facets("red", EqualTo("tag", "sale"), [TermsFacet("tag")])
        assert [c.value for c in tags.counts] == ["sale", "sport"]
        assert shop.count_facets("?!", None, [TermsFacet("tag")])[0].counts == ()

    def test_what_a_query_of_terms_finds_is_counted_and_ordered(self, shop: LexicalIndex) -> None:
        for text, found in [
            ("red -coat", [1, 0]),
            ("+red hat", [1, 0, 3]),
            ('"red hat"', [1]),
            ("ha* -blue", [1]),
            ("+zzz red", []),
            ("blau~2", [2]),
        ]:
            query = parse_text_query(text, FILTER_SCHEMA)
            (tags,) = shop.count_facets(query, None, [TermsFacet("tag")])
            assert tags == count_facet(TermsFacet("tag"), [SHOP[n] for n in found]), text
            assert list_order(shop.order(query, 10, None, [OrderBy("count")])) == found, text
            narrowed = shop.order(query, 10, Exists("price"), [OrderBy("count")])
            assert list_order(narrowed) == [n for n in found if "price" in SHOP[n]], text

    def test_hidden_documents_are_not_counted_or_ordered(self, shop: LexicalIndex) -> None:
        hidden = [Docno(n) for n in (1, *range(3, 400))]
        for text in ("", "red hat", parse_text_query("red hat", FILTER_SCHEMA)):
            (tags,) = shop.count_facets(text, None, [TermsFacet("tag")], hidden)
            assert tags == count_facet(TermsFacet("tag"), [SHOP[0], SHOP[2]])
            found = shop.order(text, 10, None, [OrderBy("price", True)], hidden)
            assert found == OrderedResult([(Docno(0),), (Docno(2),)], 2)

    def test_a_document_with_two_values_in_a_range_counts_once(self, shop: LexicalIndex) -> None:
        whole = Range("time", gte=0, lt=50 * DAY_US)
        ranges, months = shop.count_facets(
            "", None, [RangesFacet("time", (whole,)), CalendarFacet("time", Interval.MONTH)]
        )
        assert ranges.counts == (FacetCount(whole, 3),)
        assert [count.count for count in months.counts] == [1, 2]

    def test_a_limit_that_has_passed_ends_the_counting(self, shop: LexicalIndex) -> None:
        within = (Range("time", gte=0),)
        asked = (TermsFacet("tag"), RangesFacet("time", within), CalendarFacet("time", Interval.DAY))
        for facet in asked:
            with pytest.raises(DeadlineExceeded):
                shop.count_facets("red", None, [facet], (), Deadline.set_after(0))
            assert shop.count_facets("red", None, [facet], (), Deadline.set_after(60))[0].counts

    def test_an_order_has_missing_values_last_either_way(self, shop: LexicalIndex) -> None:
        for descending in (False, True):
            found = shop.order("", 10, None, [OrderBy("price", descending)])
            assert found.ties == ([(3,), (0,), (1, 2)] if descending else [(0,), (3,), (1, 2)])

    def test_an_order_is_by_the_first_field_and_then_by_the_next(self, shop: LexicalIndex) -> None:
        order = [OrderBy("count", True), OrderBy("tag")]
        assert list_order(shop.order("", 10, None, order)) == [0, 2, 1, 3]
        assert list_order(shop.order("hat", 10, None, order)) == [2, 1]
        assert shop.order("hat", 10, Exists("price"), order) == OrderedResult([], 0)
        assert shop.order("?!", 10, None, order) == OrderedResult([], 0)

    def test_ties_at_the_depth_come_whole_and_what_is_below_does_not(self, shop: LexicalIndex) -> None:
        found = shop.order("", 1, None, [OrderBy("count", True)])
        assert found == OrderedResult([(Docno(0), Docno(2))], 4)

    def test_an_empty_index_counts_and_orders_nothing(self, tmp_path: Path) -> None:
        index = self.open_index(tmp_path)
        for found in index.count_facets("", None, list(list_facets())):
            assert not any(count.count for count in found.counts)
            assert found.others == 0
        for field in FILTER_SCHEMA.filterable:
            assert index.order("red", 5, None, [OrderBy(field.name)]) == OrderedResult([], 0)
        index.close()

    @given(
        contents=st.lists(draw_documents(FILTER_SCHEMA), max_size=20),
        drawn=st.lists(draw_filters(FILTER_SCHEMA), min_size=2, max_size=2),
        advanced=draw_texts(),
        doomed=st.integers(0, 3),
    )
    @SETTINGS
    def test_facets_equal_a_count_by_hand(
        self, contents: list[Fields], drawn: list[Filter], advanced: SearchText, doomed: int
    ) -> None:
        facets = list(list_facets())
        with TemporaryDirectory() as folder:
            index = self.open_index(Path(folder))
            fill(index, contents, min(doomed, len(contents)))
            for filter in (None, *drawn):
                for text in ("", "red shoe", advanced):
                    listed = index.search(text, 99, filter) if text else index.browse(99, filter)
                    matching = [contents[candidate.docno] for candidate in listed.candidates]
                    expected = [count_facet(facet, matching) for facet in facets]
                    assert index.count_facets(text, filter, facets) == expected, (text, filter)
            index.close()

    @given(
        contents=st.lists(draw_documents(FILTER_SCHEMA), max_size=20),
        text=draw_texts(),
        filter=st.none() | draw_filters(FILTER_SCHEMA),
        order=st.lists(
            st.builds(OrderBy, st.sampled_from([f.name for f in FILTER_SCHEMA.filterable]), st.booleans()),
            min_size=1,
            max_size=3,
            unique_by=lambda by: by.field,
        ),
        depth=st.integers(1, 12),
        doomed=st.integers(0, 3),
    )
    @SETTINGS
    def test_an_order_equals_one_by_hand(
        self,
        contents: list[Fields],
        text: SearchText,
        filter: Filter | None,
        order: list[OrderBy],
        depth: int,
        doomed: int,
    ) -> None:
        def read(docno: int, name: str) -> object:
            values = as_list(contents[docno].get(name))
            return values[0] if values else None

        with TemporaryDirectory() as folder:
            index = self.open_index(Path(folder))
            gone = min(doomed, len(contents))
            fill(index, contents, gone)
            every = index.search(text, 99, None).candidates if text else index.browse(99, None).candidates
            finds = sorted(candidate.docno for candidate in every)
            assert text or finds == list(range(gone, len(contents)))
            passing = [n for n in finds if filter is None or matches(filter, contents[n])]
            expected = sort_by_fields(passing, order, read)  # type: ignore[arg-type]
            found = index.order(text, depth, filter, order)
            listed = list_order(found)
            assert (listed, found.total) == (expected[: len(listed)], len(expected))
            assert len(listed) >= min(depth, len(expected))
            keys = [tuple(read(docno, by.field) for by in order) for docno in expected]
            if len(listed) < len(expected):
                assert keys[len(listed)] != keys[len(listed) - 1]
            assert [keys[expected.index(tie[0])] for tie in found.ties] == list(dict.fromkeys(keys))[
                : len(found.ties)
            ]
            index.close()
