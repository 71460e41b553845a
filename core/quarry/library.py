"""All collections of one data folder, open: looked up by name, made, changed and removed."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from filelock import FileLock, Timeout

from quarry.collection import Consistency, OpenCollection, remove_folder
from quarry.deadline import Deadline
from quarry.documents import catalog
from quarry.documents.catalog import Collection, CollectionSettings
from quarry.documents.requests import forget, once
from quarry.documents.store import Database, DocumentLog, RequestId
from quarry.documents.tables import open_database
from quarry.errors import (
    CollectionNotFoundError,
    DataLossError,
    FailedPreconditionError,
    QuarryError,
    UnavailableError,
)
from quarry.generation import DenseParts, Engines, Generation
from quarry.pipeline import Reranking

logger = logging.getLogger(__name__)
T = TypeVar("T")
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
    """Made by ``open``, ended by ``close``. Lives on one event loop.

    Attributes:
        on_delete: told of each collection that was deleted, when it is gone. Whatever it leaves undone or
            fails at must be made up for at the next start: the deletion stands.
    """

    def __init__(
        self, folder: DataFolder, database: Database, engines: Engines, models: Models, search_threads: int
    ) -> None:
        self.database = database
        self._folder = folder
        self._engines = engines
        self._models = models
        self._threads = ThreadPoolExecutor(search_threads, thread_name_prefix="search")
        self._open: dict[str, OpenCollection] = {}
        self._unopened: dict[str, str] = {}
        self._running: set[asyncio.Task[Any]] = set()
        self._changing = asyncio.Lock()
        self.on_delete: Callable[[Collection], Awaitable[None]] | None = None

    @classmethod
    async def open(
        cls, folder: DataFolder, engines: Engines, models: Models, search_threads: int
    ) -> "Library":
        """Opens every collection there is, and removes what deleted ones left behind."""
        database = Database(await asyncio.to_thread(open_database, folder.documents))
        library = cls(folder, database, engines, models, search_threads)
        known = await asyncio.to_thread(database.read, catalog.list_collections)
        await asyncio.to_thread(library._remove_leftovers, known)
        await asyncio.gather(*map(library._open_or_note, known))
        return library

    @contextlib.contextmanager
    def use(self, name: str) -> Iterator[OpenCollection]:
        """The collection, kept open meanwhile.

        Raises:
            CollectionNotFoundError: there is none of this name.
            UnavailableError: there is one, and its indexes cannot be opened.
        """
        if name in self._unopened:
            raise UnavailableError(f"the collection {name!r} cannot be opened: {self._unopened[name]}")
        if name not in self._open:
            raise CollectionNotFoundError(name[:80])
        with self._open[name].use() as collection:
            yield collection

    async def create(self, settings: CollectionSettings, request: RequestId) -> OpenCollection:
        """Raises AlreadyExistsError, or ModelError if its encoder or re-ranker cannot be loaded."""
        settings = _resolved(settings, await self._models.dense_parts(settings))
        if settings.reranker:
            await self._models.check_reranker(settings.reranker)
        return await self._finished(self._create(settings, request))

    async def _create(self, settings: CollectionSettings, request: RequestId) -> OpenCollection:
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

        async with self._changing:
            made = await self.database.write(write)
            if settings.name not in self._open:
                self._open[settings.name] = await self._opened_or_undone(made, request)
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
        if values.get("reranker"):
            await self._models.check_reranker(values["reranker"])
        return await self._finished(self._update(name, revision, values))

    async def _update(self, name: str, revision: int | None, values: dict[str, str]) -> OpenCollection:
        async with self._changing:
            updated = await self.database.write(
                lambda c: catalog.update_collection(c, name, revision, **values)
            )
            self._open[name].collection = updated
            return self._open[name]

    async def delete(self, name: str, revision: int | None) -> None:
        """Removes the collection, after the requests that use it."""
        await self._finished(self._delete(name, revision))

    async def _delete(self, name: str, revision: int | None) -> None:
        async with self._changing:
            gone = await self.database.write(lambda c: catalog.delete_collection(c, name, revision))
            self._unopened.pop(name, None)
            opened = self._open.pop(name, None)
            if opened is not None:
                await opened.close(CLOSE_GRACE_S)
            await asyncio.to_thread(remove_folder, self._folder.of(gone))
        await self._tell_deleted(gone)

    async def _tell_deleted(self, gone: Collection) -> None:
        if self.on_delete is None:
            return
        try:
            await self.on_delete(gone)
        except (QuarryError, sa.exc.SQLAlchemyError, OSError) as error:
            logger.error("what belonged to the collection %s is left for now: %s", gone.settings.name, error)

    async def repair(self, name: str, deadline: Deadline) -> tuple[Consistency, Consistency]:
        """Makes the arms agree with the log; the differences before and after.

        An arm that is ahead of the log cannot be followed on: the collection gets new indexes, made from the
        log as it is. Whoever calls this accepts that log as the truth.
        """
        with self.use(name) as collection:
            if collection.read_only is None:
                return await collection.repair(deadline)
        opened = await self._finished(self._rebuilt(name))
        found = await opened.check(deadline)
        return found, found

    async def _rebuilt(self, name: str) -> OpenCollection:
        async with self._changing:
            old = self._open[name]
            await self.database.write(lambda c: catalog.set_generation(c, old.collection.key))
            self._open[name] = await self._opened(await self.current(name))
            await old.close(CLOSE_GRACE_S)
            return self._open[name]

    async def _finished(self, change: Coroutine[Any, Any, T]) -> T:
        """The change's result. It goes on if the caller goes: half a change would outlive the call."""
        task = asyncio.create_task(change)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Closes everything, whatever fails on the way; then raises the first failure."""
        async with contextlib.AsyncExitStack() as closing:
            closing.callback(self._folder.close)
            closing.callback(self._threads.shutdown)
            closing.push_async_callback(asyncio.to_thread, self.database.close)
            await asyncio.gather(*self._running, return_exceptions=True)
            async with self._changing:
                for opened in self._open.values():
                    closing.push_async_callback(opened.close, CLOSE_GRACE_S)
                self._open.clear()

    async def _open_or_note(self, collection: Collection) -> None:
        """Opens a collection at the start; one that cannot be opened does not keep the others away."""
        name = collection.settings.name
        try:
            self._open[name] = await self._opened(collection)
        except (QuarryError, OSError) as error:
            logger.error("the collection %s cannot be opened: %s", name, error)
            self._unopened[name] = str(error)

    async def _opened_or_undone(self, made: Collection, request: RequestId) -> OpenCollection:
        """A new collection, open; one that cannot be opened is not kept, so that the name stays free."""

        def undo(connection: sa.Connection) -> None:
            catalog.delete_collection(connection, made.settings.name, None)
            forget(connection, request.method, request.id)

        try:
            return await self._opened(made)
        except BaseException:
            await self.database.write(undo)
            raise

    async def _opened(self, collection: Collection) -> OpenCollection:
        log = DocumentLog(self.database, collection.key)
        folder = self._folder.of(collection) / collection.generation
        folder.mkdir(parents=True, exist_ok=True)
        generation = Generation(collection, folder, log, self._engines, self._threads)
        settings = collection.settings
        await generation.open(
            lambda: self._models.dense_parts(settings),
            lambda parts: self._models.reranking(settings, log, parts),
        )
        return OpenCollection(collection, log, generation)

    def _remove_leftovers(self, known: Sequence[Collection]) -> None:
        """Folders of deleted collections and of generations that no longer serve."""
        serving = {str(c.key): c.generation for c in known}
        for folder in filter(Path.is_dir, self._folder.collections.glob("*")):
            if folder.name not in serving:
                remove_folder(folder)
                continue
            for generation in filter(Path.is_dir, folder.glob("*")):
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
