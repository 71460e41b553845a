"""The id that makes a call repeatable, from a request."""

from google.protobuf.message import Message

from quarry.documents.requests import check_request_id
from quarry.documents.store import RequestId


def parse_request_id(request_id: str, method: str, request: Message) -> RequestId:
    """Parses the id, with what the whole request asks, so that the same id cannot ask for something else.

    Raises:
        InvalidArgumentError: the id is too long, or holds a character that ids may not hold.
    """
    check_request_id(request_id)
    return RequestId(request_id, method, request.SerializeToString(deterministic=True) if request_id else b"")
