"""Filters on the command line: the Filter message as JSON, and what one condition on a field becomes."""

from collections.abc import Sequence

from google.protobuf.json_format import Parse, ParseError

from quarry.schema import FieldType
from quarry.v1 import types_pb2
from quarry_cli.inputs.schema_file import suggest
from quarry_cli.inputs.values import FieldTypes, to_scalar

BOUNDS = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}


def parse_filter(text: str) -> types_pb2.Filter:
    """Parses a Filter message from protobuf JSON. Raises ValueError."""
    try:
        return Parse(text, types_pb2.Filter(), max_recursion_depth=100)
    except ParseError as error:
        raise ValueError(f"is not a Filter message in JSON: {error}") from None


def compare(name: str, operator: str, value: str, types: FieldTypes) -> types_pb2.Filter:
    """Makes the filter of a condition: ``=``, ``!=``, ``<``, ``<=``, ``>``, ``>=`` or ``^=`` (prefix).

    The value takes the field's type. ``!=`` is the complement of ``=``, so it holds for documents without the
    field.

    Raises:
        ValueError: the field cannot have such a value, or the collection has no such field to filter on.
    """
    kind = find_filterable(name, types)
    if operator == "^=":
        return types_pb2.Filter(prefix=types_pb2.PrefixFilter(field=name, prefix=value))
    try:
        scalar = to_scalar(value, kind)
    except ValueError as error:
        raise ValueError(f"{name}: the value {error}") from None
    if operator in BOUNDS:
        bounds = types_pb2.RangeFilter(field=name)
        getattr(bounds, BOUNDS[operator]).CopyFrom(scalar)
        return types_pb2.Filter(range=bounds)
    equal = types_pb2.Filter(equal_to=types_pb2.EqualToFilter(field=name, value=scalar))
    return negate(equal) if operator == "!=" else equal


def find_filterable(name: str, types: FieldTypes) -> FieldType:
    """Finds the type of a field to filter on. Raises ValueError if there is none of this name."""
    known = tuple(field for field, kind in types.items() if kind is not FieldType.TEXT)
    if name in known:
        return types[name]
    if name in types:
        raise ValueError(f"{name} is text, which cannot be filtered on")
    fields = ", ".join(known) or "none: its schema names only text"
    raise ValueError(
        f"the collection's schema has no field {name}{suggest(name, known)} (fields to filter on: {fields})"
    )


def negate(inner: types_pb2.Filter) -> types_pb2.Filter:
    return types_pb2.Filter(none_of=types_pb2.FilterList(filters=[inner]))


def require_all(filters: Sequence[types_pb2.Filter]) -> types_pb2.Filter | None:
    """Joins the filters to one that holds if all hold; None for none."""
    if len(filters) < 2:
        return filters[0] if filters else None
    return types_pb2.Filter(all_of=types_pb2.FilterList(filters=filters))
