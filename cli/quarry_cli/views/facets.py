"""Facets as a person reads them."""

from collections.abc import Iterator

from rich.text import Text

from quarry.v1 import search_service_pb2 as pb
from quarry.v1 import types_pb2
from quarry_cli.console import make_plain


def write_facet(facet: pb.Facet) -> Text:
    """Writes one line: the field, each value with its count, and the count of the others."""
    line = make_plain(facet.field, "bold")
    bounds = facet.relation == pb.TOTAL_RELATION_LOWER_BOUND
    at_least, at_most = ("at least ", "at most ") if bounds else ("", "")
    for name, count in _list_counts(facet):
        line.append("  ").append(make_plain(name)).append(f": {at_least}{count:,}", "green")
    if facet.others:
        line.append("  others").append(f": {at_most}{facet.others:,}", "green")
    return line if facet.counts or facet.others else line.append("  no document has a value", "dim")


def _list_counts(facet: pb.Facet) -> Iterator[tuple[str, int]]:
    for counted in facet.counts:
        if counted.HasField("range"):
            ends = [
                write_scalar(getattr(counted.range, side)) if counted.range.HasField(side) else ""
                for side in ("gte", "lt")
            ]
            yield "..".join(ends), counted.count
        else:
            yield write_scalar(counted.value) or '""', counted.count


def write_scalar(value: types_pb2.FieldValue) -> str:
    """Writes one value; a moment at midnight as its day."""
    match value.WhichOneof("kind"):
        case "timestamp_value":
            return value.timestamp_value.ToJsonString().removesuffix("T00:00:00Z")
        case "boolean_value":
            return str(value.boolean_value).lower()
        case "float_value":
            return f"{value.float_value:g}"
        case kind:
            return str(getattr(value, kind)) if kind else ""
