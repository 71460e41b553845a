"""Shows what strangers wrote in messages and logs: cut short, and without characters that do something."""

from pydantic import ValidationError

MAX_CHARACTERS = 80
MAX_ERROR_CHARACTERS = 300


def quote(text: object) -> str:
    """Quotes at most 80 characters of ``text``, with control characters escaped."""
    return repr(_cut(str(text), MAX_CHARACTERS))


def quote_error(error: Exception) -> str:
    """Quotes what a library says of something that a stranger wrote, which it may repeat: 300 characters
    of it."""
    return repr(_cut(str(error), MAX_ERROR_CHARACTERS))[1:-1]


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def describe_first_problem(error: ValidationError) -> str:
    """Describes the first thing that is wrong, and where; never the value that was given.

    Names of fields that the type does not have are the caller's own words, so they are shown as such.
    """
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{quote(where)}: {first['msg'][:200]}" if where else str(first["msg"][:200])
