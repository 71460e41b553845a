"""Facets are checked before they are counted, and a search says if they were not."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event
from typing import Any

import pytest
from tests.unit.search.fakes import FixedArm, Stack
from tests.unit.search.searched import asked, searched

from quarry.deadline import Deadline
from quarry.errors import InvalidArgumentError, RetrieverUnavailableError, UnavailableError
from quarry.facets import (
    CalendarFacet,
    FacetCount,
    FacetRequest,
    Interval,
    RangesFacet,
    TermsFacet,
    check_facet,
    count_facet,
)
from quarry.filters import Range
from quarry.ranking.ranking import DegradationReason, DegradedStage
from quarry.ranking.shaping import Shaping
from quarry.retrieval.lexical.memory_lexical import MemoryLexicalIndex
from quarry.retrieval.query_syntax import parse_text_query
from quarry.retrieval.text_query import TextQuery
from quarry.schema import MAX_TIMESTAMP_US, MIN_TIMESTAMP_US, Microseconds
from quarry.search.answer_schedule import Slot
from quarry.testing.strategies import FILTER_SCHEMA

DAY_US = 86_400_000_000


class BrokenIndex(MemoryLexicalIndex):
    """Counts nothing, and rewrites nothing."""

    def search(self, *arguments: Any, **named: Any) -> Any:
        raise RetrieverUnavailableError("bm25", "the index is closed")

    def count_facets(self, *arguments: Any) -> Any:
        raise RetrieverUnavailableError("bm25", "the index is closed")

    def rewrite_query(self, query: TextQuery) -> TextQuery:
        raise RetrieverUnavailableError("bm25", "the index is closed")


@pytest.mark.parametrize(
    ("interval", "moment", "start", "end"),
    [
        (Interval.DAY, -1, -DAY_US, 0),
        (Interval.WEEK, 0, -3 * DAY_US, 4 * DAY_US),
        (Interval.MONTH, 31 * DAY_US - 1, 0, 31 * DAY_US),
        (Interval.QUARTER, 31 * DAY_US, 0, 90 * DAY_US),
        (Interval.YEAR, 364 * DAY_US, 0, 365 * DAY_US),
        (Interval.YEAR, MAX_TIMESTAMP_US, 253_370_764_800_000_000, None),
        (Interval.WEEK, MIN_TIMESTAMP_US, MIN_TIMESTAMP_US, MIN_TIMESTAMP_US + 7 * DAY_US),
    ],
)
def test_periods_are_those_of_the_calendar(
    interval: Interval, moment: int, start: int, end: int | None
) -> None:
    facet = count_facet(CalendarFacet("time", interval), [{"time": moment}])
    assert facet.counts == (FacetCount(Range("time", gte=start, lt=end), 1),)


@pytest.mark.parametrize(
    ("facet", "path"),
    [
        (TermsFacet("nowhere"), "field"),
        (TermsFacet("text"), "field"),
        (TermsFacet("price"), "field"),
        (TermsFacet("tag", 0), "terms.limit"),
        (CalendarFacet("count", Interval.DAY), "field"),
        (CalendarFacet("time", Interval.DAY, 1_001), "calendar.limit"),
        (RangesFacet("tag", (Range("tag", gte="a"),)), "field"),
        (RangesFacet("count", ()), "ranges.ranges"),
        (RangesFacet("count", (Range("count", gte=1),) * 65), "ranges.ranges"),
        (RangesFacet("count", (Range("count"),)), "ranges.ranges[0]"),
        (RangesFacet("count", (Range("count", lt=1.5),)), "ranges.ranges[0].lt"),
        (RangesFacet("time", (Range("time", gte=Microseconds(2), lt=Microseconds(1)),)), "ranges.ranges[0]"),
    ],
)
def test_what_cannot_be_counted_is_refused(facet: FacetRequest, path: str) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        check_facet(facet, FILTER_SCHEMA)
    assert refused.value.field == path


async def test_an_answer_says_if_facets_were_not_counted() -> None:
    with ThreadPoolExecutor(1) as threads:
        stack = Stack([FixedArm("bm25", {1: 1.0})], threads)
        stage = stack.searcher().first_stage
        stage.lexical = BrokenIndex("g", FILTER_SCHEMA)
        query, facets = stack.make_query(), [TermsFacet("tag")]
        counted, notes = await stage.count_facets(query, facets, Deadline.set_after(5))
        assert counted == []
        assert [(n.stage, n.reason) for n in notes] == [(DegradedStage.FACETS, DegradationReason.UNAVAILABLE)]
        assert "the index is closed" in notes[0].detail
        with pytest.raises(UnavailableError):
            await stage.count_facets(replace(query, require_complete=True), facets, Deadline.set_after(5))


async def test_why_matching_documents_are_not_counted_is_said() -> None:
    with ThreadPoolExecutor(1) as threads:
        stack = Stack([FixedArm("dense", {1: 1.0})], threads)
        searcher = stack.searcher()
        searcher.first_stage.lexical = BrokenIndex("g", FILTER_SCHEMA)
        ranking = await searcher.rank(stack.make_query(), Deadline.set_after(5))
    (note,) = ranking.degraded
    assert note.stage is DegradedStage.TOTAL
    assert note.detail.endswith("not counted: the bm25 arm is unavailable: the index is closed")


class SlowIndex(MemoryLexicalIndex):
    """Begins to count when its limit has passed, if that is soon."""

    def count_facets(self, *arguments: Any) -> Any:
        *_, limit = arguments
        Event().wait(min(1.0, limit.remaining_s))
        return super().count_facets(*arguments)


@pytest.mark.parametrize("shaping", [None, Shaping(pinned=("d7",)), Shaping(excluded=frozenset({"d1"}))])
async def test_a_search_whose_facets_are_late_answers_without_them(shaping: Shaping | None) -> None:
    soon = Deadline.set_after(0.1)
    with searched() as faq:
        collection = faq.collection
        collection.searcher.first_stage.lexical = SlowIndex("g", FILTER_SCHEMA)
        query, page = faq.stack.make_query(shaping=shaping), asked(facets=(TermsFacet("tag"),))
        in_time = Slot(Deadline.set_after(30), Deadline.set_after(30) if shaping else soon, soon)
        answer = await faq.service.search(collection, query, page, faq.hold(), in_time)
    assert (len(answer.hits), list(answer.facets)) == (4, [])
    late = [note for note in answer.ranking.degraded if note.stage is DegradedStage.FACETS]
    assert [note.reason for note in late] == [DegradationReason.TIMEOUT]


async def test_facets_come_with_the_first_page_only() -> None:
    with searched() as collection:
        page = await collection.search(facets=(TermsFacet("tag"),))
        later = await collection.turn(page.next, facets=(TermsFacet("tag"),))
        assert [facet.field for facet in page.facets] == ["tag"]
        assert later.facets == ()


async def test_snippets_do_without_an_index_that_does_not_rewrite_queries_and_say_so() -> None:
    terms = parse_text_query("word* -other", FILTER_SCHEMA)
    with ThreadPoolExecutor(1) as threads:
        stack = Stack([FixedArm("bm25", {1: 1.0})], threads)
        stage = stack.searcher().first_stage
        stage.lexical = BrokenIndex("g", FILTER_SCHEMA)
        limit = Deadline.set_after(5)
        query = stack.make_query("word", terms=terms)
        search_text, notes = await stage.rewrite_query(query, limit)
        assert search_text is terms
        assert [(n.stage, n.reason) for n in notes] == [
            (DegradedStage.SNIPPETS, DegradationReason.UNAVAILABLE)
        ]
        assert "the index is closed" in notes[0].detail
        assert await stage.rewrite_query(stack.make_query("word"), limit) == ("word", [])
        with pytest.raises(UnavailableError):
            await stage.rewrite_query(replace(query, require_complete=True), limit)
