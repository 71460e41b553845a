"""Page sizes and page tokens of list calls (AIP-158)."""

import base64
import binascii
import hashlib
from collections.abc import Iterable
from typing import TypeVar

import orjson
from google.protobuf.message import Message

from quarry.config import MAX_MESSAGE_BYTES
from quarry.errors import InvalidArgumentError

M = TypeVar("M", bound=Message)
MAX_LIST_PAGE = 1_000
DEFAULT_LIST_PAGE = 100
MAX_PAGE_BYTES = MAX_MESSAGE_BYTES // 2
"""A page of large entries ends early, so that its answer can be sent."""


def parse_page_size(value: int, default: int, maximum: int) -> int:
    """0 means ``default``, more than ``maximum`` is cut to it. Raises InvalidArgumentError if negative."""
    if value < 0:
        raise InvalidArgumentError("page_size", f"{value} is negative")
    return min(value or default, maximum)


def fitting(messages: Iterable[M], most_bytes: int = MAX_PAGE_BYTES) -> list[M]:
    """The first of ``messages``, one at least, that can be sent together."""
    page: list[M] = []
    size = 0
    for message in messages:
        size += message.ByteSize()
        if page and size > most_bytes:
            break
        page.append(message)
    return page


def fingerprint(request: Message, *place: str | int) -> str:
    """Of what must not change from page to page, all but the page's size and token; and of a ``place``."""
    same = type(request)()
    same.CopyFrom(request)
    same.ClearField("page_size")
    same.ClearField("page_token")
    raw = orjson.dumps(place) + same.SerializeToString(deterministic=True)
    return hashlib.blake2b(raw, digest_size=8).hexdigest()


def encode_after(after: str, request: Message) -> str:
    """The token of the page that starts above ``after``."""
    return base64.urlsafe_b64encode(orjson.dumps([after, fingerprint(request, after)])).decode()


def parse_after(token: str, request: Message) -> str:
    """What ``encode_after`` was given; empty for the first page.

    Raises InvalidArgumentError for a token that is not the server's, or another request's.
    """
    if not token:
        return ""
    try:
        after, _ = orjson.loads(base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True))
    except (ValueError, TypeError, binascii.Error):
        raise InvalidArgumentError("page_token", "is not a token that this server gave") from None
    if not isinstance(after, str) or token != encode_after(after, request):
        raise InvalidArgumentError("page_token", "belongs to a request with other arguments")
    return after
