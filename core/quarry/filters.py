"""Conditions on documents: the types, their validation, and their meaning.

``matches`` is the meaning. Both arms translate filters into their engines' terms, and the tests hold
each translation to ``matches``. docs/reference/filters.md has the same in a table.
"""

from dataclasses import dataclass, replace
from typing import Any

from quarry.errors import (
    ConflictingFieldsError,
    InvalidArgumentError,
    OutOfRangeError,
    RequiredError,
    UnknownFieldError,
    WrongTypeError,
)
from quarry.schema import Field, FieldType, Schema, as_list, check_scalar
from quarry.types import Fields, FieldScalar

MAX_CONDITIONS = 1_024
MAX_LEVELS = 16


@dataclass(frozen=True, slots=True)
class AllOf:
    """Holds if all hold; so the empty one always does."""

    filters: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Holds if any holds; so the empty one never does."""

    filters: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class NoneOf:
    """Holds if none holds, where a field is missing, too; so the empty one always does."""

    filters: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class EqualTo:
    """The field has this value."""

    field: str
    value: FieldScalar


@dataclass(frozen=True, slots=True)
class OneOf:
    """The field has one of these values."""

    field: str
    values: tuple[FieldScalar, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """One value of the field lies between all bounds given. Strings compare by UTF-8 bytes."""

    field: str
    gt: FieldScalar | None = None
    gte: FieldScalar | None = None
    lt: FieldScalar | None = None
    lte: FieldScalar | None = None


@dataclass(frozen=True, slots=True)
class Exists:
    """The field has a value."""

    field: str


@dataclass(frozen=True, slots=True)
class Prefix:
    """One value of the KEYWORD field starts with ``prefix``."""

    field: str
    prefix: str


Filter = AllOf | AnyOf | NoneOf | EqualTo | OneOf | Range | Exists | Prefix


def check_filter(filter: Filter, schema: Schema) -> Filter:
    """Checks ``filter`` and returns it with every value as it is stored.

    Raises:
        InvalidArgumentError: ``field`` is the path of what is wrong, from the filter's root: an
            unknown or unfilterable field, a value of the wrong type, a range without bounds or with
            two on one side, too many levels or conditions.
    """
    _check_size(filter)
    return _check(filter, schema)


def _check_size(filter: Filter) -> None:
    conditions, level = 0, [filter]
    for _ in range(MAX_LEVELS):
        conditions += sum(len(f.values) if isinstance(f, OneOf) else 1 for f in level)
        level = [child for f in level for child in _list_children(f)]
        if conditions > MAX_CONDITIONS or len(level) > MAX_CONDITIONS:
            raise OutOfRangeError("", f"has more than {MAX_CONDITIONS} conditions and values")
        if not level:
            return
    raise OutOfRangeError("", f"is more than {MAX_LEVELS} levels deep")


def _list_children(filter: Filter) -> tuple[Filter, ...]:
    match filter:
        case AllOf(filters) | AnyOf(filters) | NoneOf(filters):
            return filters
    return ()


def _check(filter: Filter, schema: Schema) -> Filter:
    match filter:
        case AllOf(filters):
            return AllOf(_check_list("all_of", filters, schema))
        case AnyOf(filters):
            return AnyOf(_check_list("any_of", filters, schema))
        case NoneOf(filters):
            return NoneOf(_check_list("none_of", filters, schema))
        case EqualTo(name, value):
            field = _find_filterable("equal_to", name, schema)
            return EqualTo(name, _check_value("equal_to.value", value, field))
        case OneOf(name, values):
            field = _find_filterable("one_of", name, schema)
            return OneOf(
                name, tuple(_check_value(f"one_of.values[{i}]", v, field) for i, v in enumerate(values))
            )
        case Range():
            return _check_range(filter, _find_filterable("range", filter.field, schema))
        case Exists(name):
            _find_filterable("exists", name, schema)
            return filter
        case Prefix(name, prefix):
            field = _find_filterable("prefix", name, schema)
            if field.type is not FieldType.KEYWORD:
                raise WrongTypeError("prefix.field", f"{name} is {field.type}, not keyword")
            _check_value("prefix.prefix", prefix, field)
            return filter


def _check_below(path: str, filter: Filter, schema: Schema) -> Filter:
    try:
        return _check(filter, schema)
    except InvalidArgumentError as error:
        raise error.move_under(path) from None


def _check_list(path: str, filters: tuple[Filter, ...], schema: Schema) -> tuple[Filter, ...]:
    return tuple(_check_below(f"{path}.filters[{i}]", f, schema) for i, f in enumerate(filters))


def _check_range(filter: Range, field: Field) -> Range:
    bounds = {side: getattr(filter, side) for side in ("gt", "gte", "lt", "lte")}
    given = {side: value for side, value in bounds.items() if value is not None}
    if field.type is FieldType.BOOLEAN:
        raise WrongTypeError("range.field", f"{field.name} is boolean, which has no order")
    if not given:
        raise RequiredError("range", "has no bound")
    for pair in (("gt", "gte"), ("lt", "lte")):
        if given.keys() >= set(pair):
            raise ConflictingFieldsError("range", f"has both {pair[0]} and {pair[1]}")
    checked: dict[str, Any] = {
        side: _check_value(f"range.{side}", value, field) for side, value in given.items()
    }
    return replace(filter, **checked)


def _find_filterable(path: str, name: str, schema: Schema) -> Field:
    field = schema.get(name)
    if field is None:
        raise UnknownFieldError(f"{path}.field", f"the schema has no field {name[:80]!r}")
    if not field.filterable:
        raise WrongTypeError(f"{path}.field", f"{name} is text, which cannot be filtered on")
    return field


def _check_value(path: str, value: Any, field: Field) -> FieldScalar:
    try:
        return check_scalar(value, field.type)
    except InvalidArgumentError as error:
        raise error.move_under(path) from None


def matches(filter: Filter, fields: Fields) -> bool:
    """Tells whether a document with these ``fields`` passes a checked ``filter``."""
    match filter:
        case AllOf(filters):
            return all(matches(f, fields) for f in filters)
        case AnyOf(filters):
            return any(matches(f, fields) for f in filters)
        case NoneOf(filters):
            return not any(matches(f, fields) for f in filters)
        case EqualTo(name, value):
            return value in as_list(fields.get(name))
        case OneOf(name, values):
            return any(value in values for value in as_list(fields.get(name)))
        case Exists(name):
            return bool(as_list(fields.get(name)))
        case Prefix(name, prefix):
            return any(value.startswith(prefix) for value in as_list(fields.get(name)))
        case Range():
            return any(_is_within(filter, value) for value in as_list(fields.get(filter.field)))


def _is_within(bounds: Range, value: FieldScalar) -> bool:
    def make_key(bound: FieldScalar) -> Any:
        return bound.encode() if isinstance(bound, str) else bound

    return (
        (bounds.gt is None or make_key(value) > make_key(bounds.gt))
        and (bounds.gte is None or make_key(value) >= make_key(bounds.gte))
        and (bounds.lt is None or make_key(value) < make_key(bounds.lt))
        and (bounds.lte is None or make_key(value) <= make_key(bounds.lte))
    )
