"""Sizes of pages (AIP-158)."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from quarry.config import MAX_MESSAGE_BYTES
from quarry.errors import OutOfRangeError
from quarry_server.common.page_tokens import PageTokens

T = TypeVar("T")
M = TypeVar("M", bound=Message)
P = TypeVar("P", bound=tuple[str | int, ...])
MAX_LIST_PAGE = 1_000
DEFAULT_LIST_PAGE = 100
MAX_PAGE_BYTES = MAX_MESSAGE_BYTES // 2
"""A page of large entries ends early, so that its answer can be sent."""


def parse_page_size(value: int, default: int, maximum: int) -> int:
    """Parses a size: 0 means ``default``, more than ``maximum`` is cut to it.

    Raises InvalidArgumentError if it is negative.
    """
    if value < 0:
        raise OutOfRangeError("page_size", f"{value} is negative")
    return min(value or default, maximum)


def take_fitting(messages: Iterable[M], most_bytes: int = MAX_PAGE_BYTES) -> list[M]:
    """Takes the first of ``messages``, one at least, that can be sent together."""
    page: list[M] = []
    size = 0
    for message in messages:
        size += message.ByteSize()
        if page and size > most_bytes:
            break
        page.append(message)
    return page


class ListPage(Generic[P]):
    """The page of a list that a request asks for.

    Attributes:
        size: most entries of the page.
        after: the place of the last entry of the page before; None: the page is the first.

    Raises InvalidArgumentError: the request's page size or page token is none.
    """

    def __init__(self, tokens: PageTokens[P], request: Any) -> None:
        self._tokens, self._request = tokens, request
        self.size = parse_page_size(request.page_size, DEFAULT_LIST_PAGE, MAX_LIST_PAGE)
        self.after = tokens.parse(request)

    def fill(
        self, found: Sequence[T], place: Callable[[T], P], message: Callable[[T], M]
    ) -> tuple[list[M], str]:
        """Returns the page's messages, and the token of the next page; empty if this is the last one.

        Args:
            found: what comes after ``after``, in order, at least ``size + 1`` entries if there are so many.
        """
        page = take_fitting(message(entry) for entry in found[: self.size])
        more = len(found) > len(page)
        return page, self._tokens.encode(place(found[len(page) - 1]), self._request) if more else ""

    def fill_newest(
        self, found: Iterable[T], place: Callable[[T], P], message: Callable[[T], M]
    ) -> tuple[list[M], str]:
        """Does as ``fill`` with a whole list in any order; the greatest place comes first."""
        left = [entry for entry in found if self.after is None or place(entry) < self.after]
        return self.fill(sorted(left, key=place, reverse=True), place, message)
