"""Sizes of pages (AIP-158)."""

from collections.abc import Iterable
from typing import TypeVar

from google.protobuf.message import Message

from quarry.config import MAX_MESSAGE_BYTES
from quarry.errors import OutOfRangeError

M = TypeVar("M", bound=Message)
MAX_LIST_PAGE = 1_000
DEFAULT_LIST_PAGE = 100
MAX_PAGE_BYTES = MAX_MESSAGE_BYTES // 2
"""A page of large entries ends early, so that its answer can be sent."""


def parse_page_size(value: int, default: int, maximum: int) -> int:
    """0 means ``default``, more than ``maximum`` is cut to it. Raises InvalidArgumentError if negative."""
    if value < 0:
        raise OutOfRangeError("page_size", f"{value} is negative")
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
