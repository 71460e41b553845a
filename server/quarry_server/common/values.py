"""Documents and their values: messages to domain and back."""

from google.protobuf import timestamp_pb2

from quarry.errors import (
    InvalidArgumentError,
    InvalidTokenError,
    OutOfRangeError,
    RequiredError,
    WrongTypeError,
)
from quarry.schema import MAX_TIMESTAMP_US, MIN_TIMESTAMP_US, FieldType, Microseconds, Schema
from quarry.types import Document, Fields, FieldScalar, FieldValue
from quarry.v1 import types_pb2

_MAX_NANOS = 999_999_999


def parse_fields(message: types_pb2.Document) -> dict[str, object]:
    """Parses the values of ``message``, not yet checked against a schema."""
    fields: dict[str, object] = {}
    for name, value in message.fields.items():
        try:
            fields[name] = parse_value(value)
        except InvalidArgumentError as error:
            raise error.move_under(f"fields.{name[:80]}") from None
    return fields


def parse_value(message: types_pb2.FieldValue) -> object:
    """Parses one value or a list of them. Raises InvalidArgumentError for a value without a kind."""
    kind = message.WhichOneof("kind")
    if kind == "list_value":
        return [_parse_scalar(item, item.WhichOneof("kind")) for item in message.list_value.values]
    return _parse_scalar(message, kind)


def parse_scalar(message: types_pb2.FieldValue) -> FieldScalar:
    """Parses one value. Raises InvalidArgumentError for a list, or a value without a kind."""
    return _parse_scalar(message, message.WhichOneof("kind"))


def _parse_scalar(message: types_pb2.FieldValue, kind: str | None) -> FieldScalar:
    match kind:
        case "string_value":
            return message.string_value
        case "integer_value":
            return message.integer_value
        case "float_value":
            return message.float_value
        case "boolean_value":
            return message.boolean_value
        case "timestamp_value":
            return parse_timestamp(message.timestamp_value)
        case "list_value":
            raise WrongTypeError("", "is a list where one value belongs; lists do not nest")
    raise RequiredError("", "has no value: leave the field out instead")


def parse_timestamp(message: timestamp_pb2.Timestamp) -> Microseconds:
    """Digits finer than a microsecond are cut. Raises InvalidArgumentError outside years 1 to 9999."""
    if not 0 <= message.nanos <= _MAX_NANOS:
        raise OutOfRangeError("", f"nanos is {message.nanos}, not 0 to {_MAX_NANOS}")
    value = message.seconds * 1_000_000 + message.nanos // 1_000
    if not MIN_TIMESTAMP_US <= value <= MAX_TIMESTAMP_US:
        raise OutOfRangeError("", "is not in the years 1 to 9999")
    return Microseconds(value)


def to_timestamp(value_us: int) -> timestamp_pb2.Timestamp:
    seconds, micros = divmod(value_us, 1_000_000)
    return timestamp_pb2.Timestamp(seconds=seconds, nanos=micros * 1_000)


def to_document_message(
    document: Document, schema: Schema, names: frozenset[str] | None = None
) -> types_pb2.Document:
    """Writes ``document`` with the fields called ``names``, or all."""
    message = types_pb2.Document(
        id=document.id,
        version=document.version,
        etag=make_etag(document.version),
        update_time=to_timestamp(document.update_time_us),
    )
    set_fields(message, document.fields, schema, names)
    return message


def set_fields(
    message: types_pb2.Document, fields: Fields, schema: Schema, names: frozenset[str] | None
) -> None:
    moments = {field.name for field in schema.fields if field.type is FieldType.TIMESTAMP}
    for name, value in fields.items():
        if names is None or name in names:
            _set_value(message.fields[name], value, name in moments)


def to_value_message(value: FieldValue, moment: bool) -> types_pb2.FieldValue:
    """Writes ``value``; a number of microseconds as a timestamp if it is a ``moment``."""
    message = types_pb2.FieldValue()
    _set_value(message, value, moment)
    return message


def _set_value(message: types_pb2.FieldValue, value: FieldValue, moment: bool) -> None:
    match value:
        case list():
            message.list_value.SetInParent()
            for item in value:
                _set_value(message.list_value.values.add(), item, moment)
        case bool():
            message.boolean_value = value
        case str():
            message.string_value = value
        case int() if moment:
            message.timestamp_value.CopyFrom(to_timestamp(value))
        case int():
            message.integer_value = value
        case float():
            message.float_value = value


def make_etag(version: int) -> str:
    return f'"{version}"'


def parse_etag(etag: str) -> int | None:
    """Parses the version that ``etag`` names; None for an empty one. Raises InvalidArgumentError."""
    if not etag:
        return None
    digits = etag[1:-1]
    if etag == f'"{digits}"' and digits.isascii() and digits.isdigit() and len(digits) < 20:
        return int(digits)
    raise InvalidTokenError("etag", "is not one that this server gave")
