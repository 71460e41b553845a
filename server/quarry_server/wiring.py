"""Chooses the implementations that a server's settings ask for."""

import asyncio
import contextlib
import logging
import math
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from qdrant_client import AsyncQdrantClient

from quarry.collections.collections import Collections
from quarry.collections.generation import DenseParts
from quarry.config import Settings
from quarry.documents.catalog import NO_ENCODER, Collection, CollectionSettings
from quarry.documents.passages import PassageCutter, cut_passages_by_words
from quarry.documents.store import Database, DocumentLog
from quarry.documents.vector_cache import VectorCache
from quarry.documents.vectors import DocumentVectors, read_source
from quarry.errors import DiskFullError, ModelError, QuarryError, UnknownValueError
from quarry.feedback.answers import AnswerLog, PoolPolicy
from quarry.feedback.attribution_tokens import TokenSigner, rotate_keys
from quarry.feedback.impressions import BufferPolicy, ImpressionLog
from quarry.feedback.log import FeedbackLog
from quarry.feedback.purge import PurgeMade, forget_nothing
from quarry.feedback.reading.guards import GuardPolicy
from quarry.feedback.tables import FILE_NAME as FEEDBACK_FILE
from quarry.feedback.tables import open_feedback as open_feedback_database
from quarry.feedback.upkeep import Retention, Upkeep, remove_collection
from quarry.jobs.job_worker import JobWorker
from quarry.jobs.memory_watch import resolve_memory_limit
from quarry.jobs.process import JobKilledError
from quarry.models.caches.state_cache import StateCache
from quarry.models.caches.state_store import StateStore, remove_store
from quarry.models.run_settings import ModelKind
from quarry.models.runtime.runner import Precision, resolve_device
from quarry.models.serving import ServedModels
from quarry.registry.names import check_usable, parse_name
from quarry.registry.store import ModelRegistry
from quarry.registry.unpacking import ArchiveLimits
from quarry.retrieval.base import DenseStore, ExcerptIndex, LexicalIndex
from quarry.retrieval.edge.store_client import EdgeDenseStore
from quarry.retrieval.edge.store_settings import GraphPolicy, StoreSettings
from quarry.retrieval.heartbeat import Patience
from quarry.retrieval.lexical.bm25 import TantivyIndex
from quarry.retrieval.lexical.excerpts.excerpt_index import TantivyExcerptIndex
from quarry.retrieval.qdrant.store import QdrantDenseStore
from quarry.schema import Schema
from quarry.search.reranking import BestPassages, CrossEncoderReranking
from quarry.storage.disk import is_disk_full
from quarry.training.examples_limits import ExamplesLimits
from quarry.training.spec import KindName
from quarry.types import Fields
from quarry_server.common.model_names import RequestedModels

logger = logging.getLogger(__name__)
T = TypeVar("T")


class SettingsEngines:
    """Tantivy, and Qdrant embedded or by URL."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        liveness = settings.liveness
        self._patience = Patience(
            liveness.hung_after_s, liveness.restart_after_s, liveness.busy_restart_after_s
        )

    def open_lexical(self, folder: Path, generation: str, schema: Schema) -> LexicalIndex:
        return TantivyIndex(folder, generation, schema)

    def open_excerpts(self, folder: Path, generation: str, schema: Schema) -> ExcerptIndex:
        return TantivyExcerptIndex(folder, generation, schema)

    async def open_dense(self, folder: Path, generation: str, schema: Schema, dimension: int) -> DenseStore:
        qdrant = self._settings.qdrant
        if qdrant.url:
            client = AsyncQdrantClient(
                url=qdrant.url,
                api_key=qdrant.api_key or None,
                prefer_grpc=True,
                timeout=math.ceil(qdrant.timeout_s),
                check_compatibility=False,  # that would be a thread that waits for the server
            )
            return await QdrantDenseStore.open(
                client,
                f"quarry-{generation}",
                generation,
                dimension,
                schema.filterable,
                timeout_s=qdrant.timeout_s,
                patience=self._patience,
            )
        graph = GraphPolicy(min_pending=qdrant.build_after, indexing_threshold_kb=qdrant.build_threshold_kb)
        return await EdgeDenseStore.open(
            StoreSettings(folder, generation, dimension, schema.filterable, graph, patience=self._patience)
        )


class CollectionModels:
    """The models that collections use. Ended by ``close``.

    Attributes:
        vector_cache: of what encoding cost.
    """

    def __init__(
        self, models: ServedModels, settings: Settings, database: Database, requested: RequestedModels
    ) -> None:
        self._models, self._settings, self._database = models, settings, database
        self._requested = requested
        self.vector_cache = VectorCache(settings.data / "vectors.db")

    async def load_dense_parts(self, settings: CollectionSettings) -> DenseParts | None:
        if settings.encoder == NO_ENCODER:
            return None
        served = await _translate_errors(settings.encoder, self._models.load_encoder(settings.encoder))
        cutter = PassageCutter(served.encoder, settings.passages)
        vectors = DocumentVectors(settings.schema, cutter, served.batcher, self.vector_cache)
        info = served.encoder.info
        return DenseParts(served, vectors, info.dimension, info.max_tokens)

    @contextlib.asynccontextmanager
    async def hold_rerankers(self, names: Iterable[str]) -> AsyncIterator[None]:
        """Loads these re-rankers, and keeps them loaded meanwhile."""
        async with contextlib.AsyncExitStack() as held:
            for name in names:
                await _translate_errors(name, held.enter_async_context(self._models.use_reranker(name)))
            yield

    @contextlib.asynccontextmanager
    async def hold_for_search(
        self, models: Mapping[str, str], collection: Collection
    ) -> AsyncIterator["asyncio.Future[None]"]:
        """Keeps the re-rankers that a search asks for loaded meanwhile, so that the same ones answer it.

        The collection's own are used as they are. Others are loaded on first use, if a search may ask for
        them: what it yields is done when all are loaded, or fails as loading does. They are loaded beside
        the search, which may go on without them.

        Args:
            models: the request's field for each name.

        Raises:
            InvalidArgumentError: one is neither a version of the collection's nor offered by the settings: a
                search may not make the server load just anything.
            ModelNotFoundError: there is no such version.
            FailedPreconditionError: it is retired, or no re-ranker.
            UnavailableError: the hub has it, and does not give it now. What is yielded raises it.
        """
        own = collection.settings.rerankers
        others = models.keys() - own
        async with contextlib.AsyncExitStack() as held:
            for name in models.keys() & own:  # at once: while others are checked, these may stop serving
                held.enter_context(self._models.keep_reranker(name))
            for name in others:
                await self._check_asked(name, models[name], collection)
            loading = asyncio.create_task(self._hold(others, held))
            try:
                yield loading
            finally:
                loading.cancel()
                await asyncio.gather(loading, return_exceptions=True)  # whom it concerned has heard of it

    async def _hold(self, names: Iterable[str], held: contextlib.AsyncExitStack) -> None:
        for name in names:
            await self._requested.admit(name)
            await held.enter_async_context(self.hold_rerankers([name]))

    async def _check_asked(self, name: str, field: str, collection: Collection) -> None:
        if (version := parse_name(name)) is not None and version[0] == collection.settings.name:
            check = partial(check_usable, key=collection.key, name=name, kind="reranker")
            await asyncio.to_thread(self._database.read, check)
        elif name not in self._settings.models.rerankers:
            problem = (
                f"{name[:80]!r} is neither the collection's re-ranker, nor a version of it, "
                "nor in the server's models.rerankers"
            )
            raise UnknownValueError(field, problem)

    def make_reranking(
        self, settings: CollectionSettings, log: DocumentLog, dense: DenseParts | None
    ) -> CrossEncoderReranking:
        async def cut_by_words(documents: Sequence[Fields]) -> list[list[str]]:
            sources = [read_source(settings.schema, fields) for fields in documents]
            return await asyncio.to_thread(lambda: list(map(cut_passages_by_words, sources)))

        passages = cut_by_words if dense is None else dense.vectors.cut_passages
        return CrossEncoderReranking(self._models.get_scorer, BestPassages(log, passages))

    async def close(self) -> None:
        await self._models.close()
        await asyncio.to_thread(self.vector_cache.close)


def choose_precision(settings: Settings) -> Precision:
    """Chooses the precision that re-rankers are run in: int8 is for the CPU alone."""
    on_cpu = resolve_device(settings.models.device) == "cpu"
    return settings.models.reranker_precision if on_cpu else "fp32"


def open_states(settings: Settings) -> StateCache:
    """Opens the cache of passage states: in memory, and in the server's data folder if that can be written.

    Without the file every state is made when it is needed: that takes time, and changes no score.
    """
    file, models = settings.data / "states.db", settings.models
    try:
        if models.state_store_bytes:
            return StateCache(models.state_cache_bytes, StateStore(file, models.state_store_bytes))
        remove_store(file)
    except (QuarryError, sqlite3.Error, OSError) as error:
        undone = "stored until the next start" if models.state_store_bytes else "removed"
        logger.error("passage states are not %s: %s: %s", undone, file, error)
    return StateCache(models.state_cache_bytes)


def open_registry(settings: Settings, database: Database, trials: JobWorker) -> ModelRegistry:
    """Opens the registry of the server's data folder; in ``trials`` it runs models as the server will run
    them.

    Its methods are called in other threads than the event loop's, which is the running one.
    """
    loop = asyncio.get_running_loop()
    kinds = {"reranker": ModelKind.CROSS_ENCODER, "encoder": ModelKind.ENCODER}

    def try_one(folder: Path, kind: KindName) -> None:
        task = {
            "folder": str(folder),
            "kind": kinds[kind].value,
            "data": str(settings.data),
            "device": settings.models.device,
            "precision": settings.models.reranker_precision,
        }
        try:
            asyncio.run_coroutine_threadsafe(trials.run(task), loop).result()
        except JobKilledError as error:  # it would be killed again
            raise ModelError("the model cannot be loaded: it ends the process that loads it") from error

    return ModelRegistry(settings.data, database, try_one)


def open_trials(settings: Settings) -> JobWorker:
    """Opens the worker that tries new models. Ended by ``close``."""
    jobs = settings.jobs
    return JobWorker("quarry.models.trial", resolve_memory_limit(jobs.memory_bytes), jobs.trial_s)


def read_archive_limits(settings: Settings) -> ArchiveLimits:
    """Reads how much an archive of a model may hold."""
    uploads = settings.uploads
    return ArchiveLimits(uploads.archive_bytes, uploads.archive_files, uploads.archive_ratio)


def read_examples_limits(settings: Settings) -> ExamplesLimits:
    """Reads how much a file of examples may hold."""
    uploads = settings.uploads
    return ExamplesLimits(uploads.examples_bytes, uploads.examples_rows, uploads.examples_text_bytes)


async def _translate_errors(name: str, loading: Awaitable[T]) -> T:
    """Loads a model with ``loading``; names are the callers', and some of them offend the file system."""
    try:
        return await loading
    except QuarryError:
        raise
    except Exception as error:  # what libraries raise at files that they do not expect
        if is_disk_full(error):
            raise DiskFullError("the disk that holds the models is full", model=name[:80]) from error
        raise ModelError(
            f"{name[:80]!r} cannot be loaded: {type(error).__name__}", model=name[:80]
        ) from error


@dataclass(frozen=True, slots=True)
class OpenFeedback:
    """The feedback log, open, and what works on it."""

    log: FeedbackLog
    impressions: ImpressionLog
    signer: TokenSigner
    answers: AnswerLog
    guards: GuardPolicy


@contextlib.asynccontextmanager
async def open_feedback(
    settings: Settings, open_collections: Collections, purge_made: PurgeMade = forget_nothing
) -> AsyncIterator[OpenFeedback]:
    """Yields the feedback log of the collections; on leaving, what waits is written.

    Raises DataLossError if the log is no sound database.
    """
    wanted = settings.feedback
    retention = Retention(wanted.retention_days, wanted.key_rotation_days)

    async def forget_deleted(collection: Collection) -> None:
        await remove_collection(log, impressions, collection.key)

    folder = open_collections.folder
    log = FeedbackLog(
        settings.data / FEEDBACK_FILE,
        await asyncio.to_thread(folder.open_database, FEEDBACK_FILE, open_feedback_database),
    )
    async with contextlib.AsyncExitStack() as closing:
        closing.push_async_callback(log.close)
        now_us = folder.clock.now_us
        keys = await log.database.write(
            lambda c: rotate_keys(c, retention.key_rotation_us, retention.us, now_us)
        )
        signer = TokenSigner(keys)
        impressions = ImpressionLog(log, BufferPolicy(max_pages=wanted.buffer_pages))
        impressions.start()
        closing.push_async_callback(impressions.close)
        upkeep = Upkeep(
            log,
            impressions,
            signer,
            retention,
            open_collections.read_deleted_keys,
            lambda: folder.clock.now_us,
            purge_made,
        )
        upkeep.start()
        closing.push_async_callback(upkeep.close)
        open_collections.notify_when_deleted(forget_deleted)
        answers = AnswerLog(impressions, signer, PoolPolicy(wanted.pool_depth, wanted.pool_rate))
        yield OpenFeedback(log, impressions, signer, answers, GuardPolicy(**wanted.guards.model_dump()))
