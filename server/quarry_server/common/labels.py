"""Short texts that callers give beside what they ask: who asks, from where, and what they note of it."""

from collections.abc import Mapping

from quarry.errors import InvalidArgumentError, OutOfRangeError, RequiredError
from quarry.schema import CONTROL_CHARACTER

MAX_PERSON_BYTES = 128
"""A user's or a session's id has at most so many."""
MAX_LABEL_BYTES = 100
MAX_ATTRIBUTES = 32
MAX_ATTRIBUTE_BYTES = 1_024


def check_label(field: str, text: str, most_bytes: int) -> str:
    """Checks that ``text`` is short enough and has no control character. Raises InvalidArgumentError."""
    size = len(text.encode())
    if size > most_bytes:
        raise OutOfRangeError(field, f"has {size} bytes, at most {most_bytes} are allowed")
    if CONTROL_CHARACTER.search(text):
        raise InvalidArgumentError(field, "holds a control character")
    return text


def check_attributes(attributes: Mapping[str, str]) -> dict[str, str]:
    """Checks that ``attributes`` are few and each is short. Raises InvalidArgumentError."""
    if len(attributes) > MAX_ATTRIBUTES:
        raise OutOfRangeError("attributes", f"are {len(attributes)}, at most {MAX_ATTRIBUTES}")
    for name, value in attributes.items():
        check_label("attributes", name, MAX_LABEL_BYTES)
        if not name:
            raise RequiredError("attributes", "have one without a name")
        if len(value.encode()) > MAX_ATTRIBUTE_BYTES:
            problem = f"{name!r} has over {MAX_ATTRIBUTE_BYTES} bytes"
            raise OutOfRangeError("attributes", problem)
    return dict(attributes)
