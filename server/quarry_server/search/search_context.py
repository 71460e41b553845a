"""The context of a search, from messages to the domain."""

from quarry.errors import InvalidArgumentError
from quarry.search.exploration import DEFAULT_DEPTH, FairPairs
from quarry.search.logged_request import SearchContext
from quarry.v1 import search_service_pb2 as pb
from quarry_server.common.labels import MAX_LABEL_BYTES, MAX_PERSON_BYTES, check_attributes, check_label


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
