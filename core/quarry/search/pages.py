"""Later pages of a search: the ranked list is kept, and a token names a place in it."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

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
    """Keeps ranked lists for a time, and at most so many bytes in all; the oldest go first.

    Not thread-safe: lives on the event loop.
    """

    def __init__(
        self, lifetime_s: float, max_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.lifetime_s = lifetime_s
        self._clock = clock
        self._max_bytes = max_bytes
        self._lists: OrderedDict[str, tuple[float, int, T]] = OrderedDict()
        self._bytes = 0

    def keep(self, key: str, size: int, ranked: T) -> None:
        """Keeps ``ranked``, which takes ``size`` bytes, under ``key``."""
        _, known, _ = self._lists.pop(key, (0.0, 0, None))
        self._bytes -= known
        self._lists[key] = (self._clock() + self.lifetime_s, size, ranked)
        self._bytes += size
        while self._lists and (self._bytes > self._max_bytes or self._oldest_expired()):
            _, (_, freed, _) = self._lists.popitem(last=False)
            self._bytes -= freed

    def get(self, key: str) -> T:
        """Raises PageExpiredError if the list is no longer kept."""
        expires, _, ranked = self._lists.get(key, (0.0, 0, None))
        if ranked is None or expires <= self._clock():
            raise PageExpiredError
        return ranked

    def _oldest_expired(self) -> bool:
        return next(iter(self._lists.values()))[0] <= self._clock()
