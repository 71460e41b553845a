"""Open generations beside those that serve: in the making, or kept for a rollback."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from quarry.collections.collection import OpenCollection
from quarry.collections.data_folder import remove_folder
from quarry.documents.catalog import Collection
from quarry.documents.generations import Role

Key = tuple[int, Role]


class BesideGenerations:
    """Lives on the library's event loop; its callers see to it that no two change one collection at once.

    Args:
        folder: of all generations of a collection.
        open: opens a collection with the indexes of the generation that it names.
    """

    def __init__(
        self, folder: Callable[[int], Path], open: Callable[[Collection], Awaitable[OpenCollection]]
    ) -> None:
        self._folder, self._opened = folder, open
        self._open: dict[Key, OpenCollection] = {}

    def get(self, key: int, role: Role) -> OpenCollection | None:
        return self._open.get((key, role))

    async def open(self, role: Role, collection: Collection, serving: OpenCollection) -> OpenCollection:
        """The generation that ``collection`` names, following the log like the serving one.

        Raises QuarryError or OSError if it cannot be opened.
        """
        opened = self._open.get((collection.key, role))
        if opened is None:
            opened = await self._opened(collection)
            self.take(role, opened, serving)
            opened.generation.notify()
        return opened

    def take(self, role: Role, opened: OpenCollection, serving: OpenCollection) -> None:
        """Keeps an open generation beside the serving one."""
        serving.generations.add(opened.generation)
        opened.generations = serving.generations
        self._open[opened.collection.key, role] = opened

    def release(self, key: int, role: Role) -> OpenCollection | None:
        """Keeps it no longer; whoever calls this serves or closes it."""
        return self._open.pop((key, role), None)

    def release_all(self, key: int | None = None) -> list[OpenCollection]:
        """As ``release``, those of one collection or all."""
        return [self._open.pop(known) for known in list(self._open) if key in (None, known[0])]

    async def remove(self, key: int, generation: str) -> None:
        """Deletes the files of a generation that is closed."""
        await asyncio.to_thread(remove_folder, self._folder(key) / generation)
