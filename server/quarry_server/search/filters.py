"""Filter messages to domain filters."""

from quarry.errors import InvalidArgumentError
from quarry.filters import (
    MAX_LEVELS,
    And,
    Equals,
    Exists,
    Filter,
    In,
    Not,
    Or,
    Prefix,
    Range,
    check_filter,
)
from quarry.schema import Schema
from quarry.types import FieldScalar
from quarry.v1 import types_pb2
from quarry_server.common.values import parse_scalar


def parse_filter(message: types_pb2.Filter, schema: Schema, path: str = "filter") -> Filter:
    """The filter that ``message`` states, checked against ``schema``.

    Raises:
        InvalidArgumentError: ``field`` is the path of what is wrong, below ``path``.
    """
    try:
        return check_filter(_parse(message, 0), schema)
    except InvalidArgumentError as error:
        raise error.under(path) from None


def _parse(message: types_pb2.Filter, level: int) -> Filter:
    if level > MAX_LEVELS:
        raise InvalidArgumentError("", f"is more than {MAX_LEVELS} levels deep")
    match message.WhichOneof("condition"):
        case "and":
            return And(_parse_list("and", getattr(message, "and"), level))
        case "or":
            return Or(_parse_list("or", getattr(message, "or"), level))
        case "not":
            return Not(_below("not", getattr(message, "not"), level))
        case "equals":
            return Equals(message.equals.field, _scalar("equals.value", message.equals.value))
        case "in":
            return _parse_in(getattr(message, "in"))
        case "range":
            return _parse_range(message.range)
        case "exists":
            return Exists(message.exists.field)
        case "prefix":
            return Prefix(message.prefix.field, message.prefix.prefix)
    raise InvalidArgumentError("", "has no condition")


def _below(path: str, message: types_pb2.Filter, level: int) -> Filter:
    try:
        return _parse(message, level + 1)
    except InvalidArgumentError as error:
        raise error.under(path) from None


def _parse_list(path: str, messages: types_pb2.FilterList, level: int) -> tuple[Filter, ...]:
    return tuple(_below(f"{path}.filters[{i}]", m, level) for i, m in enumerate(messages.filters))


def _parse_in(message: types_pb2.InFilter) -> In:
    values = (_scalar(f"in.values[{i}]", value) for i, value in enumerate(message.values))
    return In(message.field, tuple(values))


def _parse_range(message: types_pb2.RangeFilter) -> Range:
    bounds = {
        side: _scalar(f"range.{side}", getattr(message, side))
        for side in ("gt", "gte", "lt", "lte")
        if message.HasField(side)
    }
    return Range(message.field, **bounds)


def _scalar(path: str, message: types_pb2.FieldValue) -> FieldScalar:
    try:
        return parse_scalar(message)
    except InvalidArgumentError as error:
        raise error.under(path) from None
