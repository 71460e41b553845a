"""Shows what strangers wrote in messages and logs: cut short, and without characters that do something."""

from pydantic import ValidationError

MAX_CHARACTERS = 80


def shown(text: object) -> str:
    """At most 80 characters of ``text``, in quotes, with control characters escaped."""
    whole = str(text)
    return ascii_controls(whole[:MAX_CHARACTERS]) + ("…" if len(whole) > MAX_CHARACTERS else "")


def ascii_controls(text: str) -> str:
    """``repr`` of the text; what cannot be encoded, such as half of a surrogate pair, is escaped too."""
    return repr(text).encode("utf-8", "backslashreplace").decode()


def first_problem(error: ValidationError) -> str:
    """The first thing that is wrong, and where; never the value that was given.

    Names of fields that the type does not have are the caller's own words, so they are shown as such.
    """
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{shown(where)}: {first['msg'][:200]}" if where else str(first["msg"][:200])
