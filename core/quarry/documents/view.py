"""Documents as a schema reads them that was not yet there when they were stored.

The log keeps what was written. After a change of schema it holds values of both, so a field that was
changed is converted whenever it is read; that is cheap, loses nothing and needs no rewriting. A value is
converted only where its text or number says one thing: ``"42"`` is 42, ``"4 items"`` is no number.
"""

import re
from collections.abc import Callable

from quarry.errors import InvalidArgumentError, UnknownFieldError, WrongTypeError
from quarry.schema import (
    Field,
    FieldType,
    Schema,
    UnknownFields,
    as_list,
    check_scalar,
    check_unknown,
)
from quarry.types import Fields, FieldScalar, FieldValue

INTEGER = re.compile(r"0|-?[1-9][0-9]{0,15}")
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
BOOLEANS = {"true": True, "false": False}

View = Callable[[Fields], Fields]


def as_stored(fields: Fields) -> Fields:
    """Returns the view of a collection whose schema has never changed."""
    return fields


def make_view(schema: Schema, mixed_fields: frozenset[str] | None) -> View:
    """Makes the view through which ``schema`` reads documents; ``mixed_fields`` are the ``Collection``'s."""
    return as_stored if mixed_fields is None else DocumentView(schema, mixed_fields)


def find_changed_fields(old: Schema, new: Schema) -> frozenset[str]:
    """Finds names of the fields whose stored values the two schemas read differently."""
    names = {field.name for schema in (old, new) for field in schema.fields}
    return frozenset(name for name in names if _find_type(old, name) is not _find_type(new, name))


def check_readable(old: Schema, new: Schema) -> None:
    """Raises InvalidArgumentError if no document could tell what a value means under ``new``."""
    for field in old.fields:
        kept = new.get(field.name)
        if field.type is FieldType.TIMESTAMP and kept is None and new.unknown_fields is UnknownFields.STORE:
            problem = f"{field.name} is a timestamp, which an unknown field would show as a number"
            raise WrongTypeError("fields", problem)


class DocumentView:
    """Reads stored fields by a schema. What does not convert is left out.

    Args:
        changed: names of the fields of which the log may hold values of another schema.
    """

    def __init__(self, schema: Schema, changed: frozenset[str]) -> None:
        self._schema, self._changed = schema, changed
        self._fields = {field.name: field for field in schema.fields}
        self._keeps_unknown = schema.unknown_fields is UnknownFields.STORE

    def __call__(self, fields: Fields) -> Fields:
        read: Fields = {}
        for name, value in fields.items():
            if name not in self._changed:
                if self._keeps_unknown or name in self._fields:
                    read[name] = value
                continue
            try:
                read[name] = self._convert(name, value)
            except InvalidArgumentError:
                continue
        return read

    def check(self, fields: Fields, written: Schema, returning: bool = False) -> None:
        """Checks that this schema reads all of ``fields`` rightly, which were valid under ``written``.

        Args:
            returning: this schema was there before ``written``, and knows what that has hidden since.

        Raises:
            InvalidArgumentError: a value would be lost or misread; ``field`` names it.
        """
        for name in sorted(self._changed & fields.keys()):
            if name not in self._fields and not self._keeps_unknown:
                continue  # the field was removed, on purpose
            hidden = written.get(name) is None and written.unknown_fields is UnknownFields.REJECT
            if not (hidden and returning):
                self._check_moment(name, fields[name], written, hidden)
            try:
                self._convert(name, fields[name])
            except InvalidArgumentError as error:
                raise error.move_to(name) from None

    def _check_moment(self, name: str, value: FieldValue, written: Schema, hidden: bool) -> None:
        """A moment is stored as a number, so only its field's type tells it from one."""
        types = {_find_type(self._schema, name), _find_type(written, name)}
        if hidden and any(type(item) is int for item in as_list(value)):
            raise InvalidArgumentError(name, "holds a number from before this field was removed")
        if not hidden and FieldType.TIMESTAMP in types and len(types) > 1:
            raise WrongTypeError(name, "has a value, and none becomes a timestamp or stops being one")

    def _convert(self, name: str, value: FieldValue) -> FieldValue:
        field = self._fields.get(name)
        if field is None:
            if not self._keeps_unknown:
                raise UnknownFieldError("", "is not a field of this collection")
            return check_unknown(value)
        if not isinstance(value, list):
            return _check_scalar(field, value)
        return [_check_scalar(field, item) for item in value]  # type: ignore[return-value]  # one type for all


def _check_scalar(field: Field, value: FieldScalar) -> FieldScalar:
    if field.type is FieldType.TIMESTAMP:
        if type(value) is int:
            return value
        raise WrongTypeError("", "is no timestamp")
    return check_scalar(_as(field.type, value), field.type)


def _as(kind: FieldType, value: FieldScalar) -> FieldScalar:
    """Converts ``value`` to the type that ``kind`` stores; unchanged where there is no such value."""
    match kind, value:
        case (FieldType.TEXT | FieldType.KEYWORD, bool()):
            return str(value).lower()
        case (FieldType.TEXT | FieldType.KEYWORD, int()):
            return str(value)
        case (FieldType.TEXT | FieldType.KEYWORD, float()):
            return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
        case (FieldType.INTEGER, float()) if value.is_integer():
            return int(value)
        case (FieldType.INTEGER, str()) if INTEGER.fullmatch(value):
            return int(value)
        case (FieldType.FLOAT, str()) if NUMBER.fullmatch(value):
            return float(value)
        case (FieldType.BOOLEAN, str()):
            return BOOLEANS.get(value, value)
    return value


def _find_type(schema: Schema, name: str) -> FieldType | None:
    field = schema.get(name)
    return None if field is None else field.type
