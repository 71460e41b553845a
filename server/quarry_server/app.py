"""Wires a server together, runs it, and takes it apart again."""

import asyncio
import contextlib
import gc
import logging
import signal
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import grpc
import uvloop
from google.longrunning import operations_pb2, operations_pb2_grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from quarry.config import MAX_MESSAGE_BYTES, Settings
from quarry.data_folder import DataFolder
from quarry.documents.catalog import list_collections
from quarry.documents.store import Database
from quarry.documents.tables import open_database
from quarry.ending import Ending, LastResort, end_now
from quarry.errors import QuarryError, UnavailableError
from quarry.jobs.operations import Operations
from quarry.library import Library
from quarry.mining.jobs import MiningJobs
from quarry.models.loading import device_in_use
from quarry.models.served import ServedModels
from quarry.pages import PageStore
from quarry.registry.promotion import Promotions
from quarry.state_fill import StateFill
from quarry.training.jobs import TrainingJobs
from quarry.training.loop_jobs import LoopJobs
from quarry.v1 import (
    collection_service_pb2,
    collection_service_pb2_grpc,
    document_service_pb2,
    document_service_pb2_grpc,
    feedback_service_pb2,
    feedback_service_pb2_grpc,
    mining_service_pb2,
    mining_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
    search_service_pb2,
    search_service_pb2_grpc,
    server_service_pb2,
    server_service_pb2_grpc,
    training_service_pb2,
    training_service_pb2_grpc,
)
from quarry_server.collections import CollectionServicer
from quarry_server.documents import DocumentServicer
from quarry_server.feedback import FeedbackServicer
from quarry_server.feedback_jobs import MadeOfFeedback, remove_spooled
from quarry_server.impressions import AnswerLog
from quarry_server.info import ServerServicer
from quarry_server.interceptors import TypedErrors
from quarry_server.loop import LoopSchedule
from quarry_server.loop_runs import LoopRuns
from quarry_server.mining import MiningServicer, reachable
from quarry_server.models import ModelServicer
from quarry_server.operations import OperationsServicer, describe_error
from quarry_server.reindex import ReindexJobs
from quarry_server.search import KeptSearch, SearchServicer
from quarry_server.training import TrainingServicer, ending_trainings
from quarry_server.training_models import TrainedModels
from quarry_server.wiring import (
    CollectionModels,
    SettingsEngines,
    open_feedback,
    open_registry,
    open_states,
)

logger = logging.getLogger(__name__)

WORKER_THREADS = 32
SWITCH_INTERVAL_S = 0.001
"""How long a thread that indexes may keep the interpreter while the event loop wants it."""

LIBRARY_GRACE_S = 2.0
"""When the server ends, for whoever still uses a collection."""
CLOSING_S, MARGIN_S = 8.0, 2.0
"""Least time for ending the parts of a server, and what of that is kept for announcing and for the system."""

SERVICES = [
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in (
        (collection_service_pb2, "CollectionService"),
        (document_service_pb2, "DocumentService"),
        (search_service_pb2, "SearchService"),
        (feedback_service_pb2, "FeedbackService"),
        (mining_service_pb2, "MiningService"),
        (model_service_pb2, "ModelService"),
        (training_service_pb2, "TrainingService"),
        (server_service_pb2, "ServerService"),
        (operations_pb2, "Operations"),
    )
]

GRPC_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Clients behind load balancers ping more often than gRPC's five minutes, and are cut off for it.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_connection_age_ms", 30 * 60_000),
    ("grpc.max_connection_age_grace_ms", 5 * 60_000),
    ("grpc.so_reuseport", 0),  # two servers on one port would answer in turn
]


class Server:
    """A server that is listening. Made by ``running``.

    Attributes:
        address: ``host:port``, with the port that was really taken.
    """

    def __init__(
        self, grpc_server: grpc.aio.Server, health_servicer: health.aio.HealthServicer, address: str
    ):
        self._grpc, self._health, self.address = grpc_server, health_servicer, address

    async def drain(self, seconds: float) -> None:
        """Says NOT_SERVING, takes no new calls, and gives those that run so many seconds."""
        await self._health.enter_graceful_shutdown()
        await self._grpc.stop(seconds)


@contextlib.asynccontextmanager
async def running(settings: Settings, ending: Ending | None = None) -> AsyncIterator[Server]:
    """A server, ready: models loaded, stores open, health SERVING.

    Args:
        ending: ends its parts; a new one if none is given.

    Raises:
        FailedPreconditionError: another server uses the data folder.
        DataLossError: the data folder has lost its log.
        UnavailableError: the port is taken.
    """
    # Enough threads that no search waits for one behind indexing, which takes a few for seconds.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(WORKER_THREADS, "work"))
    folder = await asyncio.to_thread(DataFolder, settings.data)
    database = Database(await asyncio.to_thread(open_database, folder.documents))
    registry = open_registry(settings, database)
    await asyncio.to_thread(registry.remove_leftovers)
    models = ServedModels(
        settings.data,
        settings.models.device,
        registry,
        settings.search.score_cache_bytes,
        await asyncio.to_thread(open_states, settings),
        settings.models.reranker_precision,
    )
    collection_models = CollectionModels(models, settings, database)
    library = await Library.open(
        folder,
        SettingsEngines(settings),
        collection_models,
        settings.search.threads,
        database,
        settings.liveness.behind_after_s,
    )
    operations = Operations(library.database.engine, library.database.writer, describe_error)
    async with ending or ending_of(settings) as closing:  # from the last to the first
        closing.push("the models", collection_models.close)
        closing.push("the collections", partial(library.close, LIBRARY_GRACE_S))
        reindexes = ReindexJobs(library, operations)
        await operations.recover(await reindexes.lasting())
        await asyncio.to_thread(remove_spooled, settings.data)
        jobs = MiningJobs(settings.data)
        training_jobs = TrainingJobs(settings.data)
        purge_sets = ending_trainings(jobs.purge_mining_sets, training_jobs)
        loop_jobs = LoopJobs(settings.data, operations.end)
        made = MadeOfFeedback(purge_sets, operations, library.database.engine, loop_jobs.purge)
        feedback = await closing.enter("the feedback log", open_feedback(settings, library, made.purge))
        closing.push("the operations", operations.close)
        mining = MiningServicer(library, operations, jobs, feedback)
        await mining.tidy()
        promotions = Promotions(library, registry, models)
        model_servicer = ModelServicer(library, registry, promotions, models)
        model_servicer.tidy()
        closing.push("imports of models", model_servicer.close)
        trained_models = TrainedModels(library, registry, promotions, settings.training.promotion)
        loops = LoopRuns(library, operations, loop_jobs, feedback, settings.loop)
        training = TrainingServicer(
            library, operations, training_jobs, jobs.sets, feedback, trained_models, loops, settings
        )
        await training.tidy()
        await loops.tidy()
        await _load_rerankers(library, collection_models)
        await reindexes.resume()
        grpc_server = grpc.aio.server(interceptors=[TypedErrors()], options=GRPC_OPTIONS)
        health_servicer = health.aio.HealthServicer()
        collections = CollectionServicer(
            library,
            operations,
            reindexes,
            settings.models.encoder,
            settings.search.default_deadline_s,
        )
        collection_service_pb2_grpc.add_CollectionServiceServicer_to_server(collections, grpc_server)
        _register(
            grpc_server, health_servicer, settings, library, operations, collection_models, feedback.answers
        )
        feedback_service_pb2_grpc.add_FeedbackServiceServicer_to_server(
            FeedbackServicer(library, operations, feedback, settings, made.purge), grpc_server
        )
        mining_service_pb2_grpc.add_MiningServiceServicer_to_server(mining, grpc_server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(model_servicer, grpc_server)
        training_service_pb2_grpc.add_TrainingServiceServicer_to_server(training, grpc_server)
        server = Server(grpc_server, health_servicer, _bind(grpc_server, settings))
        mining.address = training.address = loops.address = reachable(server.address)
        await grpc_server.start()
        for service in ["", *SERVICES]:
            await health_servicer.set(service, health_pb2.HealthCheckResponse.SERVING)
        schedule = LoopSchedule(settings.loop, loops.collections, loops.turned_us, loops.turn)
        closing.push("the schedule of the loop", schedule.close)
        schedule.start()
        if settings.models.state_store_bytes:
            fill = StateFill(library, models)
            closing.push("the filling of passage states", fill.close)
            fill.start()
        try:
            yield server
        finally:
            await server.drain(settings.drain_s)


def exit_s(settings: Settings) -> float:
    """How long the server takes from the request to stop to its end, whatever hangs."""
    return max(settings.liveness.exit_s, settings.drain_s + CLOSING_S) - MARGIN_S / 2


def ending_of(settings: Settings) -> Ending:
    """Ends a server's parts after its calls have ended."""
    return Ending(max(CLOSING_S, settings.liveness.exit_s - settings.drain_s) - MARGIN_S)


async def _load_rerankers(library: Library, models: CollectionModels) -> None:
    """Those that collections name. A search that misses one says so; the rest is served."""
    found = await asyncio.to_thread(library.database.read, list_collections)
    for name in frozenset[str]().union(*(c.settings.rerankers for c in found)):
        try:
            async with models.holding_rerankers([name]):
                pass
        except QuarryError as error:
            logger.error("a re-ranker cannot be loaded: %s", error)


def _register(
    server: grpc.aio.Server,
    health_servicer: health.aio.HealthServicer,
    settings: Settings,
    library: Library,
    operations: Operations,
    models: CollectionModels,
    answers: AnswerLog,
) -> None:
    default_s = settings.search.default_deadline_s
    pages: PageStore[KeptSearch] = PageStore(settings.search.page_lifetime_s, settings.search.max_kept_bytes)
    document_service_pb2_grpc.add_DocumentServiceServicer_to_server(
        DocumentServicer(library, default_s), server
    )
    search_service_pb2_grpc.add_SearchServiceServicer_to_server(
        SearchServicer(library, pages, models.for_search, answers, default_s), server
    )
    server_service_pb2_grpc.add_ServerServiceServicer_to_server(
        ServerServicer(settings, device_in_use(settings.models.device)), server
    )
    operations_pb2_grpc.add_OperationsServicer_to_server(OperationsServicer(operations, default_s), server)
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    if settings.reflection:
        reflection.enable_server_reflection([*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME], server)


def _bind(server: grpc.aio.Server, settings: Settings) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        port = server.add_insecure_port(f"{host}:{settings.port}")
    except RuntimeError as error:
        raise UnavailableError(f"cannot listen on {host}:{settings.port}: {error}") from None
    return f"{host}:{port}"


def serve(settings: Settings) -> None:
    """Runs a server until SIGTERM or SIGINT; prints one line when it is ready. Raises as ``running``."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    uvloop.run(_serve(settings))


def spare_what_stays() -> None:
    """Leaves what the start has made out of garbage collections.

    A full collection looks at every object and lets no other thread run: 80 to 280 ms with the modules of a
    server, 20 ms without them.
    """
    gc.collect()
    gc.freeze()


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    ending = ending_of(settings)
    last_resort = LastResort(exit_s(settings), lambda: ending.doing)

    def end() -> None:
        last_resort.start()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    async with running(settings, ending) as server:
        spare_what_stays()
        sys.stdout.write(f"quarry: listening on {server.address}\n")
        sys.stdout.flush()
        await stop.wait()
        logger.info("draining")
    if ending.left:  # a thread that hangs would be waited for
        end_now()
