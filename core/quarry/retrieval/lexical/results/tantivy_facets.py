"""Facets in Tantivy's terms; ``quarry.facets.count_facet`` says what they mean."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import tantivy
from tantivy import Query

from quarry.deadline import Deadline
from quarry.errors import DeadlineExceeded
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
from quarry.retrieval.lexical.tantivy_documents import count_hits, read_keyword_term
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
_Asked = dict[str, Any]
_Found = dict[str, Any]
"""An aggregation as the engine takes it, and what it gives."""


@dataclass(frozen=True, slots=True)
class _Matching:
    """The documents that are counted, until ``limit``. Its methods raise DeadlineExceeded after that."""

    searcher: tantivy.Searcher
    query: Query
    limit: Deadline

    def count_within(self, condition: Query) -> int:
        self._go_on()
        return count_hits(self.searcher.search(narrow_query(self.query, condition), 1))

    def aggregate(self, asked: Mapping[str, _Asked]) -> dict[str, Any]:
        self._go_on()
        found: dict[str, Any] = self.searcher.aggregate(self.query, dict(asked))
        return found

    def try_aggregate(self, asked: Mapping[str, _Asked]) -> dict[str, Any]:
        """Aggregates; gives nothing if that takes more buckets, or more memory, than the engine allows."""
        try:
            return self.aggregate(asked)
        except ValueError as error:
            if _TOO_MANY in str(error):
                return {}
            raise

    def _go_on(self) -> None:
        if not self.limit.remaining_s:
            raise DeadlineExceeded("there was not time enough to count facets")


class FacetCounter:
    """Counts facets of what a query matches. Ranges and periods are counted as filters are, one by one: the
    engine's own would count a document once for each value."""

    def __init__(self, filters: FilterTranslator) -> None:
        self._filters = filters

    def count(
        self, searcher: tantivy.Searcher, query: Query, facets: Sequence[FacetRequest], limit: Deadline
    ) -> list[Facet]:
        """Counts checked ``facets`` of the documents that ``query`` matches.

        All facets of terms are counted together, which saves looking for the documents again for each.

        Raises DeadlineExceeded if ``limit`` passes before that is done.
        """
        matching = _Matching(searcher, query, limit)
        terms = {str(n): facet for n, facet in enumerate(facets) if isinstance(facet, TermsFacet)}
        asked = {name: _ask_terms(facet, _count_first(facet)) for name, facet in terms.items()}
        found = matching.try_aggregate(asked) if asked else {}
        return [self._count_one(matching, facet, found.get(str(n))) for n, facet in enumerate(facets)]

    def _count_one(self, matching: _Matching, facet: FacetRequest, found: _Found | None) -> Facet:
        match facet:
            case TermsFacet():
                return self._list_terms(facet, _find_whole_ties(matching, facet, found))
            case RangesFacet(name, ranges):
                return Facet(name, tuple(FacetCount(r, self._count_range(matching, r)) for r in ranges))
            case CalendarFacet():
                return self._count_periods(matching, facet)

    def _list_terms(self, facet: TermsFacet, found: _Found) -> Facet:
        kind = self._filters.get_type(facet.field)
        terms = [(_read_value(bucket["key"], kind), int(bucket["doc_count"])) for bucket in found["buckets"]]
        listed = list_terms(facet.field, terms, facet.limit)
        others = listed.others + int(found["sum_other_doc_count"])
        return Facet(facet.field, listed.counts, others, not found["doc_count_error_upper_bound"])

    def _count_periods(self, matching: _Matching, facet: CalendarFacet) -> Facet:
        starts = _list_starts(matching, facet)
        counted = ((start, self._count_range(matching, make_period(facet, start))) for start in starts)
        periods = list(islice(((start, count) for start, count in counted if count), facet.limit))
        older = 0
        if periods and next(starts, None) is not None:
            older = self._count_range(matching, Range(facet.field, lt=periods[-1][0]))
        return list_periods(facet, periods, older)

    def _count_range(self, matching: _Matching, bounds: Range) -> int:
        return matching.count_within(self._filters.translate_condition(bounds))


def _count_first(facet: TermsFacet) -> int:
    """Returns how many terms to ask for first: more than are listed, to see those that tie with the last."""
    return facet.limit + TIED_AT_ONCE


def _ask_terms(facet: TermsFacet, size: int) -> _Asked:
    return {"terms": {"field": facet.field, "size": size, "segment_size": MOST_TERMS}}


def _find_whole_ties(matching: _Matching, facet: TermsFacet, found: _Found | None) -> _Found:
    """Finds the most frequent terms, with all that tie with the last one listed if the engine can list them.

    Args:
        found: those that were asked for first; None if they were not found.
    """
    size = _count_first(facet)
    if found is None:
        found = matching.aggregate({facet.field: _ask_terms(facet, size)})[facet.field]
    while size < MOST_BUCKETS and _is_cut_in_tie(found, facet.limit, size):
        size = min(4 * size, MOST_BUCKETS)
        found = matching.aggregate({facet.field: _ask_terms(facet, size)})[facet.field]
    return found


def _is_cut_in_tie(found: _Found, limit: int, size: int) -> bool:
    """Tells whether terms that are not among the ``size`` found may tie with the last one listed."""
    buckets = found["buckets"]
    if len(buckets) < size or found["doc_count_error_upper_bound"]:
        return False
    return bool(buckets[-1]["doc_count"] == buckets[limit - 1]["doc_count"])


def _list_starts(matching: _Matching, facet: CalendarFacet) -> Iterator[int]:
    """Lists where all periods begin that may have a value, newest first, each when it is asked for."""
    step = _STEPS[facet.interval]
    asked = {"field": facet.field, "interval": step, "min_doc_count": 1}
    found = matching.try_aggregate({facet.field: {"histogram": asked}})
    if not found:  # each of fewer buckets then may hold many periods
        step = asked["interval"] = step * COARSER
        found = matching.aggregate({facet.field: {"histogram": asked}})
    listed: int | None = None
    for key in sorted((bucket["key"] for bucket in found[facet.field]["buckets"]), reverse=True):
        for start in reversed(_list_starts_in(key, step, facet)):
            if listed is None or start < listed:  # buckets overlap by what rounding may move
                listed = start
                yield start


def _list_starts_in(key: float, step: int, facet: CalendarFacet) -> list[int]:
    first, last = int(key) - _ROUNDING_US, int(key) + step + _ROUNDING_US
    return list(find_periods(max(first, MIN_TIMESTAMP_US), min(last, MAX_TIMESTAMP_US), facet.interval))


def _read_value(key: Any, kind: FieldType) -> FieldScalar:
    match kind:
        case FieldType.KEYWORD:
            return read_keyword_term(key)
        case FieldType.BOOLEAN:
            return bool(key)
        case _:
            return int(key)
