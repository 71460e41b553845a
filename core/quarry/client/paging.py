"""Lists and searches that come in pages, read one after the other."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from copy import deepcopy
from typing import Protocol, TypeVar


class _PageRequest(Protocol):
    page_token: str


class _Page(Protocol):
    next_page_token: str


Request = TypeVar("Request", bound=_PageRequest)
Page = TypeVar("Page", bound=_Page)


def read_pages(call: Callable[[Request], Page], request: Request) -> Iterator[Page]:
    """Yields every page, each asked for with the token at the end of the one before.

    ``request`` is not changed.
    """
    asked = deepcopy(request)
    while True:
        page = call(asked)
        yield page
        if not page.next_page_token:
            return
        asked.page_token = page.next_page_token


async def read_pages_async(
    call: Callable[[Request], Awaitable[Page]], request: Request
) -> AsyncIterator[Page]:
    """Does the same as ``read_pages``, for asyncio."""
    asked = deepcopy(request)
    while True:
        page = await call(asked)
        yield page
        if not page.next_page_token:
            return
        asked.page_token = page.next_page_token
