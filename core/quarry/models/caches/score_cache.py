"""Scores that re-rankers gave before: people ask the same, and the same passages are found."""

import hashlib
import threading
from collections.abc import Sequence

from cachetools import LRUCache

from quarry.models.base import PairScore

ENTRY_BYTES = 320
"""Memory that an entry takes: its key, its score, and their place in the table; measured."""
_KEY_BYTES = 16
Pair = tuple[str, str]


class ScoreCache:
    """Scores by model, query and passage; those used longest ago go first. Callable from any thread.

    Attributes:
        asked: pairs that were looked up so far; ``hits`` of them were there.

    Args:
        max_bytes: at least 0; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self._most = max_bytes // ENTRY_BYTES
        self._scores: LRUCache[bytes, PairScore] = LRUCache(self._most)
        self._lock = threading.Lock()
        self.asked = self.hits = 0

    def __len__(self) -> int:
        return len(self._scores)

    def get(self, fingerprint: str, pairs: Sequence[Pair]) -> list[PairScore | None]:
        """Returns the score of each pair, None for one that is not kept.

        Args:
            fingerprint: the model's; two models never share a score unless they give the same.
        """
        if not self._most:
            return [None] * len(pairs)
        keys = _make_keys(fingerprint, pairs)
        with self._lock:
            found = [self._scores.get(key) for key in keys]
            self.asked += len(found)
            self.hits += sum(score is not None for score in found)
        return found

    def put(self, fingerprint: str, pairs: Sequence[Pair], scores: Sequence[PairScore]) -> None:
        if not self._most:
            return
        new = dict(zip(_make_keys(fingerprint, pairs), scores, strict=True))
        with self._lock:
            self._scores.update(new)


def _make_keys(fingerprint: str, pairs: Sequence[Pair]) -> list[bytes]:
    """Hashes: a key says nothing of what people asked, and no text can be taken for part of another."""
    return [_make_key(fingerprint, query, passage) for query, passage in pairs]


def _make_key(fingerprint: str, query: str, passage: str) -> bytes:
    first = query.encode(errors="surrogatepass")
    digest = hashlib.blake2b(f"{fingerprint}:{len(first)}:".encode(), digest_size=_KEY_BYTES)
    digest.update(first)
    digest.update(passage.encode(errors="surrogatepass"))
    return digest.digest()
