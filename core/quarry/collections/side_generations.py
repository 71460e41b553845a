"""Generations beside those that serve: in the making, or kept for a rollback. One of them may take over."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import sqlalchemy as sa

from quarry.collections.changes import Changes
from quarry.collections.collection_handle import CollectionHandle
from quarry.documents.catalog import Collection, read_collection_by_key
from quarry.documents.generations import Role, get_generation, remove_generation, take_over
from quarry.documents.store import Database
from quarry.errors import CollectionNotFoundError, UnavailableError
from quarry.storage.faults import reach

HOLD_S = 2.0
"""How long writes may wait for the generation that is to serve."""


class SideGenerations:
    """The open generations that do not serve. Lives on the event loop of the open collections.

    Args:
        folder: gives the folder of all generations of a collection.
        open: opens a collection with the indexes of the generation that it names.
        changes: lets nobody else change a collection meanwhile.
        serving: the open collections by name; a switch replaces one of them.
    """

    def __init__(
        self,
        database: Database,
        folder: Callable[[int], Path],
        open: Callable[[Collection], Awaitable[CollectionHandle]],
        changes: Changes,
        serving: dict[str, CollectionHandle],
    ) -> None:
        self._database, self._folder, self._open_collection = database, folder, open
        self._changes, self._serving = changes, serving
        self._open: dict[tuple[int, Role], CollectionHandle] = {}

    def get(self, name: str, role: Role) -> CollectionHandle | None:
        """Returns the open generation of a collection in this role; None if none is open."""
        serving = self._serving.get(name)
        return None if serving is None else self._open.get((serving.row.key, role))

    def list_open(self) -> list[CollectionHandle]:
        """Lists those that are open, of all collections."""
        return list(self._open.values())

    async def open(self, key: int, role: Role) -> CollectionHandle:
        """Opens the generation in this role, which then follows the log.

        Raises:
            FailedPreconditionError: the collection has none.
            CollectionNotFoundError: it is gone.
            QuarryError: the indexes cannot be opened.
        """
        return await self._changes.finish(self._open_one(key, role))

    async def _open_one(self, key: int, role: Role) -> CollectionHandle:
        async with self._hold_changes(key):
            serving, collection = await self._read_row(key, role)
            opened = self._open.get((key, role))
            if opened is None:
                opened = await self._open_collection(collection)
                self._keep(role, opened, serving)
                opened.generation.notify()
            return opened

    async def close(self, key: int, role: Role) -> None:
        """Closes the generation in this role and keeps its files."""
        await self._changes.finish(self._close_one(key, role))

    async def _close_one(self, key: int, role: Role) -> None:
        async with self._hold_changes(key):
            retiring = self._changes.retire(key, self._open.pop((key, role), None))
        await retiring

    async def remove(self, key: int, role: Role) -> None:
        """Forgets the generation in this role and its files.

        Raises FailedPreconditionError if the collection has none.
        """
        await self._changes.finish(self._remove_one(key, role))

    async def _remove_one(self, key: int, role: Role) -> None:
        async with self._hold_changes(key):
            gone = await self._database.write(lambda c: remove_generation(c, key, role))
            opened = self._open.pop((key, role), None)
            retiring = self._changes.retire(key, opened, self._folder(key) / gone.name)
        await retiring

    async def switch(self, key: int, role: Role, check: Callable[[], Awaitable[None]]) -> Collection:
        """Lets the open generation in this role serve, and keeps what served until now as the previous.

        Writes wait meanwhile, some ``HOLD_S`` at most; answers that have begun end on the generation that
        they began on.

        Args:
            check: called while no write is under way; what it raises leaves everything as it was.

        Raises:
            UnavailableError: it is behind what serves, and did not catch up in time.
        """
        return await self._changes.finish(self._switch(key, role, check))

    async def _switch(self, key: int, role: Role, check: Callable[[], Awaitable[None]]) -> Collection:
        async with self._hold_changes(key):
            old, _ = await self._read_row(key, role)
            new = self._open.get((key, role))
            if new is None:
                raise UnavailableError("the indexes that are to serve are not open")
            async with old.hold_writes():
                if not await new.generation.wait_visible(old.generation.visible, HOLD_S):
                    raise UnavailableError("the indexes that are to serve have not caught up")
                await check()
                reach("reindex-checked")
                row, replaced = await self._database.write(lambda c: take_over(c, key, role))
                reach("reindex-switched")
                # No await from here to the end of the block: no request sees half of it.
                del self._open[key, role]
                retired = self._open.pop((key, Role.PREVIOUS), None)
                self._keep(Role.PREVIOUS, old, new)
                new.row, new.successor, old.successor = row, None, new
                self._serving[row.settings.name] = new
            retiring = self._changes.retire(key, retired, self._folder(key) / replaced if replaced else None)
        await retiring
        return row

    def take_all(self, key: int | None = None) -> list[CollectionHandle]:
        """Returns those of one collection, or all, and keeps them no longer: the caller closes them."""
        return [self._open.pop(known) for known in list(self._open) if key in (None, known[0])]

    def _keep(self, role: Role, opened: CollectionHandle, serving: CollectionHandle) -> None:
        serving.generations.add(opened.generation)
        opened.generations = serving.generations
        self._open[opened.row.key, role] = opened

    async def _read_row(self, key: int, role: Role) -> tuple[CollectionHandle, Collection]:
        """Returns what serves, and the collection as it would be with the generation in this role."""

        def read(connection: sa.Connection) -> Collection:
            return get_generation(connection, key, role).apply_to(read_collection_by_key(connection, key))

        collection = await asyncio.to_thread(self._database.read, read)
        name = collection.settings.name
        if name not in self._serving:
            raise UnavailableError(f"the collection {name!r} is not open")
        return self._serving[name], collection

    @contextlib.asynccontextmanager
    async def _hold_changes(self, key: int) -> AsyncIterator[None]:
        """Lets nobody else change the collection with this key meanwhile, unless it is gone."""
        try:
            row = await asyncio.to_thread(self._database.read, lambda c: read_collection_by_key(c, key))
        except CollectionNotFoundError:
            yield
            return
        async with self._changes.held(row.settings.name):
            yield
