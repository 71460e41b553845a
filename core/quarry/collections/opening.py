"""Opens collections, with the engines and models that they name."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from quarry.collections.collection_handle import CollectionHandle
from quarry.collections.generation import BEHIND_AFTER_S, DenseParts, Generation
from quarry.documents.catalog import Collection, CollectionSettings
from quarry.documents.store import Database, DocumentLog
from quarry.documents.view import make_view
from quarry.ending import end_threads
from quarry.retrieval.definition import Engines
from quarry.search.pipeline import Reranking

ANSWERING_THREADS = 2
"""They fuse what the arms gave and read the log, for a few milliseconds a search."""


class CollectionModelLoader(Protocol):
    """The models that collections use. Raises ModelError for one that cannot be had."""

    async def load_dense_parts(self, settings: CollectionSettings) -> DenseParts | None:
        """Loads what the dense arm needs; None for a collection without one."""
        ...

    def hold_rerankers(self, names: Iterable[str]) -> AbstractAsyncContextManager[None]:
        """Loads these re-rankers, and keeps them loaded meanwhile."""
        ...

    def make_reranking(
        self, settings: CollectionSettings, log: DocumentLog, dense: DenseParts | None
    ) -> Reranking: ...


class CollectionOpener:
    """Opens collections; they share its threads, which ``close`` ends.

    Args:
        behind_after_s: how long an arm may lack what was written before answers name it.
    """

    def __init__(
        self,
        database: Database,
        engines: Engines,
        models: CollectionModelLoader,
        search_threads: int,
        behind_after_s: float = BEHIND_AFTER_S,
    ) -> None:
        self._database, self._engines, self._models = database, engines, models
        self._behind_after_s = behind_after_s
        self._threads = ThreadPoolExecutor(search_threads, thread_name_prefix="search")
        self._answering = ThreadPoolExecutor(ANSWERING_THREADS, thread_name_prefix="answer")

    async def open(self, collection: Collection, folder: Path) -> CollectionHandle:
        """Opens the generation that ``collection`` names.

        Args:
            folder: of all generations of the collection.

        Raises QuarryError or OSError if it cannot be opened; then nothing of it stays open.
        """
        settings = collection.settings
        log = DocumentLog(self._database, collection.key, make_view(settings.schema, collection.mixed_fields))
        own_folder = folder / collection.generation
        own_folder.mkdir(parents=True, exist_ok=True)
        generation = Generation(
            collection, own_folder, log, self._engines, self._threads, self._answering, self._behind_after_s
        )
        try:
            await generation.open(
                lambda: self._models.load_dense_parts(settings),
                lambda parts: self._models.make_reranking(settings, log, parts),
            )
        except BaseException:
            await generation.close()
            raise
        return CollectionHandle(collection, log, generation)

    async def close(self, grace_s: float) -> None:
        """Ends the threads, and waits at most ``grace_s`` for each kind of them."""
        async with AsyncExitStack() as closing:
            closing.push_async_callback(end_threads, self._threads, grace_s)
            closing.push_async_callback(end_threads, self._answering, grace_s)


def resolve_settings(settings: CollectionSettings, parts: DenseParts | None) -> CollectionSettings:
    """Returns ``settings`` with the passages that the encoder can read, so that they never change unseen."""
    if parts is None:
        return settings
    policy = settings.passages
    limit = min(policy.max_tokens or parts.max_tokens, parts.max_tokens)
    overlap = min(policy.overlap_tokens, (limit - 1) // 2)
    return replace(settings, passages=replace(policy, max_tokens=limit, overlap_tokens=overlap))
