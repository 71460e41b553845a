"""The cache of states of lower layers: the same passages are found for many queries, and by many versions."""

import hashlib
import threading
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from quarry.models.caches.state_forms import States
from quarry.models.caches.state_store import DIGEST_BYTES, StateStore

ENTRY_BYTES = 512
"""Memory that an entry takes beside its states: its key, the array's head and their place in the table."""


def make_text_digest(text: str) -> bytes:
    """Makes the end of the keys that all states of a passage are kept under."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()


def make_state_key(lower: str, form: str, ids: NDArray[np.int64], text: str = "") -> bytes:
    """Makes the key that the states of a text are kept under: whoever deletes the text finds it by its end.

    Args:
        lower: fingerprint of the lower layers; versions that share it share their states.
        form: name of the form that they are kept in.
        ids: the tokens that are read, cut and framed.
    """
    digest = hashlib.blake2b(f"{lower}:{form}:".encode(), digest_size=DIGEST_BYTES)
    digest.update(np.ascontiguousarray(ids, "<i8").tobytes())
    return digest.digest() + make_text_digest(text)


class StateCache:
    """States by ``make_state_key``; those used longest ago go first. Callable from any thread.

    Attributes:
        kept_bytes: memory that is taken now; never over ``max_bytes``.
        asked: texts that were looked up so far; ``hits`` of them were there.

    Args:
        max_bytes: at least 0; 0 keeps nothing in memory.
        store: has what memory has not, and gets what is put; None for none.
    """

    def __init__(self, max_bytes: int, store: StateStore | None = None) -> None:
        self._store = store
        self._states: LRUCache[bytes, States] = LRUCache(max_bytes, _measure_size)
        self._lock = threading.Lock()
        self.asked = self.hits = 0

    def __len__(self) -> int:
        return len(self._states)

    @property
    def kept_bytes(self) -> int:
        return int(self._states.currsize)

    def find_known(self, keys: Collection[bytes]) -> set[bytes]:
        """Finds those that are kept now; asking is no use."""
        with self._lock:
            known = {key for key in keys if key in self._states}
        return known | self.find_stored(keys)

    def get(self, keys: Collection[bytes]) -> list[States | None]:
        """Returns the states under each key, read-only; None for what is not kept."""
        found = self._get_remembered(keys)
        missing = [key for key in keys if key not in found]
        if self._store is not None and missing:
            stored = self._store.get_many(missing)
            for key, states in stored.items():
                self._remember(key, states)
            found |= stored
        with self._lock:
            self.asked += len(keys)
            self.hits += len(found)
        return [found.get(key) for key in keys]

    def find_stored(self, keys: Collection[bytes]) -> set[bytes]:
        """Finds those that a restart leaves."""
        return set() if self._store is None else self._store.find_known(keys)

    def store_if_room(self, states: Mapping[bytes, States]) -> bool:
        """Stores them, not in memory, if that pushes nothing out; tells whether. Raises DiskFullError."""
        if self._store is None or not self._store.has_room_for(states.values()):
            return False
        self._store.put_many(states)
        return True

    def find_of_texts(self, digests: Collection[bytes]) -> list[bytes]:
        """Finds the keys of all stored states of these texts, by ``make_text_digest``. Blocks."""
        return [] if self._store is None else self._store.find_of_texts(digests)

    def erase(self, keys: Sequence[bytes]) -> None:
        """Deletes what is stored under ``keys``. Blocks. Raises DiskFullError.

        What is in memory goes when there is no room for it, or with the server.
        """
        if self._store is not None:
            self._store.erase(keys)

    def empty_log(self) -> None:
        """Cuts the log of the file, if there is one, which holds older copies of what was deleted."""
        if self._store is not None:
            self._store.empty_log()

    def close(self) -> None:
        """Writes what waits for the store, and closes it."""
        if self._store is not None:
            self._store.close()

    def _get_remembered(self, keys: Collection[bytes]) -> dict[bytes, States]:
        with self._lock:
            return {key: self._states[key] for key in keys if key in self._states}

    def put(self, key: bytes, states: States) -> None:
        """Keeps ``states``, read-only from now on, in memory unless they alone are over the bound.

        Raises:
            ValueError: they are of no form, or part of a larger array, which they would keep in memory.
        """
        if states.dtype not in (np.float16, np.uint8) or states.base is not None:
            raise ValueError("states are kept as a form rounds them, in an array of their own")
        self._remember(key, states)
        if self._store is not None:
            self._store.put_later(key, states)

    def _remember(self, key: bytes, states: States) -> None:
        states.flags.writeable = False
        with self._lock:
            self._states.pop(key, None)
            if _measure_size(states) <= self._states.maxsize:
                self._states[key] = states


def _measure_size(states: States) -> int:
    return states.nbytes + ENTRY_BYTES
