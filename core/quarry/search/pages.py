"""Later pages of a search: the ranked list is kept, and a token names a place in it."""

import time
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from cachetools import TTLCache

from quarry.errors import PageExpiredError

T = TypeVar("T")


class Place(NamedTuple):
    """A place in a kept list.

    Attributes:
        key: of the list.
        offset: entries before the page, from 0.
    """

    key: str
    offset: int


class PageStore(Generic[T]):
    """Keeps ranked lists for a time, and at most so many bytes in all; those that nobody
    has read for longest go first.

    Not thread-safe: lives on the event loop.
    """

    def __init__(
        self, lifetime_s: float, max_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.lifetime_s = lifetime_s
        self._lists: TTLCache[str, tuple[int, T]] = TTLCache(
            max_bytes, lifetime_s, timer=clock, getsizeof=lambda kept: kept[0]
        )

    def keep(self, key: str, size: int, ranked: T) -> None:
        """Keeps ``ranked``, which takes ``size`` bytes, under ``key``, unless it is larger than the store."""
        self._lists.pop(key, None)
        if size <= self._lists.maxsize:
            self._lists[key] = (size, ranked)

    def get(self, key: str) -> T:
        """Raises PageExpiredError if the list is no longer kept."""
        kept = self._lists.get(key)
        if kept is None:
            raise PageExpiredError
        return kept[1]
