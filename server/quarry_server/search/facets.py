"""Facets from and to messages."""

from collections.abc import Mapping, Sequence

from quarry.errors import ConflictingFieldsError, InvalidArgumentError, OutOfRangeError, UnknownValueError
from quarry.facets import (
    DEFAULT_PERIODS,
    DEFAULT_VALUES,
    MAX_FACETS,
    CalendarFacet,
    Facet,
    FacetRequest,
    Interval,
    RangesFacet,
    TermsFacet,
    check_facet,
)
from quarry.filters import Range
from quarry.schema import Schema
from quarry.v1 import search_service_pb2 as pb
from quarry_server.common.values import parse_scalar, to_value_message

_INTERVALS: Mapping[int, Interval] = {
    pb.CALENDAR_INTERVAL_DAY: Interval.DAY,
    pb.CALENDAR_INTERVAL_WEEK: Interval.WEEK,
    pb.CALENDAR_INTERVAL_MONTH: Interval.MONTH,
    pb.CALENDAR_INTERVAL_QUARTER: Interval.QUARTER,
    pb.CALENDAR_INTERVAL_YEAR: Interval.YEAR,
}


def parse_facets(request: pb.SearchRequest, schema: Schema) -> tuple[FacetRequest, ...]:
    """Parses the facets that ``request`` asks for, checked against ``schema``.

    Raises InvalidArgumentError with the path of what is wrong.
    """
    if len(request.facets) > MAX_FACETS:
        raise OutOfRangeError("facets", f"are {len(request.facets)}, at most {MAX_FACETS} are allowed")
    if request.facets and request.HasField("min_relevance"):
        problem = "are there beside min_relevance, and only what was read has a known relevance"
        raise ConflictingFieldsError("facets", problem)
    facets: list[FacetRequest] = []
    for index, message in enumerate(request.facets):
        try:
            facets.append(check_facet(_parse(message), schema))
        except InvalidArgumentError as error:
            raise error.move_under(f"facets[{index}]") from None
    return tuple(facets)


def _parse(message: pb.FacetRequest) -> FacetRequest:
    match message.WhichOneof("by"):
        case "ranges":
            ranges = (_parse_range(n, message) for n in range(len(message.ranges.ranges)))
            return RangesFacet(message.field, tuple(ranges))
        case "calendar":
            interval = _INTERVALS.get(message.calendar.interval)
            if interval is None:
                raise UnknownValueError("calendar.interval", f"{message.calendar.interval} is no interval")
            return CalendarFacet(message.field, interval, message.calendar.limit or DEFAULT_PERIODS)
    return TermsFacet(message.field, message.terms.limit or DEFAULT_VALUES)


def _parse_range(index: int, message: pb.FacetRequest) -> Range:
    bounds = message.ranges.ranges[index]
    given = {}
    for side in ("gte", "lt"):
        if bounds.HasField(side):
            try:
                given[side] = parse_scalar(getattr(bounds, side))
            except InvalidArgumentError as error:
                raise error.move_under(f"ranges.ranges[{index}].{side}") from None
    return Range(message.field, **given)


def to_facet_messages(facets: Sequence[Facet], request: pb.SearchRequest) -> list[pb.Facet]:
    """Writes the counts of the request's facets; none if they were not counted."""
    return [_to_message(facet, asked) for facet, asked in zip(facets, request.facets, strict=False)]


def _to_message(facet: Facet, asked: pb.FacetRequest) -> pb.Facet:
    relation = pb.TOTAL_RELATION_EXACT if facet.exact else pb.TOTAL_RELATION_LOWER_BOUND
    message = pb.Facet(field=facet.field, others=facet.others, relation=relation)
    for place, counted in enumerate(facet.counts):
        added = message.counts.add(count=counted.count)
        if not isinstance(counted.value, Range):
            added.value.CopyFrom(to_value_message(counted.value, moment=False))
        elif asked.HasField("ranges"):
            added.range.CopyFrom(asked.ranges.ranges[place])
        else:
            for side, bound in (("gte", counted.value.gte), ("lt", counted.value.lt)):
                if bound is not None:
                    getattr(added.range, side).CopyFrom(to_value_message(bound, moment=True))
    return message
