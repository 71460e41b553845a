"""Filter messages to domain filters."""

from quarry.errors import InvalidArgumentError, OutOfRangeError, RequiredError
from quarry.filters import (
    MAX_LEVELS,
    AllOf,
    AnyOf,
    EqualTo,
    Exists,
    Filter,
    NoneOf,
    OneOf,
    Prefix,
    Range,
    check_filter,
)
from quarry.schema import Schema
from quarry.types import FieldScalar
from quarry.v1 import types_pb2
from quarry_server.common.values import parse_scalar


def parse_filter(message: types_pb2.Filter, schema: Schema, path: str = "filter") -> Filter:
    """Parses the filter that ``message`` states, checked against ``schema``.

    Raises:
        InvalidArgumentError: ``field`` is the path of what is wrong, below ``path``.
    """
    try:
        return check_filter(_parse(message, 0), schema)
    except InvalidArgumentError as error:
        raise error.move_under(path) from None


def _parse(message: types_pb2.Filter, level: int) -> Filter:
    if level > MAX_LEVELS:
        raise OutOfRangeError("", f"is more than {MAX_LEVELS} levels deep")
    match message.WhichOneof("condition"):
        case "all_of":
            return AllOf(_parse_list("all_of", message.all_of, level))
        case "any_of":
            return AnyOf(_parse_list("any_of", message.any_of, level))
        case "none_of":
            return NoneOf(_parse_list("none_of", message.none_of, level))
        case "equal_to":
            return EqualTo(message.equal_to.field, _parse_scalar("equal_to.value", message.equal_to.value))
        case "one_of":
            return _parse_one_of(message.one_of)
        case "range":
            return _parse_range(message.range)
        case "exists":
            return Exists(message.exists.field)
        case "prefix":
            return Prefix(message.prefix.field, message.prefix.prefix)
    raise RequiredError("", "has no condition")


def _parse_below(path: str, message: types_pb2.Filter, level: int) -> Filter:
    try:
        return _parse(message, level + 1)
    except InvalidArgumentError as error:
        raise error.move_under(path) from None


def _parse_list(path: str, messages: types_pb2.FilterList, level: int) -> tuple[Filter, ...]:
    return tuple(_parse_below(f"{path}.filters[{i}]", m, level) for i, m in enumerate(messages.filters))


def _parse_one_of(message: types_pb2.OneOfFilter) -> OneOf:
    values = (_parse_scalar(f"one_of.values[{i}]", value) for i, value in enumerate(message.values))
    return OneOf(message.field, tuple(values))


def _parse_range(message: types_pb2.RangeFilter) -> Range:
    bounds = {
        side: _parse_scalar(f"range.{side}", getattr(message, side))
        for side in ("gt", "gte", "lt", "lte")
        if message.HasField(side)
    }
    return Range(message.field, **bounds)


def _parse_scalar(path: str, message: types_pb2.FieldValue) -> FieldScalar:
    try:
        return parse_scalar(message)
    except InvalidArgumentError as error:
        raise error.move_under(path) from None
