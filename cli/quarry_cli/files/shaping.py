"""From the names and values of a file to those of fields: objects in objects, renamed columns, no value."""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from quarry.schema import FIELD_NAME
from quarry_cli.failures import CliError

BEIR_ID = "_id"
DEEPEST = 20
"""Objects in objects at most: a name of a field has 64 characters."""
NOT_OF_A_NAME = re.compile(r"[^A-Za-z0-9_]+")
LETTERS = str.maketrans(
    {"ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L"}
)


@dataclass(slots=True)
class Shaper:
    """Makes fields of rows.

    Attributes:
        mapping: names that replace those of the file; an empty one leaves the field out.
        names: the field's name of each name that the file has shown so far.
        not_numbers: values that were NaN, and are no values.
        binary: how many binary values each field had, which are no values either.
    """

    mapping: Mapping[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    not_numbers: int = 0
    binary: Counter[str] = field(default_factory=Counter)

    @property
    def new_names(self) -> dict[str, str]:
        """Fields whose names nobody asked for, by the names of the file."""
        return {
            old: new
            for old, new in self.names.items()
            if old not in (new, BEIR_ID) and old not in self.mapping
        }

    @property
    def unused_names(self) -> list[str]:
        """Names that the mapping has and no record so far."""
        return [old for old in self.mapping if old not in self.names]

    def make_fields(self, content: dict[str, Any]) -> dict[str, Any]:
        """Returns the values by field name, those that are none left out.

        Raises:
            ValueError: it is nested too deeply, one field has two values, or a list holds lists or objects.
            CliError: a name cannot be a field's, or two are the same.
        """
        fields: dict[str, Any] = {}
        for old, value in flatten_object(content):
            new = self.names.get(old)
            if new is None:
                new = self._add_name(old)
            if not new:
                continue
            try:
                value = self._read_value(value, new)
            except ValueError as error:
                raise ValueError(f"{new} {error}; --map '{old}=' leaves it out") from None
            if value is None:
                continue
            if new in fields:
                raise ValueError(f"has two values for {new}")
            fields[new] = value
        return fields

    def _add_name(self, old: str) -> str:
        wanted = self.mapping.get(old, old)
        new = wanted if old in self.mapping or old == BEIR_ID else to_field_name(wanted)
        left_out = old in self.mapping and not new
        if not left_out and new != BEIR_ID and not FIELD_NAME.fullmatch(new):
            advice = f"--map '{old}=NAME' gives it one, --map '{old}=' leaves it out"
            raise CliError(f"{old!r:.80} is no name of a field, and none can be made of it", advice)
        if twin := next((key for key, name in self.names.items() if new and name == new), ""):
            raise CliError(
                f"{twin!r:.80} and {old!r:.80} are both the field {new}", "--map OLD=NEW renames one"
            )
        self.names[old] = new
        return new

    def _read_value(self, value: Any, name: str) -> Any:
        """Returns the value, one or a list, or None for what is none."""
        if isinstance(value, list | tuple):
            return [read for one in value if (read := self._read_scalar(one, name)) is not None] or None
        return self._read_scalar(value, name)

    def _read_scalar(self, value: Any, name: str) -> Any:
        if isinstance(value, str):
            return value
        if isinstance(value, list | tuple | Mapping):
            if not value:
                return None
            kind = "an object" if isinstance(value, Mapping) else "a list"
            raise ValueError(f"is {kind} in a list, which no field can have")
        if isinstance(value, Decimal):
            value = int(value) if value.is_finite() and value == value.to_integral_value() else float(value)
        if isinstance(value, float) and math.isnan(value):
            self.not_numbers += 1
            return None
        if isinstance(value, bytes) and (value := decode_text(value)) is None:
            self.binary[name] += 1
        return value


def decode_text(value: bytes) -> str | None:
    """Decodes text that a file holds as bytes, as some Parquet files do; None if it is binary."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def flatten_object(content: Mapping[str, Any], above: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yields each value under the names that lead to it, with dots between them.

    Objects of a list give lists: ``{"authors": [{"name": "A"}, {"name": "B"}]}`` has A and B in
    ``authors.name``.

    Raises:
        ValueError: it is nested too deeply.
    """
    if depth > DEEPEST:
        raise ValueError(f"has objects in objects, more than {DEEPEST} deep")
    for key, value in content.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            yield from flatten_object(value, f"{name}.", depth + 1)
        elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
            gathered: dict[str, list[Any]] = {}
            for one in value:
                for inner, found in flatten_object(one, f"{name}.", depth + 1):
                    gathered.setdefault(inner, []).extend(found if isinstance(found, list) else [found])
            yield from ((inner, [v for v in found if v is not None]) for inner, found in gathered.items())
        else:
            yield name, value


def to_field_name(name: str) -> str:
    """Makes the name of a field: without accents, and with ``_`` for what no name has; empty if nothing is
    left."""
    if FIELD_NAME.fullmatch(name):
        return name
    plain = unicodedata.normalize("NFKD", name.translate(LETTERS))
    letters = "".join(c for c in plain if not unicodedata.combining(c))
    parts = [NOT_OF_A_NAME.sub("_", part).strip("_") for part in letters.split(".")]
    joined = ".".join(part for part in parts if part)
    return f"f_{joined}" if joined[:1].isdigit() else joined
