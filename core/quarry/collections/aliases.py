"""Second names of the collections that are open, and their switch."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from functools import partial

import sqlalchemy as sa

from quarry.documents import aliases
from quarry.documents.aliases import Alias
from quarry.documents.catalog import check_name, get_collection, read_now_us
from quarry.documents.store import Database
from quarry.waiting import finish_undisturbed


class Aliases:
    """The collections that aliases name, as the database has it. Lives on one event loop.

    A call asks once which collection a name means, and takes hold of that collection in the same step:
    neither a switch nor the deletion of what was named before comes in between.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._names: dict[str, str] = {}
        self._changing = asyncio.Lock()

    async def load(self) -> None:
        found = await asyncio.to_thread(self._database.read, aliases.list_aliases)
        self._names = {alias.name: alias.collection for alias in found}

    def resolve(self, name: str) -> str:
        """Returns the collection's own name, if ``name`` is an alias; else ``name``."""
        return self._names.get(name, name)

    def list_of(self, collection: str) -> list[str]:
        """Lists a collection's aliases by name."""
        return sorted(alias for alias, named in self._names.items() if named == collection)

    async def read_page(self, after: str, limit: int, collection: str) -> Sequence[Alias]:
        """Reads aliases by name as ``list_aliases`` of the rows does."""
        read = partial(aliases.list_aliases, after=after, limit=limit, collection=collection)
        return await asyncio.to_thread(self._database.read, read)

    async def set(self, name: str, collection: str) -> tuple[Alias, str]:
        """Makes ``name`` name the collection; returns the alias, and the collection that it named before.

        Raises:
            InvalidArgumentError: the name has other characters than it may.
            CollectionNotFoundError: there is no such collection.
            AlreadyExistsError: a collection is called so.
        """
        check_name(name)

        def write(connection: sa.Connection) -> tuple[Alias, str]:
            key = get_collection(connection, collection).key
            return aliases.set_alias(connection, name, key, read_now_us())

        async def change() -> tuple[Alias, str]:
            async with self._changing:
                made, before = await self._database.write(write)
                self._names[name] = made.collection
            return made, before

        return await finish_undisturbed(change())

    async def delete(self, name: str) -> None:
        """Raises AliasNotFoundError."""

        async def change() -> None:
            async with self._changing:
                await self._database.write(lambda c: aliases.delete_alias(c, name))
                self._names.pop(name, None)

        await finish_undisturbed(change())

    @contextlib.asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """Keeps what aliases name as it is in this block: a collection that goes is named by none before."""
        async with self._changing:
            yield
