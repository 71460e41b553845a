"""All collections of one data folder, open: looked up by name, made, changed and removed."""

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa
from filelock import FileLock, Timeout

from quarry.collection import Consistency, OpenCollection, remove_folder
from quarry.deadline import Deadline
from quarry.documents import catalog
from quarry.documents.catalog import Collection, CollectionSettings
from quarry.documents.requests import once
from quarry.documents.store import Database, DocumentLog, RequestId
from quarry.documents.tables import open_database
from quarry.errors import CollectionNotFoundError, DataLossError, FailedPreconditionError, QuarryError
from quarry.generation import DenseParts, Engines, Generation
from quarry.pipeline import Reranking

logger = logging.getLogger(__name__)
CLOSE_GRACE_S = 30.0


class Models(Protocol):
    """The models that collections use. Raises ModelError for one that cannot be had."""

    async def dense_parts(self, settings: CollectionSettings) -> DenseParts | None:
        """What the dense arm needs; None for a collection without one."""
        ...

    async def check_reranker(self, name: str) -> None:
        """Loads the cross-encoder, so that a name that does not load is refused at once."""
        ...

    def reranking(
        self, settings: CollectionSettings, log: DocumentLog, dense: DenseParts | None
    ) -> Reranking: ...


class DataFolder:
    """The folder that holds everything of a server, locked while it is open."""

    def __init__(self, path: Path) -> None:
        """Raises FailedPreconditionError if another server has it, DataLossError if its log is gone."""
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(path / "lock", thread_local=False)  # taken in one thread, released in another
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise FailedPreconditionError(f"another server is using {path}", folder=str(path)) from None
        if not self.documents.exists() and any(self.collections.glob("*/*")):
            self._lock.release()
            raise DataLossError(
                f"{path} holds indexes but no {self.documents.name}: restore it, or move the indexes away"
            )

    @property
    def documents(self) -> Path:
        return self.path / "documents.db"

    @property
    def collections(self) -> Path:
        return self.path / "collections"

    def of(self, collection: Collection) -> Path:
        """Everything of one collection, all generations."""
        return self.collections / str(collection.key)

    def close(self) -> None:
        self._lock.release()


class Library:
    """Made by ``open``, ended by ``close``. Lives on one event loop."""

    def __init__(
        self, folder: DataFolder, database: Database, engines: Engines, models: Models, search_threads: int
    ) -> None:
        self.database = database
        self._folder = folder
        self._engines = engines
        self._models = models
        self._threads = ThreadPoolExecutor(search_threads, thread_name_prefix="search")
        self._open: dict[str, OpenCollection] = {}
        self._changing = asyncio.Lock()

    @classmethod
    async def open(
        cls, folder: DataFolder, engines: Engines, models: Models, search_threads: int
    ) -> "Library":
        """Opens every collection there is, and removes what deleted ones left behind."""
        database = Database(await asyncio.to_thread(open_database, folder.documents))
        library = cls(folder, database, engines, models, search_threads)
        known = await asyncio.to_thread(database.read, catalog.list_collections)
        await asyncio.to_thread(library._remove_leftovers, known)
        for opened in await asyncio.gather(*map(library._opened, known)):
            library._open[opened.collection.settings.name] = opened
        return library

    @contextlib.contextmanager
    def use(self, name: str) -> Iterator[OpenCollection]:
        """The collection, kept open meanwhile. Raises CollectionNotFoundError."""
        if name not in self._open:
            raise CollectionNotFoundError(name[:80])
        with self._open[name].use() as collection:
            yield collection

    async def create(self, settings: CollectionSettings, request: RequestId) -> OpenCollection:
        """Raises AlreadyExistsError, or ModelError if its encoder or re-ranker cannot be loaded."""
        async with self._changing:
            settings = _resolved(settings, await self._models.dense_parts(settings))
            if settings.reranker:
                await self._models.check_reranker(settings.reranker)

            def write(connection: sa.Connection) -> Collection:
                return once(
                    connection,
                    request.method,
                    request.id,
                    request.request,
                    lambda: catalog.create_collection(connection, settings),
                    dump=lambda made: made.settings.name.encode(),
                    load=lambda name: catalog.get_collection(connection, name.decode()),
                )

            made = await self.database.write(write)
            if settings.name not in self._open:
                self._open[settings.name] = await self._opened_or_undone(made)
            return self._open[settings.name]

    async def current(self, name: str) -> Collection:
        """The collection's row as it is now. Raises CollectionNotFoundError."""
        return await asyncio.to_thread(self.database.read, lambda c: catalog.get_collection(c, name))

    async def page(self, after: str, limit: int) -> Sequence[Collection]:
        """By name, those whose name is greater than ``after``."""
        return await asyncio.to_thread(
            self.database.read, lambda c: catalog.list_collections(c, after, limit)
        )

    async def update(self, name: str, revision: int | None, values: dict[str, str]) -> OpenCollection:
        """Sets ``reranker`` and ``description``. Raises as ``catalog.update_collection``, or ModelError."""
        async with self._changing:
            if values.get("reranker"):
                await self._models.check_reranker(values["reranker"])
            updated = await self.database.write(
                lambda c: catalog.update_collection(c, name, revision, **values)
            )
            self._open[name].collection = updated
            return self._open[name]

    async def delete(self, name: str, revision: int | None) -> None:
        """Removes the collection, after the requests that use it."""
        async with self._changing:
            await self.database.write(lambda c: catalog.delete_collection(c, name, revision))
            opened = self._open.pop(name)
            await opened.close(CLOSE_GRACE_S)
            await asyncio.to_thread(remove_folder, self._folder.of(opened.collection))

    async def repair(self, name: str, deadline: Deadline) -> tuple[Consistency, Consistency]:
        """Makes the arms agree with the log; the differences before and after.

        An arm that is ahead of the log cannot be followed on: the collection gets new indexes, made from the
        log as it is. Whoever calls this accepts that log as the truth.
        """
        with self.use(name) as collection:
            if collection.read_only is None:
                return await collection.repair(deadline)
        async with self._changing:
            old = self._open[name]
            await self.database.write(lambda c: catalog.set_generation(c, old.collection.key))
            opened = await self._opened(await self.current(name))
            self._open[name] = opened
            await old.close(CLOSE_GRACE_S)
        found = await opened.check(deadline)
        return found, found

    async def close(self) -> None:
        async with self._changing:
            await asyncio.gather(*(opened.close(CLOSE_GRACE_S) for opened in self._open.values()))
            self._open.clear()
            await asyncio.to_thread(self.database.close)
            self._threads.shutdown()
            self._folder.close()

    async def _opened_or_undone(self, made: Collection) -> OpenCollection:
        """A new collection, open; one that cannot be opened is not kept, so that the name stays free."""
        try:
            return await self._opened(made)
        except QuarryError:
            await self.database.write(lambda c: catalog.delete_collection(c, made.settings.name, None))
            raise

    async def _opened(self, collection: Collection) -> OpenCollection:
        log = DocumentLog(self.database, collection.key)
        folder = self._folder.of(collection) / collection.generation
        folder.mkdir(parents=True, exist_ok=True)
        dense: DenseParts | QuarryError | None
        try:
            dense = await self._models.dense_parts(collection.settings)
        except QuarryError as error:
            dense = error
        parts = dense if isinstance(dense, DenseParts) else None
        generation = Generation(collection, folder, log, self._engines, self._threads)
        await generation.open(dense, self._models.reranking(collection.settings, log, parts))
        return OpenCollection(collection, log, generation)

    def _remove_leftovers(self, known: Sequence[Collection]) -> None:
        """Folders of deleted collections and of generations that no longer serve."""
        serving = {str(c.key): c.generation for c in known}
        for folder in self._folder.collections.glob("*"):
            if folder.name not in serving:
                remove_folder(folder)
                continue
            for generation in folder.glob("*"):
                if generation.name != serving[folder.name]:
                    remove_folder(generation)


def _resolved(settings: CollectionSettings, parts: DenseParts | None) -> CollectionSettings:
    """``settings`` with the passages that the encoder can read, so that they never change unseen."""
    if parts is None:
        return settings
    policy = settings.passages
    limit = min(policy.max_tokens or parts.max_tokens, parts.max_tokens)
    overlap = min(policy.overlap_tokens, (limit - 1) // 2)
    return replace(settings, passages=replace(policy, max_tokens=limit, overlap_tokens=overlap))
