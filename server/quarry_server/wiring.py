"""Chooses the implementations that a server's settings ask for."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from qdrant_client import AsyncQdrantClient

from quarry.config import Settings
from quarry.documents.catalog import NO_ENCODER, Collection, CollectionSettings, list_collections
from quarry.documents.passages import PassageCutter
from quarry.documents.store import DocumentLog
from quarry.documents.vector_cache import VectorCache
from quarry.documents.vectors import DocumentVectors, source_of
from quarry.errors import InvalidArgumentError, ModelError
from quarry.feedback.guards import GuardPolicy
from quarry.feedback.impressions import BufferPolicy, ImpressionLog
from quarry.feedback.log import FeedbackLog
from quarry.feedback.purge import PurgeMade, nothing_made
from quarry.feedback.tables import FILE_NAME as FEEDBACK_FILE
from quarry.feedback.tokens import TokenSigner, rotate_keys
from quarry.feedback.upkeep import Retention, Upkeep, remove_collection
from quarry.generation import DenseParts
from quarry.library import Library
from quarry.models.served import ServedModels
from quarry.reranking import BestPassages, CrossEncoderReranking
from quarry.retrieval.base import DenseStore, LexicalIndex
from quarry.retrieval.bm25 import TantivyIndex
from quarry.retrieval.edge.client import EdgeDenseStore
from quarry.retrieval.edge.settings import GraphPolicy, StoreSettings
from quarry.retrieval.qdrant import QdrantDenseStore
from quarry.schema import Schema
from quarry.types import Fields
from quarry_server.impressions import AnswerLog, PoolPolicy

T = TypeVar("T")


class SettingsEngines:
    """Tantivy, and Qdrant embedded or by URL."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def lexical(self, folder: Path, generation: str, schema: Schema) -> LexicalIndex:
        return TantivyIndex(folder, generation, schema)

    async def dense(self, folder: Path, generation: str, schema: Schema, dimension: int) -> DenseStore:
        qdrant = self._settings.qdrant
        if qdrant.url:
            client = AsyncQdrantClient(url=qdrant.url, api_key=qdrant.api_key or None, prefer_grpc=True)
            name = f"quarry-{generation}"
            return await QdrantDenseStore.open(client, name, generation, dimension, schema.filterable)
        graph = GraphPolicy(min_pending=qdrant.build_after, indexing_threshold_kb=qdrant.build_threshold_kb)
        return await EdgeDenseStore.open(
            StoreSettings(folder, generation, dimension, schema.filterable, graph)
        )


class CollectionModels:
    """The models that collections use, and the cache of what encoding cost. Ended by ``close``."""

    def __init__(self, models: ServedModels, settings: Settings) -> None:
        self._models, self._settings = models, settings
        self._cache = VectorCache(settings.data / "vectors.db")

    async def dense_parts(self, settings: CollectionSettings) -> DenseParts | None:
        if settings.encoder == NO_ENCODER:
            return None
        served = await _typed(settings.encoder, self._models.encoder(settings.encoder))
        cutter = PassageCutter(served.encoder, settings.passages)
        vectors = DocumentVectors(settings.schema, cutter, served.batcher, self._cache)
        info = served.encoder.info
        return DenseParts(served, vectors, info.dimension, info.max_tokens)

    async def check_reranker(self, name: str) -> None:
        await _typed(name, self._models.load_scorer(name))

    async def check_offered(self, name: str) -> None:
        """Loads a re-ranker that a search asks for by name, if the settings offer it.

        Raises:
            InvalidArgumentError: they do not: a search may not make the server load just anything.
        """
        if name not in self._settings.models.rerankers:
            problem = (
                f"{name[:80]!r} is neither the collection's re-ranker nor in the server's models.rerankers"
            )
            raise InvalidArgumentError("rerank.model", problem)
        await self.check_reranker(name)

    def reranking(
        self, settings: CollectionSettings, log: DocumentLog, dense: DenseParts | None
    ) -> CrossEncoderReranking:
        async def whole(documents: Sequence[Fields]) -> list[list[str]]:
            sources = [source_of(settings.schema, fields) for fields in documents]
            return [[f"{source.title}\n{source.text}".strip()] for source in sources]

        passages = whole if dense is None else dense.vectors.passages
        return CrossEncoderReranking(self._models.scorer, BestPassages(log, passages))

    async def close(self) -> None:
        await self._models.close()
        await asyncio.to_thread(self._cache.close)


async def _typed(name: str, loading: Awaitable[T]) -> T:
    """What loading a model gives; names are the callers', and some of them offend the file system."""
    try:
        return await loading
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"{name[:80]!r} cannot be loaded: {type(error).__name__}", model=name[:80]
        ) from error


@dataclass(frozen=True, slots=True)
class Feedback:
    """The feedback log, open, and what works on it."""

    log: FeedbackLog
    impressions: ImpressionLog
    signer: TokenSigner
    answers: AnswerLog
    guards: GuardPolicy


@contextlib.asynccontextmanager
async def open_feedback(
    settings: Settings, library: Library, purge_made: PurgeMade = nothing_made
) -> AsyncIterator[Feedback]:
    """The feedback log of the library's collections; on leaving, what waits is written.

    Raises DataLossError if the log is no sound database.
    """
    wanted = settings.feedback
    retention = Retention(wanted.retention_days, wanted.key_rotation_days)

    async def live() -> set[int]:
        found = await asyncio.to_thread(library.database.read, list_collections)
        return {collection.key for collection in found}

    async def deleted(collection: Collection) -> None:
        await remove_collection(log, impressions, collection.key)

    log = await FeedbackLog.open(settings.data / FEEDBACK_FILE)
    async with contextlib.AsyncExitStack() as closing:
        closing.push_async_callback(log.close)
        keys = await log.database.write(lambda c: rotate_keys(c, retention.key_rotation_us, retention.us))
        signer = TokenSigner(keys)
        impressions = ImpressionLog(log, BufferPolicy(max_pages=wanted.buffer_pages))
        impressions.start()
        closing.push_async_callback(impressions.close)
        upkeep = Upkeep(log, impressions, signer, retention, live, purge_made)
        upkeep.start()
        closing.push_async_callback(upkeep.close)
        library.on_delete = deleted
        answers = AnswerLog(impressions, signer, PoolPolicy(wanted.pool_depth, wanted.pool_rate))
        yield Feedback(log, impressions, signer, answers, GuardPolicy(**wanted.guards.model_dump()))
