"""The limits of what an event may hold. The checks raise InvalidArgumentError, with the field's name."""

from quarry.errors import InvalidArgumentError, OutOfRangeError, RequiredError
from quarry.schema import MAX_TIMESTAMP_US

MAX_EVENT_ID_CHARACTERS = 64
MAX_ACTION_BYTES = 100
MAX_RENDERED = 1_000
MAX_POSITION = 1_000
"""The deepest rank or place on a screen that anyone may claim."""
MAX_DWELL_US = 24 * 3_600 * 1_000_000
MIN_TIME_US = 946_684_800_000_000  # 2000-01-01T00:00:00Z


def check_event_id(id: str) -> str:
    """Checks that an id has 1 to 64 printable ASCII characters, a space not among them."""
    if not 1 <= len(id) <= MAX_EVENT_ID_CHARACTERS or not all(" " < c <= "~" for c in id):
        problem = f"is not 1 to {MAX_EVENT_ID_CHARACTERS} printable ASCII characters"
        raise (InvalidArgumentError if id else RequiredError)("event_id", problem)
    return id


def check_time(time_us: int) -> int:
    """Checks that a time lies in the years 2000 to 9999."""
    if not MIN_TIME_US <= time_us <= MAX_TIMESTAMP_US:
        raise OutOfRangeError("event_time", "is not in the years 2000 to 9999")
    return time_us
