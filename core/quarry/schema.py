"""The fields of a collection's documents, and the values that they take."""

import math
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from quarry.errors import (
    ConflictingFieldsError,
    DuplicateError,
    InvalidArgumentError,
    OutOfRangeError,
    RequiredError,
    UnknownFieldError,
    UnknownValueError,
    WrongTypeError,
)
from quarry.types import Fields, FieldScalar, FieldValue

MAX_ID_BYTES = 512
MAX_KEYWORD_BYTES = 1_024
MAX_DOCUMENT_BYTES = 4 * 2**20
MAX_VALUES_PER_FIELD = 1_000
MAX_FIELDS = 256
MAX_INTEGER = 2**53 - 1
MIN_TIMESTAMP_US = -62_135_596_800_000_000  # 0001-01-01T00:00:00Z
MAX_TIMESTAMP_US = 253_402_300_799_999_999  # 9999-12-31T23:59:59.999999Z
MAX_BOOST = 100.0
TITLE_BOOST = 0.3
"""Of a title that is given no boost."""

CONTROL_CHARACTER = re.compile("[\x00-\x1f\x7f-\x9f]")
FIELD_NAME = re.compile(r"(?!.{65})[A-Za-z][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)*", re.DOTALL)
LANGUAGES = {
    "ar": "arabic", "da": "danish", "nl": "dutch", "en": "english", "fi": "finnish", "fr": "french",
    "de": "german", "el": "greek", "hu": "hungarian", "it": "italian", "no": "norwegian",
    "pt": "portuguese", "ro": "romanian", "ru": "russian", "es": "spanish", "sv": "swedish",
    "ta": "tamil", "tr": "turkish",
}  # fmt: skip
"""Languages that Tantivy has a stemmer for, by ISO 639-1 code."""
UNSTEMMED = frozenset({
    "af", "az", "be", "bg", "bn", "bs", "ca", "cs", "cy", "et", "eu", "fa", "ga", "gl", "gu", "he",
    "hi", "hr", "hy", "id", "is", "ja", "ka", "kk", "km", "kn", "ko", "lo", "lt", "lv", "mk", "ml",
    "mn", "mr", "ms", "mt", "my", "ne", "pa", "pl", "si", "sk", "sl", "sq", "sr", "sw", "te", "th",
    "tl", "uk", "ur", "uz", "vi", "zh",
})  # fmt: skip
"""Languages that Tantivy has no stemmer for, by ISO 639-1 code; docs/reference/languages.md says what each
gets."""


class Microseconds(int):
    """A moment that a caller gives: microseconds since 1970. Stored as a plain ``int``.

    A type of its own, so that a number is never taken for a moment, nor a moment for a number.
    """


class FieldType(StrEnum):
    TEXT = "text"
    KEYWORD = "keyword"
    INTEGER = "integer"
    FLOAT = "float"
    BOOLEAN = "boolean"
    TIMESTAMP = "timestamp"


class UnknownFields(StrEnum):
    REJECT = "reject"
    STORE = "store"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a schema.

    Attributes:
        name: a letter, then letters, digits and ``_``, or several such parts with dots between them; at most
            64 characters.
        type: what its values are.
        boost: TEXT: what a match here counts in BM25 beside the 1 that it counts anywhere, 0 to 100.
        language: TEXT: a key of ``LANGUAGES``, one of ``UNSTEMMED``, or ``none``: words of any language,
            without stemming.
        searchable: TEXT: whether BM25 searches it.
        embedded: TEXT: whether the encoder reads it.
        is_title: TEXT: whether it stands in front of each passage.

    Raises:
        InvalidArgumentError: an attribute is out of range.
    """

    name: str
    type: FieldType
    boost: float = 0.0
    language: str = "en"
    searchable: bool = True
    embedded: bool = True
    is_title: bool = False

    def __post_init__(self) -> None:
        if not FIELD_NAME.fullmatch(self.name):
            raise InvalidArgumentError(
                "name",
                f"{self.name[:80]!r} is not a letter followed by at most 63 letters, digits and _, or "
                "such parts joined by dots",
            )
        if not 0 <= self.boost <= MAX_BOOST:
            raise OutOfRangeError("boost", f"{self.boost} is not 0 to {MAX_BOOST:g}")
        if self.language != "none" and self.language not in LANGUAGES and self.language not in UNSTEMMED:
            known = ", ".join(sorted({*LANGUAGES, *UNSTEMMED}))
            raise UnknownValueError("language", f"{self.language[:80]!r} is not none, {known}")
        if self.is_title and self.type is not FieldType.TEXT:
            raise WrongTypeError("is_title", f"{self.name} is {self.type}, and a title is text")

    @property
    def filterable(self) -> bool:
        return self.type is not FieldType.TEXT


@dataclass(frozen=True, slots=True)
class Schema:
    """The fields of a collection.

    Raises:
        InvalidArgumentError: no fields, too many, two of one name, or two titles.
    """

    fields: tuple[Field, ...]
    unknown_fields: UnknownFields = UnknownFields.REJECT

    def __post_init__(self) -> None:
        if not 1 <= len(self.fields) <= MAX_FIELDS:
            raise OutOfRangeError("fields", f"there are {len(self.fields)}, not 1 to {MAX_FIELDS}")
        seen: set[str] = set()
        for index, field in enumerate(self.fields):
            if field.name in seen:
                raise DuplicateError(f"fields[{index}].name", f"{field.name!r} is there twice")
            seen.add(field.name)
        if sum(field.is_title for field in self.fields) > 1:
            raise ConflictingFieldsError("fields", "more than one field is the title")

    def get(self, name: str) -> Field | None:
        return next((field for field in self.fields if field.name == name), None)

    @property
    def title(self) -> Field | None:
        return next((field for field in self.fields if field.is_title), None)

    @property
    def searchable(self) -> tuple[Field, ...]:
        return tuple(f for f in self.fields if f.type is FieldType.TEXT and f.searchable)

    @property
    def embedded(self) -> tuple[Field, ...]:
        """TEXT fields that the encoder reads, the title left out."""
        return tuple(f for f in self.fields if f.type is FieldType.TEXT and f.embedded and not f.is_title)

    @property
    def filterable(self) -> tuple[Field, ...]:
        return tuple(f for f in self.fields if f.filterable)


DEFAULT_SCHEMA = Schema(
    (Field("title", FieldType.TEXT, boost=TITLE_BOOST, is_title=True), Field("text", FieldType.TEXT)),
    UnknownFields.STORE,
)


_NAMES: dict[type, str] = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a float",
    Microseconds: "a timestamp",
    list: "a list",
}


def check_id(document_id: str) -> None:
    """Raises InvalidArgumentError unless ``document_id`` is 1 to 512 bytes without control characters."""
    size = len(document_id.encode())
    if not 1 <= size <= MAX_ID_BYTES:
        kind = OutOfRangeError if size else RequiredError
        raise kind("id", f"has {size} bytes, not 1 to {MAX_ID_BYTES}")
    if CONTROL_CHARACTER.search(document_id):
        raise InvalidArgumentError("id", "holds a control character")


def check_scalar(value: Any, kind: FieldType) -> FieldScalar:
    """Checks ``value`` and returns it as it is stored in a field of type ``kind``.

    Raises:
        InvalidArgumentError: of another type, or out of the type's range.
    """
    match kind, value:
        case (FieldType.TEXT, str()):
            return value
        case (FieldType.KEYWORD, str()):
            size = len(value.encode())
            if size > MAX_KEYWORD_BYTES:
                raise OutOfRangeError("", f"has {size} bytes, a keyword at most {MAX_KEYWORD_BYTES}")
            return value
        case (FieldType.BOOLEAN, bool()):
            return value
        case (_, bool()):
            pass
        case (FieldType.TIMESTAMP, Microseconds()):
            if not MIN_TIMESTAMP_US <= value <= MAX_TIMESTAMP_US:
                raise OutOfRangeError("", "is not in the years 1 to 9999")
            return int(value)
        case (_, Microseconds()):
            pass
        case (FieldType.INTEGER, int()):
            if abs(value) > MAX_INTEGER:
                raise OutOfRangeError("", f"{value} is beyond 2^53 - 1: use a keyword for long ids")
            return value
        case (FieldType.FLOAT, int()) if abs(value) > MAX_INTEGER:
            raise OutOfRangeError("", f"{value} is beyond 2^53 - 1, where a float would round it")
        case (FieldType.FLOAT, int() | float()):
            if not math.isfinite(value):
                raise OutOfRangeError("", f"{value} is not finite")
            return float(value) + 0.0  # -0.0 becomes 0.0, which the engines would order before it
    raise WrongTypeError("", f"is {_NAMES.get(type(value), 'no value')}, not {kind}")


def check_value(value: Any, kind: FieldType) -> FieldValue:
    """Checks ``value``, one or a list, and returns it as it is stored. Raises InvalidArgumentError as
    ``check_scalar``."""
    if not isinstance(value, list):
        return check_scalar(value, kind)
    if len(value) > MAX_VALUES_PER_FIELD:
        raise OutOfRangeError("", f"has {len(value)} values, at most {MAX_VALUES_PER_FIELD} are allowed")
    return [check_scalar(item, kind) for item in value]  # type: ignore[return-value]  # one type for all


def check_unknown(value: Any) -> FieldValue:
    """Checks a value of a field that the schema does not name, and keeps it as it is."""
    match value:
        case bool() | str():
            return value
        case Microseconds():
            pass
        case int():
            return check_scalar(value, FieldType.INTEGER)
        case float():
            return check_scalar(value, FieldType.FLOAT)
        case list() if len({type(item) for item in value} - {bool, str, int, float}) == 0:
            if len(value) > MAX_VALUES_PER_FIELD:
                raise OutOfRangeError("", f"has {len(value)} values, over {MAX_VALUES_PER_FIELD}")
            return [check_unknown(item) for item in value]  # type: ignore[return-value]
    raise WrongTypeError("", "is of a type that only a field named in the schema can take")


def check_fields(fields: dict[str, Any], schema: Schema) -> Fields:
    """Checks ``fields`` and returns them as they are stored in a collection of this schema.

    Raises:
        InvalidArgumentError: ``field`` names the first one that is wrong.
    """
    if len(fields) > MAX_FIELDS:
        raise OutOfRangeError("fields", f"has {len(fields)} fields, at most {MAX_FIELDS} are allowed")
    checked: Fields = {}
    for name, value in fields.items():
        field = schema.get(name)
        try:
            if field is not None:
                checked[name] = check_value(value, field.type)
            elif schema.unknown_fields is UnknownFields.STORE and FIELD_NAME.fullmatch(name):
                checked[name] = check_unknown(value)
            else:
                raise UnknownFieldError("", "is not a field of this collection")
        except InvalidArgumentError as error:
            raise error.move_under(f"fields.{name[:80]}") from None
    return checked


def as_list(value: FieldValue | None) -> list[Any]:
    """Returns all values of a field: none, one or several."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
