"""Later pages of a search: the ranked list is kept, and a token names a place in it."""

import base64
import binascii
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import orjson

from quarry.errors import InvalidArgumentError, PageExpiredError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PageToken:
    """A place in a kept list.

    Attributes:
        key: of the list.
        offset: entries before the page, from 0.
        fingerprint: of the request that made the list; another request may not go on with it.
    """

    key: str
    offset: int
    fingerprint: str

    def encode(self) -> str:
        raw = orjson.dumps([self.key, self.offset, self.fingerprint])
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    @classmethod
    def decode(cls, token: str) -> "PageToken":
        """Raises InvalidArgumentError unless ``token`` is one that ``encode`` made."""
        try:
            padded = token.encode("ascii") + b"=" * (-len(token) % 4)
            key, offset, fingerprint = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
            if isinstance(key, str) and type(offset) is int and offset >= 0 and isinstance(fingerprint, str):
                decoded = cls(key, offset, fingerprint)
                if decoded.encode() == token:  # base64 has several ways to write the same bytes
                    return decoded
        except (ValueError, TypeError, binascii.Error):
            pass
        raise InvalidArgumentError("page_token", "is not a token that this server gave")


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
