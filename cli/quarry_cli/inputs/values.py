"""Values of files and of the command line, converted to what a collection's schema asks for."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from quarry.schema import MAX_INTEGER, MAX_TIMESTAMP_US, MIN_TIMESTAMP_US, FieldType
from quarry.v1 import collection_service_pb2, types_pb2

FieldTypes = Mapping[str, FieldType]
"""Types of a collection's fields by name; a field that it lacks takes any scalar or list."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EPOCH_SECONDS = re.compile(r"\d{9,10}(\.\d+)?")
BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


def list_field_types(schema: collection_service_pb2.Schema) -> dict[str, FieldType]:
    """Lists types of the schema's fields by name."""
    prefix, names = "SCHEMA_FIELD_TYPE_", collection_service_pb2.SchemaFieldType.Name
    return {f.name: FieldType(names(f.type).removeprefix(prefix).lower()) for f in schema.fields}


def to_field_value(value: Any, kind: FieldType | None) -> types_pb2.FieldValue:
    """Converts ``value``, one or a list, to a field of type ``kind``; None: as whatever it is.

    Raises:
        ValueError: it cannot be such a value; the message continues "the value ...".
    """
    if not isinstance(value, list | tuple):
        return to_scalar(value, kind)
    items = [to_scalar(item, kind) for item in value]
    return types_pb2.FieldValue(list_value=types_pb2.FieldValueList(values=items))


def to_scalar(value: Any, kind: FieldType | None) -> types_pb2.FieldValue:
    """Converts one value to a field of type ``kind``. Raises ValueError as ``to_field_value``."""
    match kind:
        case None:
            return _convert_untyped(value)
        case FieldType.TEXT | FieldType.KEYWORD:
            return types_pb2.FieldValue(string_value=_to_string(value))
        case FieldType.INTEGER:
            return types_pb2.FieldValue(integer_value=_to_integer(value))
        case FieldType.FLOAT:
            return types_pb2.FieldValue(float_value=_to_float(value))
        case FieldType.BOOLEAN:
            return types_pb2.FieldValue(boolean_value=_to_boolean(value))
        case FieldType.TIMESTAMP:
            scalar = types_pb2.FieldValue()
            scalar.timestamp_value.FromMicroseconds(to_microseconds(value))
            return scalar


def _convert_untyped(value: Any) -> types_pb2.FieldValue:
    match value:
        case bool():
            return types_pb2.FieldValue(boolean_value=value)
        case int():
            return types_pb2.FieldValue(integer_value=_to_integer(value))
        case float():
            return types_pb2.FieldValue(float_value=_to_float(value))
        case str():
            return types_pb2.FieldValue(string_value=value)
        case date():
            return types_pb2.FieldValue(string_value=value.isoformat())
    raise ValueError(
        f"is {_name_kind(value)}; a field holds strings, numbers, booleans, or a list of one of these"
    )


def _to_string(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):  # of a field that has strings in other documents
        return str(value)
    if isinstance(value, date):
        return value.isoformat()
    raise ValueError(f"is {_name_kind(value)}, not a string")


def _to_integer(value: Any) -> int:
    number: int | None = None
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,20}\s*", value, re.ASCII):
        number = int(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, float) and value.is_integer():  # columns with gaps arrive as floats
        number = int(value)
    if number is None:
        raise ValueError(f"is {_name_kind(value)}, not a whole number")
    if abs(number) > MAX_INTEGER:
        raise ValueError(f"is {number}, beyond 2^53 - 1: use a keyword for long ids")
    return number


def _to_float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"is {_name_kind(value)}, not a number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise ValueError(f"is {_name_kind(value)}, not a number") from None
    if not math.isfinite(number):
        raise ValueError(f"is {number}, not a finite number")
    return number


def _to_boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    known = BOOLEANS.get(str(value).strip().lower()) if isinstance(value, str | int) else None
    if known is None:
        raise ValueError(f"is {_name_kind(value)}, not true or false")
    return known


def to_microseconds(value: Any) -> int:
    """Converts a moment to microseconds since 1970.

    A number is seconds since 1970, as is a string of 9 or 10 digits with or without a fraction; any
    other string is ISO 8601 with separators, in UTC unless it says otherwise. Digits without separators
    that could be a date (20240131) are refused: read as seconds they would be wrong without a trace.
    """
    if isinstance(value, str) and EPOCH_SECONDS.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float | str | date):
        raise ValueError(f"is {_name_kind(value)}, not a time")
    if isinstance(value, int | float):
        if not math.isfinite(value):
            raise ValueError(f"is {value}, not a time")
        moment = round(value * 1_000_000)
    else:
        moment = (_parse_moment(value) - EPOCH) // timedelta(microseconds=1)
    if not MIN_TIMESTAMP_US <= moment <= MAX_TIMESTAMP_US:
        raise ValueError(f"is {value}: not in the years 1 to 9999 as seconds since 1970 (milliseconds?)")
    return moment


def _parse_moment(value: str | date) -> datetime:
    if isinstance(value, str):
        text = value.strip()
        try:
            if text.isdigit():
                raise ValueError
            value = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(f"is {_name_kind(text)}, not a time such as 2026-11-22T16:30:00Z") from None
    elif not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _name_kind(value: Any) -> str:
    match value:
        case str():
            return repr(value[:60])
        case dict():
            return "an object"
        case list() | tuple():
            return "a list in a list"
        case None:
            return "null"
        case _:
            return repr(value)[:60]
