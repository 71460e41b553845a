"""The type of a field: the narrowest one that holds all its values without loss."""

import math
import re
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

from quarry.schema import MAX_INTEGER, MAX_KEYWORD_BYTES, FieldType
from quarry_cli.inputs.values import to_microseconds

WHOLE = re.compile(r"-?(0|[1-9]\d{0,15})", re.ASCII)
"""Without zeros in front, which a number would lose: postal codes and part numbers stay keywords."""
DECIMAL = re.compile(r"[+-]?(0|[1-9]\d*)?\.\d+([eE][+-]?\d+)?|-?(0|[1-9]\d*)(\.\d*)?([eE][+-]\d+)?", re.ASCII)
LONG_INTEGER = re.compile(r"-?\d{16,}", re.ASCII)
ISO_DAY = re.compile(r"\d{4}-\d\d-\d\d")
ADDRESS = re.compile(
    r"(?:[a-z][a-z0-9+.-]{1,20}://|www\.|mailto:)\S+|[^\s@]+@[^\s@]+\.[^\s@.]+", re.IGNORECASE
)
"""A URL or an e-mail address."""
WORD = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{1,2}|\w+")
"""A word; in scripts without spaces, two letters."""
AMOUNTS = frozenset(
    {"price", "cost", "amount", "fee", "salary", "total", "rating", "score", "weight", "height", "width"}
    | {"length", "depth", "distance", "latitude", "longitude", "lat", "lon", "lng", "percent", "ratio"}
)
"""Names of values that have fractions even if the first ones have none."""
PROSE = frozenset({"text", "body", "description", "content", "summary", "abstract", "question", "answer"})
LABELS = frozenset(
    {
        "category",
        "categories",
        "type",
        "kind",
        "status",
        "brand",
        "color",
        "colour",
        "size",
        "country",
        "city",
    }
    | {"state", "region", "language", "lang", "currency", "tag", "tags", "genre", "department", "gender"}
)
PROSE_WORDS, LABEL_WORDS = 8, 4
"""Words of a value, on average, from which it is prose; and below which a name decides that it is a label."""
MOSTLY, HALF = 0.9, 0.5


def is_nan(value: Any) -> bool:
    """Tells whether a text of a column of numbers says that there is none."""
    return isinstance(value, str) and value.strip().casefold() == "nan"


def find_type(name: str, values: Sequence[Any]) -> FieldType:
    """Finds the type that holds every value as it is.

    Args:
        name: of the field: it decides where values leave it open.
        values: one or more, none of them a list.
    """
    numbers = [value for value in values if not is_nan(value)] or values
    for kind, fits in TESTS:
        given = numbers if kind in (FieldType.INTEGER, FieldType.FLOAT) else values
        if all(map(fits, given)):
            whole = kind is FieldType.INTEGER and split_name(name) & AMOUNTS
            return FieldType.FLOAT if whole else kind
    strings = [value if isinstance(value, str) else str(value) for value in values]
    return FieldType.TEXT if is_prose(name, strings) else FieldType.KEYWORD


def is_boolean(value: Any) -> bool:
    return isinstance(value, bool) or (
        isinstance(value, str) and value.strip().casefold() in ("true", "false")
    )


def is_whole(value: Any) -> bool:
    if isinstance(value, str):
        return bool(WHOLE.fullmatch(value.strip())) and abs(int(value)) <= MAX_INTEGER
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_INTEGER


def is_number(value: Any) -> bool:
    if isinstance(value, str):
        text = value.strip()
        long = bool(LONG_INTEGER.fullmatch(text)) and abs(int(text)) > MAX_INTEGER
        return bool(text) and bool(DECIMAL.fullmatch(text)) and not long and math.isfinite(float(text))
    return is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def is_moment(value: Any) -> bool:
    """Tells whether it is a date, or a string that begins as one in ISO 8601 and is one."""
    if isinstance(value, str) and not ISO_DAY.match(value.strip()):
        return False
    if not isinstance(value, str | date):
        return False
    try:
        to_microseconds(value)
    except ValueError:
        return False
    return True


TESTS: tuple[tuple[FieldType, Callable[[Any], bool]], ...] = (
    (FieldType.BOOLEAN, is_boolean),
    (FieldType.INTEGER, is_whole),
    (FieldType.FLOAT, is_number),
    (FieldType.TIMESTAMP, is_moment),
)
"""The narrow types, the narrowest first."""


def is_prose(name: str, strings: Sequence[str]) -> bool:
    """Tells whether people would search for words of these strings: they have several words, and seldom the
    same. URLs and addresses have none."""
    if not fits_keyword(strings):
        return True
    count = len(strings)
    if sum(bool(ADDRESS.fullmatch(string.strip())) for string in strings) >= MOSTLY * count:
        return False
    lengths = [
        len(WORD.findall(string)) if not string.isascii() or " " in string.strip() else 1
        for string in strings
    ]
    words, names = sum(lengths) / count, split_name(name)
    if words >= PROSE_WORDS or names & PROSE:
        return True
    if names & LABELS and words < LABEL_WORDS:
        return False
    several = sum(length > 1 for length in lengths)
    return several >= HALF * count and len(set(strings)) >= HALF * count


def fits_keyword(strings: Sequence[str]) -> bool:
    return all(len(string.encode("utf-8", "surrogatepass")) <= MAX_KEYWORD_BYTES for string in strings)


def split_name(name: str) -> set[str]:
    """Splits the last part of a field's name into its words, in lower case: ``unitPrice`` has ``price``."""
    last = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.rpartition(".")[2])
    return set(last.casefold().split("_"))
