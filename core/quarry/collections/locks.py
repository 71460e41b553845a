"""One lock for each name, so that what hangs under one name holds no other."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator


class NamedLocks:
    """Locks by name, kept while somebody holds one or waits for it. Lives on one event loop."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[None]:
        """Keeps everybody else out of this block under ``name``."""
        lock = self._locks.setdefault(name, asyncio.Lock())
        self._users[name] += 1
        try:
            async with lock:
                yield
        finally:
            self._users[name] -= 1
            if not self._users[name]:
                del self._users[name], self._locks[name]
