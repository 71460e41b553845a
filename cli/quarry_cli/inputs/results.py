"""The options `--facet` and `--order-by`: what a search counts, and what it is ordered by."""

from typing import Annotated

import typer

from quarry.v1 import search_service_pb2 as pb
from quarry_cli.inputs.values import FieldTypes, to_scalar

FacetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--facet",
        metavar="FIELD[:HOW]",
        help="Count what matches by the values of FIELD; repeatable, up to 16. HOW: day, week, month, "
        "quarter or year of a timestamp, or ranges such as 0..10,10..100,100..",
    ),
]
OrderOption = Annotated[
    list[str] | None,
    typer.Option(
        "--order-by",
        metavar="FIELD[:desc]",
        help="Order by a field instead of relevance, such as price:desc for the greatest first; up to 4, the "
        "first counts most.",
    ),
]
INTERVALS = ("day", "week", "month", "quarter", "year")
RANGE = ".."


def parse_facet(text: str, types: FieldTypes) -> pb.FacetRequest:
    """Parses one facet. Raises ValueError if it says neither periods nor ranges after its colon."""
    field, colon, how = text.partition(":")
    request = pb.FacetRequest(field=field)
    if how in INTERVALS:
        request.calendar.interval = pb.CalendarInterval.Value(f"CALENDAR_INTERVAL_{how.upper()}")
    elif RANGE in how:
        request.ranges.ranges.extend(_parse_range(bounds, field, types) for bounds in how.split(","))
    elif colon:
        raise ValueError(f"{how!r} is not {', '.join(INTERVALS)}, and no ranges such as 0..10,10..")
    return request


def _parse_range(text: str, field: str, types: FieldTypes) -> pb.FacetRange:
    low, dots, high = text.strip().partition(RANGE)
    if not dots:
        raise ValueError(f"{text!r} is no range such as 0..10")
    try:
        bounds = {
            side: to_scalar(value.strip(), types.get(field))
            for side, value in (("gte", low), ("lt", high))
            if value.strip()
        }
    except ValueError as error:
        raise ValueError(f"{text.strip()!r}: a bound {error}") from None
    return pb.FacetRange(**bounds)


def parse_orders(texts: list[str] | None) -> list[pb.OrderBy]:
    """Parses the fields of an order. Raises BadParameter for another direction than asc or desc."""
    orders: list[pb.OrderBy] = []
    for text in texts or ():
        field, colon, direction = text.partition(":")
        if colon and direction not in ("asc", "desc"):
            raise typer.BadParameter(f"--order-by: {direction!r} is not asc or desc")
        orders.append(pb.OrderBy(field=field, descending=direction == "desc"))
    return orders
