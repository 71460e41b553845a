"""Page sizes and page tokens of list calls (AIP-158)."""

import base64
import binascii
import hashlib

import orjson
from google.protobuf.message import Message

from quarry.errors import InvalidArgumentError

MAX_LIST_PAGE = 1_000
DEFAULT_LIST_PAGE = 100


def parse_page_size(value: int, default: int, maximum: int) -> int:
    """0 means ``default``, more than ``maximum`` is cut to it. Raises InvalidArgumentError if negative."""
    if value < 0:
        raise InvalidArgumentError("page_size", f"{value} is negative")
    return min(value or default, maximum)


def fingerprint(request: Message) -> str:
    """Of what must not change from page to page: all but the page's size and token."""
    same = type(request)()
    same.CopyFrom(request)
    same.ClearField("page_size")
    same.ClearField("page_token")
    return hashlib.blake2b(same.SerializeToString(deterministic=True), digest_size=8).hexdigest()


def encode_after(after: str, request: Message) -> str:
    """The token of the page that starts above ``after``."""
    return base64.urlsafe_b64encode(orjson.dumps([after, fingerprint(request)])).decode()


def parse_after(token: str, request: Message) -> str:
    """What ``encode_after`` was given; empty for the first page.

    Raises InvalidArgumentError for a token that is not the server's, or another request's.
    """
    if not token:
        return ""
    try:
        after, made_for = orjson.loads(base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True))
    except (ValueError, TypeError, binascii.Error):
        raise InvalidArgumentError("page_token", "is not a token that this server gave") from None
    if not isinstance(after, str) or made_for != fingerprint(request):
        raise InvalidArgumentError("page_token", "belongs to a request with other arguments")
    return after
