"""Counts of the documents that match a search, by the values of a field: the requests, their validation, and
their meaning.

``count_facet`` is the meaning. An index counts in its engine's terms, and the tests hold it to this.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TypeAlias

from quarry.errors import (
    ConflictingFieldsError,
    InvalidArgumentError,
    OutOfRangeError,
    RequiredError,
    UnknownFieldError,
    WrongTypeError,
)
from quarry.filters import Range, matches
from quarry.schema import Field, FieldType, Schema, as_list, check_scalar
from quarry.types import Fields, FieldScalar

MAX_FACETS = 16
"""A search asks for at most so many facets."""
MAX_VALUES = 1_000
"""A facet lists at most so many values or periods."""
MAX_RANGES = 64
"""A facet counts at most so many ranges."""
DEFAULT_VALUES = 10
DEFAULT_PERIODS = 100

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Interval(StrEnum):
    """A period of the calendar, in UTC. A week begins on Monday."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"


@dataclass(frozen=True, slots=True)
class TermsFacet:
    """Counts the documents that have a value, for the ``limit`` most frequent values."""

    field: str
    limit: int = DEFAULT_VALUES


@dataclass(frozen=True, slots=True)
class RangesFacet:
    """Counts the documents with a value within each range; ranges may overlap."""

    field: str
    ranges: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class CalendarFacet:
    """Counts the documents with a value in a period, for the ``limit`` newest periods that have any."""

    field: str
    interval: Interval
    limit: int = DEFAULT_PERIODS


FacetRequest: TypeAlias = TermsFacet | RangesFacet | CalendarFacet


@dataclass(frozen=True, slots=True)
class FacetCount:
    """The number of documents with a value, or with one within a range.

    Attributes:
        value: what was counted; a ``Range`` of ranges and periods.
    """

    value: FieldScalar | Range
    count: int


@dataclass(frozen=True, slots=True)
class Facet:
    """The counts of one field.

    Attributes:
        counts: of terms the most frequent first, ties by value; ranges as they were asked for; periods oldest
            first.
        others: of terms, sum of the counts of the values that are not listed; of periods, documents with a
            value before the first one that is listed; 0 of ranges.
        exact: False if there are so many different values that some counts of terms may be too low.
    """

    field: str
    counts: tuple[FacetCount, ...]
    others: int = 0
    exact: bool = True


_TYPES: dict[type, tuple[FieldType, ...]] = {
    TermsFacet: (FieldType.KEYWORD, FieldType.BOOLEAN, FieldType.INTEGER),
    RangesFacet: (FieldType.INTEGER, FieldType.FLOAT, FieldType.TIMESTAMP),
    CalendarFacet: (FieldType.TIMESTAMP,),
}
_NAMES: dict[type, str] = {
    TermsFacet: "counted by value",
    RangesFacet: "counted by ranges",
    CalendarFacet: "counted by periods",
}


def check_facet(facet: FacetRequest, schema: Schema) -> FacetRequest:
    """Checks ``facet`` and returns it with every bound as it is stored.

    Raises:
        InvalidArgumentError: ``field`` is the path of what is wrong: a field that the schema lacks or that is
            not counted so, a limit out of range, no ranges or too many, a range without bounds.
    """
    field = _find_countable(facet, schema)
    match facet:
        case TermsFacet(_, limit):
            _check_limit("terms.limit", limit)
        case CalendarFacet(_, _, limit):
            _check_limit("calendar.limit", limit)
        case RangesFacet(_, ranges):
            if not ranges:
                raise RequiredError("ranges.ranges", "is empty")
            if len(ranges) > MAX_RANGES:
                raise OutOfRangeError("ranges.ranges", f"are {len(ranges)}, at most {MAX_RANGES}")
            checked = (_check_range(f"ranges.ranges[{n}]", r, field) for n, r in enumerate(ranges))
            return replace(facet, ranges=tuple(checked))
    return facet


def _find_countable(facet: FacetRequest, schema: Schema) -> Field:
    field = schema.get(facet.field)
    if field is None:
        raise UnknownFieldError("field", f"the schema has no field {facet.field[:80]!r}")
    if field.type not in _TYPES[type(facet)]:
        able = ", ".join(_TYPES[type(facet)])
        how = _NAMES[type(facet)]
        raise WrongTypeError("field", f"{field.name} is {field.type}, and only {able} can be {how}")
    return field


def _check_limit(path: str, limit: int) -> None:
    if not 1 <= limit <= MAX_VALUES:
        raise OutOfRangeError(path, f"{limit} is not 1 to {MAX_VALUES}")


def _check_range(path: str, bounds: Range, field: Field) -> Range:
    sides = {"gte": bounds.gte, "lt": bounds.lt}
    given = {side: value for side, value in sides.items() if value is not None}
    if not given:
        raise RequiredError(path, "has no bound")
    checked: dict[str, FieldScalar] = {}
    for side, value in given.items():
        try:
            checked[side] = check_scalar(value, field.type)
        except InvalidArgumentError as error:
            raise error.move_under(f"{path}.{side}") from None
    if len(checked) == 2 and checked["gte"] > checked["lt"]:  # type: ignore[operator]  # of one type
        raise ConflictingFieldsError(path, "begins after its end")
    return Range(field.name, **checked)


def count_facet(facet: FacetRequest, documents: Iterable[Fields]) -> Facet:
    """Counts all of ``documents`` for a checked ``facet``. A document counts once for each of its values."""
    match facet:
        case RangesFacet(name, ranges):
            held = list(documents)
            counts = (FacetCount(r, sum(matches(r, fields) for fields in held)) for r in ranges)
            return Facet(name, tuple(counts))
        case TermsFacet(name, limit):
            terms = Counter(value for fields in documents for value in set(as_list(fields.get(name))))
            return list_terms(name, terms.items(), limit)
        case CalendarFacet(name, interval, limit):
            moments = [as_list(fields.get(name)) for fields in documents]
            starts = [{find_period(moment, interval) for moment in several} for several in moments]
            newest = sorted(Counter(start for several in starts for start in several).items())[-limit:]
            older = sum(any(start < newest[0][0] for start in several) for several in starts)
            return list_periods(facet, newest, older)


def list_terms(name: str, terms: Iterable[tuple[FieldScalar, int]], limit: int) -> Facet:
    """Lists the ``limit`` most frequent of ``terms``, each of which comes with its count."""
    ordered = sorted(terms, key=lambda term: (-term[1], _make_key(term[0])))
    counts = tuple(FacetCount(value, count) for value, count in ordered[:limit])
    return Facet(name, counts, sum(count for _, count in ordered[limit:]))


def list_periods(facet: CalendarFacet, periods: Iterable[tuple[int, int]], older: int) -> Facet:
    """Lists ``periods``, each of which is its first moment and its count, oldest first.

    Args:
        older: documents with a value before them.
    """
    counts = tuple(FacetCount(make_period(facet, start), count) for start, count in sorted(periods))
    return Facet(facet.field, counts, older)


def find_period(moment: int, interval: Interval) -> int:
    """Finds the first moment of the period that ``moment`` is in; both in microseconds since 1970."""
    day = (_EPOCH + moment * _MICROSECOND).replace(hour=0, minute=0, second=0, microsecond=0)
    match interval:
        case Interval.WEEK:
            day -= timedelta(days=day.weekday())
        case Interval.MONTH:
            day = day.replace(day=1)
        case Interval.QUARTER:
            day = day.replace(day=1, month=day.month - (day.month - 1) % 3)
        case Interval.YEAR:
            day = day.replace(day=1, month=1)
    return (day - _EPOCH) // _MICROSECOND


def make_period(facet: CalendarFacet, start: int) -> Range:
    """Makes the range of the period that begins at ``start``; the last one of all years has no end."""
    end = _find_end(start, facet.interval)
    return Range(facet.field, gte=start, lt=end)


def find_periods(first: int, last: int, interval: Interval) -> Iterator[int]:
    """Finds the first moments of all periods from the one that has ``first`` to the one that has ``last``."""
    start: int | None = find_period(first, interval)
    while start is not None and start <= last:
        yield start
        start = _find_end(start, interval)


def _find_end(start: int, interval: Interval) -> int | None:
    longest = {
        Interval.DAY: 1,
        Interval.WEEK: 7,
        Interval.MONTH: 31,
        Interval.QUARTER: 92,
        Interval.YEAR: 366,
    }
    try:
        within = _EPOCH + start * _MICROSECOND + timedelta(days=longest[interval])
    except OverflowError:
        return None
    return find_period((within - _EPOCH) // _MICROSECOND, interval)


def _make_key(value: FieldScalar) -> bytes | FieldScalar:
    return value.encode() if isinstance(value, str) else value
