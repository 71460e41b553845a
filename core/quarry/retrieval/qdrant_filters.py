"""Filters and field values in the terms of Qdrant, for the embedded engine and for the server alike.

The two have the same conditions under different classes; ``Conditions`` makes them. Where Qdrant means
something else than ``quarry.filters.matches`` does, the values are stored in another form: a boolean as 0
or 1, because the embedded engine takes True for 1 and finds nothing, and a timestamp as a date string,
because numeric ranges are doubles and lose microseconds beyond the year 2255. Qdrant has no order of
strings: a range of strings becomes the list of the values in it, found through the field's index.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from quarry.filters import AllOf, AnyOf, EqualTo, Exists, Filter, NoneOf, OneOf, Prefix, Range, matches
from quarry.schema import Field, FieldType, as_list
from quarry.types import Fields, FieldScalar

EPOCH = datetime(1970, 1, 1)  # naive on purpose: only ever added to, in UTC

C = TypeVar("C")
FieldTypes = Mapping[str, FieldType]


class Conditions(Protocol[C]):
    """Makes one engine's conditions.

    ``any_of`` nothing never holds and ``all_of`` nothing always does. Bounds are keyword arguments gt, gte,
    lt and lte, and one value of the field must lie between all of them.
    """

    def require_all(self, conditions: Sequence[C]) -> C: ...
    def require_any(self, conditions: Sequence[C]) -> C: ...
    def require_none(self, conditions: Sequence[C]) -> C: ...
    def has_value(self, key: str, values: list[str] | list[int]) -> C: ...
    def has_prefix(self, key: str, prefix: str) -> C: ...
    def has_number(self, key: str, **bounds: float) -> C: ...
    def has_time(self, key: str, **bounds: str) -> C: ...
    def has_field(self, key: str) -> C: ...


def list_field_types(fields: Iterable[Field]) -> FieldTypes:
    return {field.name: field.type for field in fields if field.filterable}


def format_timestamp(microseconds: int) -> str:
    """Formats microseconds since 1970 by RFC 3339, to the microsecond, years 1 to 9999."""
    return (EPOCH + timedelta(microseconds=microseconds)).isoformat(timespec="microseconds") + "Z"


def to_payload_key(name: str) -> str:
    """Returns the key of a field in payloads: to Qdrant a dot is a step into an object, so a hyphen stands
    for it, which no field's name holds."""
    return name.replace(".", "-")


def to_stored_scalar(value: Any, kind: FieldType) -> str | int | float:
    match kind:
        case FieldType.BOOLEAN:
            return int(value)
        case FieldType.TIMESTAMP:
            return format_timestamp(value)
        case FieldType.FLOAT:
            return float(value)
    return value  # type: ignore[no-any-return]  # a str or an int, as the schema has checked


def to_stored_fields(fields: Fields, types: FieldTypes) -> dict[str, list[str | int | float]]:
    """Returns the payload of ``fields``: always lists; fields that cannot be filtered on are left out."""
    return {
        to_payload_key(name): [to_stored_scalar(value, types[name]) for value in as_list(values)]
        for name, values in fields.items()
        if name in types
    }


def find_string_ranges(filter: Filter, types: FieldTypes) -> set[str]:
    """Finds the names of the fields whose distinct values ``spell_out`` needs."""
    match filter:
        case AllOf(filters) | AnyOf(filters) | NoneOf(filters):
            return set().union(*(find_string_ranges(f, types) for f in filters))
        case Range(name) if types[name] is FieldType.KEYWORD:
            return {name}
    return set()


def spell_out(filter: Filter, types: FieldTypes, values: Mapping[str, Sequence[str]]) -> Filter:
    """Rewrites ``filter`` with each range of strings as the ``values`` of its field that lie in it."""
    match filter:
        case AllOf(filters):
            return AllOf(tuple(spell_out(f, types, values) for f in filters))
        case AnyOf(filters):
            return AnyOf(tuple(spell_out(f, types, values) for f in filters))
        case NoneOf(filters):
            return NoneOf(tuple(spell_out(f, types, values) for f in filters))
        case Range(name) if types[name] is FieldType.KEYWORD:
            return OneOf(name, tuple(value for value in values[name] if matches(filter, {name: value})))
    return filter


def translate(filter: Filter, types: FieldTypes, conditions: Conditions[C]) -> C:
    """Translates a checked filter without ranges of strings to the engine's condition."""
    match filter:
        case AllOf(filters):
            return conditions.require_all([translate(f, types, conditions) for f in filters])
        case AnyOf(filters):
            return conditions.require_any([translate(f, types, conditions) for f in filters])
        case NoneOf(filters):
            return conditions.require_none([translate(f, types, conditions) for f in filters])
        case EqualTo(name, value):
            return _has_any(name, (value,), types[name], conditions)
        case OneOf(name, values):
            return _has_any(name, values, types[name], conditions)
        case Exists(name):
            return conditions.has_field(to_payload_key(name))
        case Prefix(name, prefix):
            return conditions.has_prefix(to_payload_key(name), prefix)
        case Range():
            return _has_between(filter, types[filter.field], conditions)


def _has_any(name: str, values: Sequence[FieldScalar], kind: FieldType, conditions: Conditions[C]) -> C:
    key = to_payload_key(name)
    stored: list[Any] = [to_stored_scalar(value, kind) for value in values]
    if not stored:
        return conditions.require_any([])
    match kind:
        case FieldType.FLOAT:
            return conditions.require_any([conditions.has_number(key, gte=v, lte=v) for v in stored])
        case FieldType.TIMESTAMP:
            return conditions.require_any([conditions.has_time(key, gte=v, lte=v) for v in stored])
    return conditions.has_value(key, stored)


def _has_between(range: Range, kind: FieldType, conditions: Conditions[C]) -> C:
    key = to_payload_key(range.field)
    sides = {side: getattr(range, side) for side in ("gt", "gte", "lt", "lte")}
    bounds: dict[str, Any] = {side: to_stored_scalar(v, kind) for side, v in sides.items() if v is not None}
    if kind is FieldType.TIMESTAMP:
        return conditions.has_time(key, **bounds)
    return conditions.has_number(key, **{side: float(bound) for side, bound in bounds.items()})
