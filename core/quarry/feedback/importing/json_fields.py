"""Reads the fields of a JSON object that a stranger wrote: each of its kind, in its range, none unknown."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from quarry.feedback.event_limits import MIN_TIME_US
from quarry.quoting import quote
from quarry.schema import CONTROL_CHARACTER, MAX_TIMESTAMP_US

MAX_ATTRIBUTES = 32
MAX_INTEGER = 2**63 - 1


class LineError(ValueError):
    """The reason for which a line is refused, for people."""


class JsonFields:
    """The fields of ``value``, each read once; what was not read is unknown. Raises LineError."""

    def __init__(self, value: Any, where: str = "") -> None:
        if not isinstance(value, dict):
            raise LineError(f"{where or 'it'} is not a JSON object")
        self._left, self._where = dict(value), where

    def read_text(self, name: str, most_bytes: int, default: str | None = "", control: bool = False) -> str:
        """Reads a text, which is required without a default."""
        value = self._take(name, default)
        if not isinstance(value, str):
            raise self._make_error(name, "is not a string")
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            raise self._make_error(name, "is not valid Unicode") from None
        if size > most_bytes:
            raise self._make_error(name, f"has {size} bytes, at most {most_bytes} are allowed")
        if default is None and not value:
            raise self._make_error(name, "is empty")
        if not control and CONTROL_CHARACTER.search(value):
            raise self._make_error(name, "holds a control character")
        return value

    def read_integer(self, name: str, least: int, most: int = MAX_INTEGER, default: int | None = 0) -> int:
        value = self._take(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self._make_error(name, f"is not an integer from {least} to {most}")
        return value

    def read_number(
        self, name: str, least: float = -math.inf, most: float = math.inf, default: float | None = 0.0
    ) -> float:
        value = self._take(name, default)
        good = isinstance(value, int | float) and not isinstance(value, bool)
        if not good or not math.isfinite(value) or not least <= value <= most:
            raise self._make_error(name, f"is not a number from {least:g} to {most:g}")
        return float(value)

    def read_optional(self, name: str, least: float = -math.inf, most: float = math.inf) -> float | None:
        """Reads a number, or None where there is none."""
        if self._left.get(name) is None:
            self._left.pop(name, None)
            return None
        return self.read_number(name, least, most)

    def read_flag(self, name: str) -> bool:
        value = self._take(name, False)
        if not isinstance(value, bool):
            raise self._make_error(name, "is neither true nor false")
        return value

    def read_time(self, name: str) -> int:
        """Reads a moment in RFC 3339's form, in microseconds since 1970; required."""
        value = self._take(name, None)
        if not isinstance(value, str):
            raise self._make_error(name, "is not a time such as 2026-01-31T12:00:00Z")
        return self._check_time(name, parse_time(value))

    def _check_time(self, name: str, time_us: int | None) -> int:
        if time_us is None or not MIN_TIME_US <= time_us <= MAX_TIMESTAMP_US:
            raise self._make_error(name, "is not a time such as 2026-01-31T12:00:00Z, years 2000 to 9999")
        return time_us

    def read_list(self, name: str, most: int) -> list[Any]:
        value = self._take(name, [])
        if not isinstance(value, list) or len(value) > most:
            raise self._make_error(name, f"is not a list of at most {most} entries")
        return value

    def read_object(self, name: str) -> "JsonFields | None":
        value = self._left.pop(name, None)
        return None if value is None else JsonFields(value, f"{self._where}{name}.")

    def read_attributes(self, name: str) -> Mapping[str, str]:
        fields = self.read_object(name)
        if fields is None:
            return {}
        if len(fields._left) > MAX_ATTRIBUTES:
            raise self._make_error(name, f"are {len(fields._left)}, at most {MAX_ATTRIBUTES}")
        return {
            key: fields.read_text(key, 1_024, control=True) for key in list(fields._left) if _is_good_key(key)
        }

    def refuse_rest(self) -> None:
        """Raises LineError if a field is left that nobody has read."""
        for name in self._left:
            raise LineError(f"{self._where}{quote(name)[1:-1]} is not a known field")

    def _take(self, name: str, default: Any) -> Any:
        value = self._left.pop(name, None)
        if value is None:
            if default is None:
                raise self._make_error(name, "is missing")
            return default
        return value

    def _make_error(self, name: str, problem: str) -> LineError:
        return LineError(f"{self._where}{name} {problem}")


def parse_time(text: str) -> int | None:
    """Parses an ISO 8601 time, UTC where it names no zone, to microseconds since 1970; None if it is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    elapsed = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (elapsed.days * 86_400 + elapsed.seconds) * 1_000_000 + elapsed.microseconds


def _is_good_key(key: str) -> bool:
    if not key or len(key.encode("utf-8", "surrogatepass")) > 100 or CONTROL_CHARACTER.search(key):
        raise LineError("attributes have a name that is empty, over 100 bytes or holds a control character")
    return True
