"""All collections of one data folder, open: looked up by name, made, changed and removed."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa

from quarry.collections.beside import BesideGenerations
from quarry.collections.collection import Consistency, OpenCollection
from quarry.collections.data_folder import DataFolder, remove_folder
from quarry.collections.generation import BEHIND_AFTER_S, DenseParts, Engines, Generation
from quarry.collections.locks import NamedLocks
from quarry.deadline import Deadline
from quarry.documents import catalog
from quarry.documents.catalog import Collection, CollectionSettings
from quarry.documents.generations import (
    Role,
    get_generation,
    list_generations,
    remove_generation,
    take_over,
)
from quarry.documents.requests import forget, once
from quarry.documents.store import Database, DocumentLog, RequestId
from quarry.documents.view import view_of
from quarry.ending import end_threads
from quarry.errors import (
    CollectionNotFoundError,
    QuarryError,
    UnavailableError,
)
from quarry.ranking.cascade import OWN, Cascade
from quarry.registry.serving import Note, check_own, note_change
from quarry.search.pipeline import Reranking
from quarry.storage.faults import reach

logger = logging.getLogger(__name__)
T = TypeVar("T")
CLOSE_GRACE_S = 30.0
ANSWERING_THREADS = 2
"""They fuse what the arms gave and read the log, for a few milliseconds a search."""
OnDelete = Callable[[Collection], Awaitable[None]]
HOLD_S = 2.0
"""How long writes may wait for the generation that is to serve."""


class Models(Protocol):
    """The models that collections use. Raises ModelError for one that cannot be had."""

    async def dense_parts(self, settings: CollectionSettings) -> DenseParts | None:
        """What the dense arm needs; None for a collection without one."""
        ...

    def holding_rerankers(self, names: Iterable[str]) -> AbstractAsyncContextManager[None]:
        """Loads these re-rankers, and keeps them loaded meanwhile."""
        ...

    def reranking(
        self, settings: CollectionSettings, log: DocumentLog, dense: DenseParts | None
    ) -> Reranking: ...


class Library:
    """Holds nothing before ``open``; ended by ``close``. Lives on one event loop.

    Attributes:
        folder: where everything lies.
        database: of the folder; closed with the library.

    Args:
        behind_after_s: how long an arm may lack what was written before answers name it.
    """

    def __init__(
        self,
        folder: DataFolder,
        database: Database,
        engines: Engines,
        models: Models,
        search_threads: int,
        behind_after_s: float = BEHIND_AFTER_S,
    ) -> None:
        self._behind_after_s = behind_after_s
        self.database = database
        self.folder = folder
        self._engines = engines
        self.models = models
        self._threads = ThreadPoolExecutor(search_threads, thread_name_prefix="search")
        self._answering = ThreadPoolExecutor(ANSWERING_THREADS, thread_name_prefix="answer")
        self._open: dict[str, OpenCollection] = {}
        self._unopened: dict[str, str] = {}
        self._beside = BesideGenerations(folder.of, self._opened)
        self._running: set[asyncio.Task[Any]] = set()
        self._retiring: dict[int, set[asyncio.Task[None]]] = {}
        self._changing = NamedLocks()
        self._on_delete: list[OnDelete] = []

    async def open(self) -> None:
        """Opens every collection there is, and removes what deleted ones left behind.

        If that fails, ``close`` closes what is open by then.
        """
        known = await asyncio.to_thread(self.database.read, catalog.list_collections)
        beside = await asyncio.to_thread(self.database.read, list_generations)
        needed: dict[int, set[str]] = {collection.key: {collection.generation} for collection in known}
        for side in beside:
            needed[side.key].add(side.name)
        await asyncio.to_thread(self.folder.remove_leftovers, needed, await self.deleted_keys())
        # All are waited for: one that still opens while the library is closed would stay open.
        _raise_first(await asyncio.gather(*map(self._open_or_note, known), return_exceptions=True))
        for side in beside:
            if side.role is Role.PREVIOUS:
                await self._open_previous_or_note(side.key)

    @property
    def names(self) -> list[str]:
        """Of the collections that are open."""
        return list(self._open)

    def folder_of(self, collection: Collection) -> Path:
        """Of the generation that serves it."""
        return self.folder.of(collection.key) / collection.generation

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
        settings = resolved(settings, await self.models.dense_parts(settings))
        return await self._finish(self._create(settings, request))

    async def _create(self, settings: CollectionSettings, request: RequestId) -> OpenCollection:
        def write(connection: sa.Connection) -> Collection:
            def make() -> Collection:
                made = catalog.create_collection(connection, settings)
                check_own(connection, made)
                return made

            return once(
                connection,
                request.method,
                request.id,
                request.request,
                make,
                dump=lambda made: made.settings.name.encode(),
                load=lambda name: catalog.get_collection(connection, name.decode()),
            )

        async with self.models.holding_rerankers(settings.rerankers), self._changing.held(settings.name):
            made = await self.database.write(write)
            if settings.name not in self._open:
                self._open[settings.name] = await self._opened_or_undone(made, request)
            return self._open[settings.name]

    async def deleted_keys(self) -> set[int]:
        """Reads the keys of the collections that were deleted: what else belongs to them may go."""
        return await asyncio.to_thread(self.database.read, catalog.deleted_keys)

    async def current(self, name: str) -> Collection:
        """The collection's row as it is now. Raises CollectionNotFoundError."""
        return await asyncio.to_thread(self.database.read, lambda c: catalog.get_collection(c, name))

    async def page(self, after: str, limit: int) -> Sequence[Collection]:
        """By name, those whose name is greater than ``after``."""
        return await asyncio.to_thread(
            self.database.read, lambda c: catalog.list_collections(c, after, limit)
        )

    async def update(self, name: str, revision: int | None, values: dict[str, Any]) -> OpenCollection:
        """Sets what ``catalog.update_collection`` sets. Raises as that does, or ModelError."""

        def write(connection: sa.Connection) -> None:
            before = catalog.get_collection(connection, name)
            after = catalog.update_collection(connection, name, revision, **values)
            note_change(connection, before, after, Note(reason="UpdateCollection"))

        replace((await self.current(name)).settings, **values)  # checked before anything is loaded
        cascade: Cascade = values.get("cascade", ())
        new = {values.get("reranker", ""), *(stage.model for stage in cascade)} - {OWN}
        await self.change(name, new, write)
        with self.use(name) as updated:
            return updated

    async def change(self, name: str, rerankers: Iterable[str], write: Callable[[sa.Connection], T]) -> T:
        """Runs ``write`` on the row of a collection, whose searches see what it left from then on.

        Args:
            rerankers: to be loaded first, so that no search misses one.

        Raises:
            CollectionNotFoundError: it was deleted meanwhile.
            ModelError: one of them cannot be loaded.
        """
        return await self._finish(self._change(name, rerankers, write))

    async def _change(self, name: str, rerankers: Iterable[str], write: Callable[[sa.Connection], T]) -> T:
        async with self.models.holding_rerankers(rerankers), self._changing.held(name):
            if name not in self._open:
                raise CollectionNotFoundError(name)
            result = await self.database.write(write)
            self._open[name].collection = await self.current(name)
            return result

    def beside(self, name: str, role: Role) -> OpenCollection | None:
        """The open generation of a collection in this role; None if none is open."""
        opened = self._open.get(name)
        return None if opened is None else self._beside.get(opened.collection.key, role)

    async def open_beside(self, key: int, role: Role) -> OpenCollection:
        """Opens the generation in this role, which then follows the log.

        Raises:
            FailedPreconditionError: the collection has none.
            CollectionNotFoundError: it is gone.
            QuarryError: the indexes cannot be opened.
        """
        return await self._finish(self._open_beside(key, role))

    async def _open_beside(self, key: int, role: Role) -> OpenCollection:
        async with self._changing_of(key):
            serving, collection = await self._beside_row(key, role)
            return await self._beside.open(role, collection, serving)

    async def _beside_row(self, key: int, role: Role) -> tuple[OpenCollection, Collection]:
        """What serves, and the collection as it would be with the generation in this role."""

        def read(connection: sa.Connection) -> Collection:
            current = catalog.collection_of_key(connection, key)
            return get_generation(connection, key, role).of(current)

        collection = await asyncio.to_thread(self.database.read, read)
        name = collection.settings.name
        if name not in self._open:
            raise UnavailableError(f"the collection {name!r} is not open")
        return self._open[name], collection

    async def close_beside(self, key: int, role: Role) -> None:
        """Closes the generation in this role and keeps its files."""
        await self._finish(self._close_beside(key, role))

    async def _close_beside(self, key: int, role: Role) -> None:
        async with self._changing_of(key):
            retiring = self._retire(key, self._beside.release(key, role))
        await retiring

    async def remove_beside(self, key: int, role: Role) -> None:
        """Forgets the generation in this role and its files.

        Raises FailedPreconditionError if the collection has none.
        """
        await self._finish(self._remove_beside(key, role))

    async def _remove_beside(self, key: int, role: Role) -> None:
        async with self._changing_of(key):
            gone = await self.database.write(lambda c: remove_generation(c, key, role))
            retiring = self._retire(key, self._beside.release(key, role), gone.name)
        await retiring

    def _retire(self, key: int, opened: OpenCollection | None, removed: str = "") -> "asyncio.Task[None]":
        """Closes a generation that no request finds any more. The collection's deletion waits for that.

        Args:
            removed: the generation whose files are deleted then; empty: none.
        """

        async def retire() -> None:
            if opened is not None:
                await opened.close(CLOSE_GRACE_S)
            if removed:
                await self._beside.remove(key, removed)

        task = asyncio.create_task(retire())
        tasks = self._retiring.setdefault(key, set())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task

    async def switch(self, key: int, role: Role, check: Callable[[], Awaitable[None]]) -> Collection:
        """Lets the open generation in this role serve, and keeps what served until now as the previous.

        Writes wait meanwhile, some ``HOLD_S`` at most; answers that have begun end on the generation that
        they began on.

        Args:
            check: called while no write is under way; what it raises leaves everything as it was.

        Raises:
            UnavailableError: it is behind what serves, and did not catch up in time.
        """
        return await self._finish(self._switch(key, role, check))

    async def _switch(self, key: int, role: Role, check: Callable[[], Awaitable[None]]) -> Collection:
        row, retiring = await self._switched(key, role, check)
        await retiring
        return row

    async def _switched(
        self, key: int, role: Role, check: Callable[[], Awaitable[None]]
    ) -> tuple[Collection, "asyncio.Task[None]"]:
        """What serves now, and the task that closes and removes what was the previous until then."""
        async with self._changing_of(key):
            old, _ = await self._beside_row(key, role)
            new = self._beside.get(key, role)
            if new is None:
                raise UnavailableError("the indexes that are to serve are not open")
            async with old.held():
                if not await new.generation.wait_visible(old.generation.visible, HOLD_S):
                    raise UnavailableError("the indexes that are to serve have not caught up")
                await check()
                reach("reindex-checked")
                row, replaced = await self.database.write(lambda c: take_over(c, key, role))
                reach("reindex-switched")
                # No await from here to the end of the block: no request sees half of it.
                self._beside.release(key, role)
                retired = self._beside.release(key, Role.PREVIOUS)
                self._beside.take(Role.PREVIOUS, old, new)
                new.collection, new.successor, old.successor = row, None, new
                self._open[row.settings.name] = new
            return row, self._retire(key, retired, replaced)

    async def delete(self, name: str, revision: int | None) -> None:
        """Removes the collection, after the requests that use it."""
        await self._finish(self._delete(name, revision))

    async def _delete(self, name: str, revision: int | None) -> None:
        async with self._changing.held(name):
            gone = await self.database.write(lambda c: catalog.delete_collection(c, name, revision))
            self._unopened.pop(name, None)
            for opened in [self._open.pop(name, None), *self._beside.release_all(gone.key)]:
                self._retire(gone.key, opened)
            retiring = self._retiring.pop(gone.key)
        # The deletion stands, whatever fails from here on: the next start removes what is left of the folder.
        for result in await asyncio.gather(*retiring, return_exceptions=True):
            if isinstance(result, BaseException):
                logger.error("indexes of the deleted collection %s did not close well: %s", name, result)
        try:
            await asyncio.to_thread(remove_folder, self.folder.of(gone.key))
        except OSError as error:
            logger.error("the folder of the deleted collection %s is left: %s", name, error)
        await self._tell_deleted(gone)

    def when_deleted(self, told: OnDelete) -> None:
        """Calls ``told`` for each collection that was deleted, when it is gone; the last one added first.

        Whatever it leaves undone or fails at must be made up for at the next start: the deletion stands.
        """
        self._on_delete.append(told)

    async def _tell_deleted(self, gone: Collection) -> None:
        for told in reversed(self._on_delete):  # jobs end before what they read goes
            try:
                await told(gone)
            except (QuarryError, sa.exc.SQLAlchemyError, OSError) as error:
                logger.error("what belonged to the collection %s is left: %s", gone.settings.name, error)

    async def repair(self, name: str, deadline: Deadline) -> tuple[Consistency, Consistency]:
        """Makes the arms agree with the log; the differences before and after.

        An arm that is ahead of the log cannot be followed on: the collection gets new indexes, made from the
        log as it is. Whoever calls this accepts that log as the truth. It gets new indexes, too, where files
        are damaged.
        """
        before: Consistency | None = None
        with self.use(name) as collection:
            if collection.read_only is None:
                before, after = await collection.repair(deadline)
                if not any(arm.files for arm in after.arms):
                    return before, after
        opened = await self._finish(self._rebuilt(name))
        found = await opened.check(deadline)
        return before or found, found

    async def _rebuilt(self, name: str) -> OpenCollection:
        async with self._changing.held(name):
            old = self._open.get(name)
            if old is None:
                raise CollectionNotFoundError(name)
            key = old.collection.key
            await self.database.write(lambda c: catalog.set_generation(c, key))
            new = await self._opened(await self.current(name))
            old.generations.add(new.generation)
            new.generations = old.generations
            self._open[name] = new
            retiring = self._retire(key, old)
        await retiring
        return new

    async def _finish(self, change: Coroutine[Any, Any, T]) -> T:
        """The change's result. It goes on if the caller goes: half a change would outlive the call."""
        task = asyncio.create_task(change)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def close(self, grace_s: float = CLOSE_GRACE_S) -> None:
        """Closes everything, whatever fails on the way; then raises the first failure.

        Args:
            grace_s: for changes of collections that are under way, and for whoever uses one.
        """
        async with contextlib.AsyncExitStack() as closing:
            closing.push_async_callback(asyncio.to_thread, self.database.close)
            closing.push_async_callback(end_threads, self._threads, grace_s)
            closing.push_async_callback(end_threads, self._answering, grace_s)
            if self._running:
                await asyncio.wait(self._running, timeout=grace_s)
            opened = [*self._open.values(), *self._beside.release_all()]
            self._open.clear()
            closing.push_async_callback(_close_all, opened, grace_s)

    @contextlib.asynccontextmanager
    async def _changing_of(self, key: int) -> AsyncIterator[None]:
        """Lets nobody else change the collection with this key meanwhile, unless it is gone."""
        try:
            row = await asyncio.to_thread(self.database.read, lambda c: catalog.collection_of_key(c, key))
        except CollectionNotFoundError:
            yield
            return
        async with self._changing.held(row.settings.name):
            yield

    async def _open_or_note(self, collection: Collection) -> None:
        """Opens a collection at the start; one that cannot be opened does not keep the others away."""
        name = collection.settings.name
        try:
            self._open[name] = await self._opened(collection)
        except (QuarryError, OSError) as error:
            logger.error("the collection %s cannot be opened: %s", name, error)
            self._unopened[name] = str(error)

    async def _open_previous_or_note(self, key: int) -> None:
        """Opens what is kept for a rollback, which tries again if it cannot be opened now."""
        try:
            await self.open_beside(key, Role.PREVIOUS)
        except (QuarryError, OSError) as error:
            logger.error("a previous generation cannot be opened: %s", error)

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
        settings = collection.settings
        log = DocumentLog(self.database, collection.key, view_of(settings.schema, collection.mixed_fields))
        folder = self.folder.of(collection.key) / collection.generation
        folder.mkdir(parents=True, exist_ok=True)
        generation = Generation(
            collection, folder, log, self._engines, self._threads, self._answering, self._behind_after_s
        )
        try:
            await generation.open(
                lambda: self.models.dense_parts(settings),
                lambda parts: self.models.reranking(settings, log, parts),
            )
        except BaseException:
            await generation.close()
            raise
        return OpenCollection(collection, log, generation)


async def _close_all(opened: Sequence[OpenCollection], grace_s: float = CLOSE_GRACE_S) -> None:
    """Closes them side by side, so that one that hangs holds no other; then raises the first failure."""
    _raise_first(await asyncio.gather(*(one.close(grace_s) for one in opened), return_exceptions=True))


def _raise_first(results: Iterable[object]) -> None:
    for result in results:
        if isinstance(result, BaseException):
            raise result


def resolved(settings: CollectionSettings, parts: DenseParts | None) -> CollectionSettings:
    """``settings`` with the passages that the encoder can read, so that they never change unseen."""
    if parts is None:
        return settings
    policy = settings.passages
    limit = min(policy.max_tokens or parts.max_tokens, parts.max_tokens)
    overlap = min(policy.overlap_tokens, (limit - 1) // 2)
    return replace(settings, passages=replace(policy, max_tokens=limit, overlap_tokens=overlap))
