"""The context of a search, from messages to the domain. Limits that searches and events share."""

from collections.abc import Mapping

from quarry.errors import InvalidArgumentError, OutOfRangeError, RequiredError
from quarry.schema import CONTROL_CHARACTER
from quarry.search.exploration import DEFAULT_DEPTH, FairPairs
from quarry.search.logged_request import SearchContext
from quarry.v1 import search_service_pb2 as pb

MAX_PERSON_BYTES = 128
"""Of a user's and a session's id."""
MAX_LABEL_BYTES = 100
MAX_ATTRIBUTES = 32
MAX_ATTRIBUTE_BYTES = 1_024


def parse_context(message: pb.SearchContext) -> SearchContext:
    """Raises InvalidArgumentError with a path below ``context``."""
    try:
        return SearchContext(
            check_label("user_id", message.user_id, MAX_PERSON_BYTES),
            check_label("session_id", message.session_id, MAX_PERSON_BYTES),
            check_label("surface", message.surface, MAX_LABEL_BYTES),
            check_label("layout", message.layout, MAX_LABEL_BYTES),
            check_attributes(message.attributes),
            message.simulated,
            message.trial,
        )
    except InvalidArgumentError as error:
        raise error.move_under("context") from None


def parse_exploration(message: pb.Exploration) -> FairPairs:
    """Raises InvalidArgumentError with a path below ``exploration``."""
    try:
        return FairPairs(message.swap_probability, message.depth or DEFAULT_DEPTH)
    except InvalidArgumentError as error:
        raise error.move_under("exploration") from None


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
