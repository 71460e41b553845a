"""All collections of one data folder, open: looked up by name, made, changed and removed."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from quarry.collections.aliases import Aliases
from quarry.collections.changes import CLOSE_GRACE_S, Changes
from quarry.collections.collection_handle import CollectionHandle, Consistency
from quarry.collections.data_folder import DataFolder, remove_folder
from quarry.collections.generation import BEHIND_AFTER_S, Generation
from quarry.collections.opening import CollectionModelLoader, CollectionOpener, resolve_settings
from quarry.collections.side_generations import SideGenerations
from quarry.deadline import Deadline
from quarry.documents import catalog
from quarry.documents.catalog import Collection, CollectionSettings
from quarry.documents.generations import Role, list_generations
from quarry.documents.requests import forget, run_once
from quarry.documents.store import Database, RequestId
from quarry.errors import CollectionNotFoundError, QuarryError, UnavailableError
from quarry.ranking.cascade import OWN, Cascade
from quarry.registry.serving import Note, check_own, check_proven, is_unproven, note_change
from quarry.retrieval.definition import Engines
from quarry.types import Docno
from quarry.vocabulary import Vocabulary, check_vocabulary

logger = logging.getLogger(__name__)
T = TypeVar("T")
OnDelete = Callable[[Collection], Awaitable[None]]


class Collections:
    """Holds nothing before ``open``; ended by ``close``. Lives on one event loop.

    Attributes:
        folder: where everything lies.
        database: of the folder; closed with the collections.
        side_generations: those that are open and do not serve.
        aliases: second names of collections. ``use`` and ``find_name`` take them; all else takes own names.

    Args:
        behind_after_s: how long an arm may lack what was written before answers name it.
    """

    def __init__(
        self,
        folder: DataFolder,
        database: Database,
        engines: Engines,
        models: CollectionModelLoader,
        search_threads: int,
        behind_after_s: float = BEHIND_AFTER_S,
    ) -> None:
        self.database = database
        self.folder = folder
        self.models = models
        self._opener = CollectionOpener(database, engines, models, search_threads, behind_after_s)
        self.aliases = Aliases(database)
        self._open: dict[str, CollectionHandle] = {}
        self._unopened: dict[str, str] = {}
        self._changes = Changes()
        self.side_generations = SideGenerations(
            database, folder.locate, self._open_collection, self._changes, self._open
        )
        self._on_delete: list[OnDelete] = []

    async def open(self) -> None:
        """Opens every collection there is, and removes what deleted ones left behind.

        If that fails, ``close`` closes what is open by then.
        """
        await self.aliases.load()
        known = await asyncio.to_thread(self.database.read, catalog.list_collections)
        sides = await asyncio.to_thread(self.database.read, list_generations)
        needed: dict[int, set[str]] = {collection.key: {collection.generation} for collection in known}
        for side in sides:
            needed[side.key].add(side.name)
        await asyncio.to_thread(self.folder.remove_leftovers, needed, await self.read_deleted_keys())
        # All are waited for: one that still opens while the collections are closed would stay open.
        _raise_first(await asyncio.gather(*map(self._open_or_note, known), return_exceptions=True))
        for side in sides:
            if side.role is Role.PREVIOUS:
                await self._open_previous_or_note(side.key)

    @property
    def names(self) -> list[str]:
        """The names of the collections that are open."""
        return list(self._open)

    def list_generations(self) -> list[Generation]:
        """Lists the generations that are open, those beside the serving ones included."""
        return [one.generation for one in [*self._open.values(), *self.side_generations.list_open()]]

    async def read_generations(self) -> set[str]:
        """Reads the names of all generations that collections have, open or not."""

        def read(connection: sa.Connection) -> set[str]:
            serving = {collection.generation for collection in catalog.list_collections(connection)}
            return serving | {side.name for side in list_generations(connection)}

        return await asyncio.to_thread(self.database.read, read)

    async def is_being_filled(self, docno: Docno) -> bool:
        """Tells whether the indexes that serve this document's collection do not hold all documents yet, or
        are not open. A document that the log does not know has no collection."""
        find = partial(catalog.find_collection_of, docno=docno)
        collection = await asyncio.to_thread(self.database.read, find)
        if collection is None:
            return False
        opened = self._open.get(collection.settings.name)
        if opened is None or opened.generation.name != collection.generation:
            return True
        return not opened.generation.is_filled

    def find_keys(self, name: str) -> frozenset[int]:
        """Returns the keys of the open collections that ``name`` means; an alias may have meant any of them
        before, for nobody keeps what it named."""
        means = self._open if self.aliases.resolve(name) != name else (name,)
        return frozenset(self._open[one].row.key for one in means if one in self._open)

    def locate_folder(self, collection: Collection) -> Path:
        """Locates the folder of the generation that serves the collection."""
        return self.folder.locate(collection.key) / collection.generation

    @contextlib.contextmanager
    def use(self, name: str) -> Iterator[CollectionHandle]:
        """Yields the collection of this name or alias, kept open meanwhile.

        Raises:
            CollectionNotFoundError: there is none of this name.
            UnavailableError: there is one, and its indexes cannot be opened.
        """
        name = self.aliases.resolve(name)
        if name in self._unopened:
            raise UnavailableError(f"the collection {name!r} cannot be opened: {self._unopened[name]}")
        if name not in self._open:
            raise CollectionNotFoundError(name[:80])
        with self._open[name].use() as collection:
            yield collection

    def find_name(self, name: str) -> str:
        """Returns the own name of the collection of this name or alias. Raises as ``use``."""
        with self.use(name) as collection:
            return collection.row.settings.name

    async def create(self, settings: CollectionSettings, request: RequestId) -> CollectionHandle:
        """Raises AlreadyExistsError if a collection or an alias is called so, or ModelError if its encoder or
        re-ranker cannot be loaded."""
        settings = resolve_settings(settings, await self.models.load_dense_parts(settings))
        return await self._changes.finish(self._create(settings, request))

    async def _create(self, settings: CollectionSettings, request: RequestId) -> CollectionHandle:
        def write(connection: sa.Connection) -> Collection:
            def make(connection: sa.Connection) -> Collection:
                made = catalog.create_collection(connection, settings)
                check_own(connection, made)
                return made

            return run_once(
                connection,
                request.method,
                request.id,
                request.request,
                make,
                dump=lambda made: made.settings.name.encode(),
                load=lambda name: catalog.get_collection(connection, name.decode()),
            )

        async with self.models.hold_rerankers(settings.rerankers), self._changes.held(settings.name):
            made = await self.database.write(write)
            if settings.name not in self._open:
                self._open[settings.name] = await self._open_or_undo(made, request)
            return self._open[settings.name]

    async def read_deleted_keys(self) -> set[int]:
        """Reads the keys of the collections that were deleted: what else belongs to them may go."""
        return await asyncio.to_thread(self.database.read, catalog.read_deleted_keys)

    async def read_current(self, name: str) -> Collection:
        """Reads the collection's row as it is now. Raises CollectionNotFoundError."""
        return await asyncio.to_thread(self.database.read, lambda c: catalog.get_collection(c, name))

    async def is_unproven(self, collection: Collection) -> bool:
        """Tells whether a model that no verdict speaks for re-ranks the collection, in whichever stage."""
        return await asyncio.to_thread(self.database.read, lambda c: is_unproven(c, collection))

    async def read_page(self, after: str, limit: int) -> Sequence[Collection]:
        """Reads collections by name, those whose name is greater than ``after``."""
        return await asyncio.to_thread(
            self.database.read, lambda c: catalog.list_collections(c, after, limit)
        )

    async def update(
        self, name: str, revision: int | None, values: dict[str, Any], *, unproven: bool = False
    ) -> CollectionHandle:
        """Sets what ``catalog.update_collection`` sets.

        Args:
            unproven: allow another re-ranker that no verdict speaks for, in the cascade too.

        Raises:
            UnprovenRerankerError: the re-ranker is one, and that is not allowed.
            QuarryError: as ``catalog.update_collection`` does, or ModelError.
        """

        def write(connection: sa.Connection) -> None:
            before = catalog.get_collection(connection, name)
            after = catalog.update_collection(connection, name, revision, **values)
            note_change(connection, before, after, Note(reason="UpdateCollection"))
            if not unproven:
                check_proven(connection, before, after)

        replace((await self.read_current(name)).settings, **values)  # checked before anything is loaded
        cascade: Cascade = values.get("cascade", ())
        new = {values.get("reranker", ""), *(stage.model for stage in cascade)} - {OWN}
        await self.change(name, new, write)
        with self.use(name) as updated:
            return updated

    async def set_vocabulary(
        self, name: str, revision: int | None, parts: Mapping[str, tuple[Any, ...]]
    ) -> Collection:
        """Sets ``synonyms``, ``stop_words`` or both; a part that is not named stays as the write finds it.

        Raises:
            ConflictError: ``revision`` is not the current one.
            InvalidArgumentError: as ``check_vocabulary``.
        """

        def merge(before: Collection) -> Vocabulary:
            return replace(before.settings.vocabulary or Vocabulary(), **parts)

        def write(connection: sa.Connection) -> Collection:
            vocabulary = merge(catalog.get_collection(connection, name))
            if vocabulary.parts != checked.parts:  # the other part has changed meanwhile
                check_vocabulary(vocabulary)
            value = vocabulary if any(vocabulary.parts) else None
            return catalog.update_collection(connection, name, revision, vocabulary=value)

        checked = merge(await self.read_current(name))
        await asyncio.to_thread(check_vocabulary, checked)  # a large one would hold the writer for a second
        return await self.change(name, (), write)

    async def change(self, name: str, rerankers: Iterable[str], write: Callable[[sa.Connection], T]) -> T:
        """Runs ``write`` on the row of a collection, whose searches see what it left from then on.

        Args:
            rerankers: to be loaded first, so that no search misses one.

        Raises:
            CollectionNotFoundError: it was deleted meanwhile.
            ModelError: one of them cannot be loaded.
        """
        return await self._changes.finish(self._change(name, rerankers, write))

    async def _change(self, name: str, rerankers: Iterable[str], write: Callable[[sa.Connection], T]) -> T:
        async with self.models.hold_rerankers(rerankers), self._changes.held(name):
            if name not in self._open:
                raise CollectionNotFoundError(name)
            result = await self.database.write(write)
            self._open[name].row = await self.read_current(name)
            return result

    async def delete(self, name: str, revision: int | None) -> None:
        """Removes the collection, after the requests that use it. Raises as ``catalog.delete_collection``."""
        await self._changes.finish(self._delete(name, revision))

    async def _delete(self, name: str, revision: int | None) -> None:
        async with self._changes.held(name):
            async with self.aliases.hold():
                gone = await self.database.write(lambda c: catalog.delete_collection(c, name, revision))
            self._unopened.pop(name, None)
            for opened in [self._open.pop(name, None), *self.side_generations.take_all(gone.key)]:
                self._changes.retire(gone.key, opened)
            retiring = self._changes.take_retiring(gone.key)
        # The deletion stands, whatever fails from here on: the next start removes what is left of the folder.
        for result in await asyncio.gather(*retiring, return_exceptions=True):
            if isinstance(result, BaseException):
                logger.error("indexes of the deleted collection %s did not close well: %s", name, result)
        try:
            await asyncio.to_thread(remove_folder, self.folder.locate(gone.key))
        except OSError as error:
            logger.error("the folder of the deleted collection %s is left: %s", name, error)
        await self._tell_deleted(gone)

    def notify_when_deleted(self, on_delete: OnDelete) -> None:
        """Calls ``on_delete`` for each deleted collection when it is gone; the last one added comes first.

        Whatever it leaves undone or fails at must be made up for at the next start: the deletion stands.
        """
        self._on_delete.append(on_delete)

    async def _tell_deleted(self, gone: Collection) -> None:
        for told in reversed(self._on_delete):  # jobs end before what they read goes
            try:
                await told(gone)
            except (QuarryError, sa.exc.SQLAlchemyError, OSError) as error:
                logger.error("what belonged to the collection %s is left: %s", gone.settings.name, error)

    async def repair(self, name: str, deadline: Deadline) -> tuple[Consistency, Consistency]:
        """Makes the arms agree with the log; returns the differences before and after.

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
        opened = await self._changes.finish(self._rebuild(name))
        found = await opened.check(deadline)
        return before or found, found

    async def _rebuild(self, name: str) -> CollectionHandle:
        async with self._changes.held(name):
            old = self._open.get(name)
            if old is None:
                raise CollectionNotFoundError(name)
            key = old.row.key
            await self.database.write(lambda c: catalog.set_generation(c, key))
            new = await self._open_collection(await self.read_current(name))
            old.generations.add(new.generation)
            new.generations = old.generations
            self._open[name] = new
            retiring = self._changes.retire(key, old)
        await retiring
        return new

    async def close(self, grace_s: float = CLOSE_GRACE_S) -> None:
        """Closes everything, whatever fails on the way; then raises the first failure.

        Args:
            grace_s: for changes of collections that are under way, and for whoever uses one.
        """
        async with contextlib.AsyncExitStack() as closing:
            closing.push_async_callback(asyncio.to_thread, self.database.close)
            closing.push_async_callback(self._opener.close, grace_s)
            await self._changes.wait(grace_s)
            opened = [*self._open.values(), *self.side_generations.take_all()]
            self._open.clear()
            closing.push_async_callback(_close_all, opened, grace_s)

    async def _open_or_note(self, collection: Collection) -> None:
        """Opens a collection at the start; one that cannot be opened does not keep the others away."""
        name = collection.settings.name
        try:
            self._open[name] = await self._open_collection(collection)
        except (QuarryError, OSError) as error:
            logger.error("the collection %s cannot be opened: %s", name, error)
            self._unopened[name] = str(error)

    async def _open_previous_or_note(self, key: int) -> None:
        """Opens what is kept for a rollback, which tries again if it cannot be opened now."""
        try:
            await self.side_generations.open(key, Role.PREVIOUS)
        except (QuarryError, OSError) as error:
            logger.error("a previous generation cannot be opened: %s", error)

    async def _open_or_undo(self, made: Collection, request: RequestId) -> CollectionHandle:
        """Opens a new collection.

        One that cannot be opened is not kept, so that the name stays free.
        """

        def undo(connection: sa.Connection) -> None:
            catalog.delete_collection(connection, made.settings.name, None)
            forget(connection, request.method, request.id)

        try:
            return await self._open_collection(made)
        except BaseException:
            await self.database.write(undo)
            raise

    async def _open_collection(self, collection: Collection) -> CollectionHandle:
        return await self._opener.open(collection, self.folder.locate(collection.key))


async def _close_all(opened: Sequence[CollectionHandle], grace_s: float = CLOSE_GRACE_S) -> None:
    """Closes them side by side, so that one that hangs holds no other; then raises the first failure."""
    _raise_first(await asyncio.gather(*(one.close(grace_s) for one in opened), return_exceptions=True))


def _raise_first(results: Iterable[object]) -> None:
    for result in results:
        if isinstance(result, BaseException):
            raise result
