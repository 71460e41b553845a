"""Changes of collections: one at a time for each name, each to its end, and what they retire."""

import asyncio
from pathlib import Path

from quarry.collections.collection_handle import CollectionHandle
from quarry.collections.data_folder import remove_folder
from quarry.collections.locks import NamedLocks
from quarry.waiting import OngoingWork

CLOSE_GRACE_S = 30.0


class Changes:
    """Changes that are under way, and the stores that close because of them. Lives on one event loop."""

    def __init__(self) -> None:
        self._locks = NamedLocks()
        self._ongoing = OngoingWork()
        self._retiring: dict[int, set[asyncio.Task[None]]] = {}
        self.held = self._locks.hold
        self.finish = self._ongoing.finish  # or half a change would be left
        self.wait = self._ongoing.wait

    def retire(
        self, key: int, opened: CollectionHandle | None, removed: Path | None = None
    ) -> "asyncio.Task[None]":
        """Closes a generation that no request finds any more. The collection's deletion waits for that.

        Args:
            key: of its collection.
            removed: the folder that is deleted once the generation is closed; None: none.
        """

        async def close() -> None:
            if opened is not None:
                await opened.close(CLOSE_GRACE_S)
            if removed is not None:
                await asyncio.to_thread(remove_folder, removed)

        task = asyncio.create_task(close())
        tasks = self._retiring.setdefault(key, set())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task

    def take_retiring(self, key: int) -> set["asyncio.Task[None]"]:
        """Returns what of a collection is being closed, and forgets it: the caller waits for that."""
        return self._retiring.pop(key, set())
