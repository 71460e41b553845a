"""Facets in Tantivy's terms; ``quarry.facets.count_facet`` says what they mean."""

from collections.abc import Iterator
from typing import Any

import tantivy
from tantivy import Query

from quarry.facets import (
    CalendarFacet,
    Facet,
    FacetCount,
    FacetRequest,
    Interval,
    RangesFacet,
    TermsFacet,
    find_periods,
    list_periods,
    list_terms,
    make_period,
)
from quarry.filters import Range
from quarry.retrieval.lexical.tantivy_documents import read_keyword_term
from quarry.retrieval.lexical.tantivy_filters import FilterTranslator, narrow_query
from quarry.schema import MAX_TIMESTAMP_US, MIN_TIMESTAMP_US, FieldType
from quarry.types import FieldScalar

MOST_TERMS = 100_000
"""Different values that are counted in each segment; with more, counts may be too low."""
MOST_BUCKETS = 65_000
"""The engine refuses to list more."""
TIED_AT_ONCE = 256
COARSER = 64
"""Times a period in which the engine looks for moments, if it finds too many periods."""
_TOO_MANY = "limit was exceeded"
_DAY_US = 86_400_000_000
_STEPS = {
    Interval.DAY: _DAY_US,
    Interval.WEEK: 7 * _DAY_US,
    Interval.MONTH: 28 * _DAY_US,
    Interval.QUARTER: 90 * _DAY_US,
    Interval.YEAR: 365 * _DAY_US,
}
"""Steps at which the engine looks for moments, none longer than a period; it knows no calendar."""
_ROUNDING_US = 64
"""The engine looks for moments in floats, which round those of far years by up to this."""


class FacetCounter:
    """Counts facets of what a query matches. Ranges and periods are counted as filters are, one by one: the
    engine's own would count a document once for each value."""

    def __init__(self, filters: FilterTranslator) -> None:
        self._filters = filters

    def count(self, searcher: tantivy.Searcher, query: Query, facet: FacetRequest) -> Facet:
        """Counts a checked ``facet`` of the documents that ``query`` matches."""
        match facet:
            case TermsFacet():
                return self._count_terms(searcher, query, facet)
            case RangesFacet(name, ranges):
                counts = (FacetCount(r, self._count_range(searcher, query, r)) for r in ranges)
                return Facet(name, tuple(counts))
            case CalendarFacet():
                return self._count_periods(searcher, query, facet)

    def _count_terms(self, searcher: tantivy.Searcher, query: Query, facet: TermsFacet) -> Facet:
        kind, limit, size = self._filters.get_type(facet.field), facet.limit, facet.limit + TIED_AT_ONCE
        while True:
            asked = {"field": facet.field, "size": size, "segment_size": MOST_TERMS}
            found = searcher.aggregate(query, {"facet": {"terms": asked}})["facet"]
            buckets: list[dict[str, Any]] = found["buckets"]
            tied = len(buckets) == size and buckets[-1]["doc_count"] == buckets[limit - 1]["doc_count"]
            if not tied or found["doc_count_error_upper_bound"] or size == MOST_BUCKETS:
                break
            size = min(4 * size, MOST_BUCKETS)
        terms = [(_read_value(bucket["key"], kind), int(bucket["doc_count"])) for bucket in buckets]
        listed = list_terms(facet.field, terms, limit)
        others = listed.others + int(found["sum_other_doc_count"])
        return Facet(facet.field, listed.counts, others, not found["doc_count_error_upper_bound"])

    def _count_periods(self, searcher: tantivy.Searcher, query: Query, facet: CalendarFacet) -> Facet:
        starts = sorted(self._find_starts(searcher, query, facet), reverse=True)
        periods: list[tuple[int, int]] = []
        for start in starts:
            if len(periods) == facet.limit:
                break
            if count := self._count_range(searcher, query, make_period(facet, start)):
                periods.append((start, count))
        more = bool(periods) and starts[-1] < periods[-1][0]
        before = Range(facet.field, lt=periods[-1][0]) if more else None
        older = 0 if before is None else self._count_range(searcher, query, before)
        return list_periods(facet, periods, older)

    def _find_starts(self, searcher: tantivy.Searcher, query: Query, facet: CalendarFacet) -> set[int]:
        """Finds where all periods begin that may have a value."""
        step = _STEPS[facet.interval]
        asked = {"field": facet.field, "interval": step, "min_doc_count": 1}
        found = _aggregate(searcher, query, {"histogram": asked})
        if found is None:  # each of fewer buckets then may hold many periods
            step = asked["interval"] = step * COARSER
            found = _aggregate(searcher, query, {"histogram": asked}) or {"buckets": ()}
        return {start for bucket in found["buckets"] for start in _list_starts(bucket["key"], step, facet)}

    def _count_range(self, searcher: tantivy.Searcher, query: Query, bounds: Range) -> int:
        within = narrow_query(query, self._filters.translate_condition(bounds))
        count: int = searcher.search(within, 1).count  # type: ignore[attr-defined]  # missing from the stub
        return count


def _aggregate(searcher: tantivy.Searcher, query: Query, asked: dict[str, Any]) -> dict[str, Any] | None:
    """Aggregates what ``query`` matches; None if that makes more than ``MOST_BUCKETS``."""
    try:
        found: dict[str, Any] = searcher.aggregate(query, {"facet": asked})["facet"]
    except ValueError as error:
        if _TOO_MANY in str(error):
            return None
        raise
    return found


def _list_starts(key: float, step: int, facet: CalendarFacet) -> Iterator[int]:
    first, last = int(key) - _ROUNDING_US, int(key) + step + _ROUNDING_US
    return find_periods(max(first, MIN_TIMESTAMP_US), min(last, MAX_TIMESTAMP_US), facet.interval)


def _read_value(key: Any, kind: FieldType) -> FieldScalar:
    match kind:
        case FieldType.KEYWORD:
            return read_keyword_term(key)
        case FieldType.BOOLEAN:
            return bool(key)
        case _:
            return int(key)
