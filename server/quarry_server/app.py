"""Wires a server together, runs it, and takes it apart again."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import grpc
import uvloop
from google.longrunning import operations_pb2, operations_pb2_grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from sqlalchemy.exc import SQLAlchemyError

from quarry.collections.data_folder import DataFolder
from quarry.collections.library import Library
from quarry.collections.promotion import Promotions, read_policy
from quarry.collections.ranking_promotion import Rankings
from quarry.collections.state_fill import StateFill
from quarry.config import Settings
from quarry.documents.catalog import list_collections
from quarry.documents.store import Database
from quarry.documents.writer import typed
from quarry.ending import Begins, Ending, LastResort, call_on_signals, end_now
from quarry.environment import empty_temporary_folder, keep_files_in
from quarry.errors import QuarryError, UnavailableError
from quarry.feedback.answers import AnswerLog
from quarry.jobs.memory import memory_limit
from quarry.jobs.operations import Operations
from quarry.jobs.process import run_process
from quarry.log_lines import log_to_stderr
from quarry.mining.jobs import MiningJobs
from quarry.models.loading import device_in_use
from quarry.models.served import ServedModels
from quarry.registry.trained import TrainedModels, TunedRankings
from quarry.search.pages import KeptSearch, PageStore
from quarry.search.service import SearchService
from quarry.storage.housekeeping import Housekeeping
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
from quarry_server.caller_log import CallerLog
from quarry_server.collections.documents import DocumentServicer
from quarry_server.collections.reindex import ReindexJobs
from quarry_server.collections.service import CollectionServicer
from quarry_server.common.model_names import RequestedModels
from quarry_server.common.operations import OperationsServicer, describe_error
from quarry_server.feedback.jobs import MadeOfFeedback, remove_spooled
from quarry_server.feedback.service import FeedbackServicer
from quarry_server.info import ServerServicer
from quarry_server.mining.service import MiningServicer, reachable
from quarry_server.models.rankings import RankingCalls
from quarry_server.models.service import ModelServicer
from quarry_server.search.service import SearchServicer
from quarry_server.training.loop import LoopSchedule
from quarry_server.training.loop_runs import LoopRuns
from quarry_server.training.models import find_model
from quarry_server.training.service import TrainingServicer, ending_trainings
from quarry_server.transport.connections import (
    ConnectionLimits,
    connection_limits,
    grpc_options,
    raise_descriptor_limit,
)
from quarry_server.transport.drain import DrainPolicy, RunningCalls, drain
from quarry_server.transport.exposure import warn_if_exposed
from quarry_server.transport.interceptors import TypedErrors
from quarry_server.transport.reflection import add_reflection
from quarry_server.wiring import (
    CollectionModels,
    SettingsEngines,
    archive_limits,
    examples_limits,
    open_feedback,
    open_registry,
    open_states,
    open_trials,
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


class StopAsked(BaseException):
    """The server was asked to stop before it served. That is no failure."""


class Server:
    """A server that is listening. Made by ``running``.

    Attributes:
        address: ``host:port``, with the port that was really taken.
    """

    def __init__(
        self,
        grpc_server: grpc.aio.Server,
        health_servicer: health.aio.HealthServicer,
        calls: RunningCalls,
        address: str,
    ):
        self._grpc, self._health, self._calls, self.address = grpc_server, health_servicer, calls, address

    async def drain(self, policy: DrainPolicy) -> None:
        """As ``quarry_server.transport.drain.drain``."""
        await drain(self._grpc, self._health, ["", *SERVICES], self._calls, policy)


@contextlib.asynccontextmanager
async def running(
    settings: Settings, ending: Ending | None = None, stop: asyncio.Event | None = None
) -> AsyncIterator[Server]:
    """A server, ready: models loaded, stores open, health SERVING.

    Args:
        ending: ends its parts; a new one if none is given.
        stop: is looked at between the steps of the start, which ends at the next one if it is set.

    Raises:
        StopAsked: ``stop`` was set before the server served.
        FailedPreconditionError: another server uses the data folder.
        DataLossError: the databases of the data folder do not know what it holds, or one is damaged.
        UnavailableError: the port is taken.
    """
    # Enough threads that no search waits for one behind indexing, which takes a few for seconds.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(WORKER_THREADS, "work"))
    folder = await asyncio.to_thread(
        DataFolder, settings.data, settings.quarantine_days, settings.accept_loss
    )

    def look_at_stop() -> None:
        if stop is not None and stop.is_set():
            raise StopAsked

    async with ending or make_ending(settings) as closing:  # from the last to the first
        closing.push("the data folder", partial(close_folder, folder, closing))
        await asyncio.to_thread(empty_temporary_folder, settings.data)
        database = Database(await asyncio.to_thread(folder.open_documents))
        closing.push("the document log", partial(asyncio.to_thread, database.close))
        look_at_stop()
        trials = open_trials(settings)  # nothing is tried before its closing is pushed below
        registry = open_registry(settings, database, trials)
        models = ServedModels(
            settings.data,
            settings.models.device,
            registry,
            settings.search.score_cache_bytes,
            await asyncio.to_thread(open_states, settings),
            settings.models.reranker_precision,
        )
        requested = RequestedModels(settings)
        collection_models = CollectionModels(models, settings, database, requested)
        closing.push("the models", collection_models.close)
        closing.push("fetches from the hub", requested.close)
        await asyncio.to_thread(registry.remove_leftovers, folder.take_away)
        await requested.tidy()
        look_at_stop()
        library = Library(
            folder,
            database,
            SettingsEngines(settings),
            collection_models,
            settings.search.threads,
            settings.liveness.behind_after_s,
        )
        closing.push("the collections", partial(library.close, LIBRARY_GRACE_S))
        await library.open()
        look_at_stop()
        operations = Operations(library.database.engine, library.database.writer, describe_error)
        reindexes = ReindexJobs(library, operations)
        await operations.recover(await reindexes.lasting())
        await asyncio.to_thread(remove_spooled, settings.data)
        run = partial(run_process, memory_bytes=memory_limit(settings.jobs.memory_bytes))
        jobs = MiningJobs(settings.data, run)
        training_jobs = TrainingJobs(settings.data, operations.end, run, examples_limits(settings))
        purge_sets = ending_trainings(jobs.purge_mining_sets, training_jobs)
        loop_jobs = LoopJobs(settings.data, operations.end, run)
        made = MadeOfFeedback(purge_sets, operations, library.database.engine, loop_jobs.purge)
        feedback = await closing.enter("the feedback log", open_feedback(settings, library, made.purge))
        closing.push("the operations", operations.close)
        mining = MiningServicer(
            library, operations, jobs, feedback, requested, settings.search.default_deadline_s
        )
        closing.push("estimates of relevance", mining.close)
        await mining.tidy()
        promotions, rankings = Promotions(library, registry, models), Rankings(library)
        model_servicer = ModelServicer(
            library,
            registry,
            promotions,
            models,
            requested,
            archive_limits(settings),
            RankingCalls(library, rankings),
        )
        model_servicer.tidy()
        closing.push("imports of models", model_servicer.close)
        closing.push("the trial of models", trials.close)
        policy_of = partial(read_policy, library, settings.training.promotion)
        loops = LoopRuns(library, operations, loop_jobs, feedback, settings.loop)
        training = TrainingServicer(
            library,
            operations,
            training_jobs,
            jobs.sets,
            feedback,
            TrainedModels(registry, promotions, jobs.sets, policy_of),
            TunedRankings(rankings, policy_of),
            partial(find_model, registry, settings.data),
            loops,
            settings,
            requested,
        )
        await training.tidy()
        await loops.tidy()
        look_at_stop()
        await _load_rerankers(library, collection_models)
        look_at_stop()
        await reindexes.resume()
        limits, calls = connection_limits(settings.connections), RunningCalls()
        grpc_server = grpc.aio.server(
            interceptors=[calls, TypedErrors(), CallerLog()], options=grpc_options(limits)
        )
        health_servicer = health.aio.HealthServicer()
        collections = CollectionServicer(
            library,
            operations,
            reindexes,
            requested,
            settings.models.encoder,
            settings.search.default_deadline_s,
        )
        collection_service_pb2_grpc.add_CollectionServiceServicer_to_server(collections, grpc_server)
        _register(
            grpc_server,
            health_servicer,
            settings,
            library,
            operations,
            collection_models,
            feedback.answers,
            limits,
        )
        feedback_service_pb2_grpc.add_FeedbackServiceServicer_to_server(
            FeedbackServicer(library, operations, feedback, settings, made.purge), grpc_server
        )
        mining_service_pb2_grpc.add_MiningServiceServicer_to_server(mining, grpc_server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(model_servicer, grpc_server)
        training_service_pb2_grpc.add_TrainingServiceServicer_to_server(training, grpc_server)
        server = Server(grpc_server, health_servicer, calls, _bind(grpc_server, settings))
        await asyncio.to_thread(warn_if_exposed, settings.host, server.address)
        mining.address = training.address = loops.address = reachable(server.address)
        look_at_stop()
        await grpc_server.start()
        for service in ["", *SERVICES]:
            await health_servicer.set(service, health_pb2.HealthCheckResponse.SERVING)
        housekeeping = Housekeeping(folder.keep_house)
        closing.push("housekeeping", housekeeping.close)
        housekeeping.start()
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
            await server.drain(DrainPolicy(settings.drain_notice_s, settings.drain_s))


async def close_folder(folder: DataFolder, ending: Ending) -> None:
    """Closes the data folder, unless a part was left behind.

    That part may still commit. The commit would be in the log beside a database that says it is whole, and
    whoever copies the database alone would lose it unseen.
    """
    if ending.left:
        folder.leave_in_use()
    else:
        await asyncio.to_thread(folder.close)


def limit_exit_s(settings: Settings) -> float:
    """How long the server takes from the request to stop to its end, whatever hangs."""
    return max(settings.liveness.exit_s, _drain_s(settings) + CLOSING_S) - MARGIN_S / 2


def make_ending(settings: Settings, begins: Begins | None = None) -> Ending:
    """What ends a server's parts after its calls have ended; ``begins`` as ``Ending`` takes it."""
    return Ending(max(CLOSING_S, settings.liveness.exit_s - _drain_s(settings)) - MARGIN_S, begins)


def _drain_s(settings: Settings) -> float:
    """How long calls may go on after the request to stop."""
    return settings.drain_notice_s + settings.drain_s


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
    limits: ConnectionLimits,
) -> None:
    default_s = settings.search.default_deadline_s
    pages: PageStore[KeptSearch] = PageStore(settings.search.page_lifetime_s, settings.search.max_kept_bytes)
    searches = SearchService(pages, answers)
    document_service_pb2_grpc.add_DocumentServiceServicer_to_server(
        DocumentServicer(library, default_s), server
    )
    search_service_pb2_grpc.add_SearchServiceServicer_to_server(
        SearchServicer(library, searches, models.for_search, default_s), server
    )
    server_service_pb2_grpc.add_ServerServiceServicer_to_server(
        ServerServicer(settings, device_in_use(settings.models.device), limits), server
    )
    operations_pb2_grpc.add_OperationsServicer_to_server(OperationsServicer(operations, default_s), server)
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    if settings.reflection:
        add_reflection([*SERVICES, health.SERVICE_NAME], server)


def _bind(server: grpc.aio.Server, settings: Settings) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        port = server.add_insecure_port(f"{host}:{settings.port}")
    except RuntimeError as error:
        raise UnavailableError(f"cannot listen on {host}:{settings.port}: {error}") from None
    return f"{host}:{port}"


def serve(settings: Settings) -> None:
    """Runs a server until SIGTERM or SIGINT; prints one line when it is ready. Raises as ``running``."""
    os.umask(0o077)  # what a server and its jobs write is for its user alone
    log_to_stderr()
    raise_descriptor_limit()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    keep_files_in(settings.data)
    try:
        uvloop.run(_serve(settings))
    except SQLAlchemyError as error:  # a database that turns out to be damaged while it is opened
        raise typed(error) from error


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
    last_resort = LastResort(limit_exit_s(settings), lambda: ending.doing)
    ending = make_ending(settings, last_resort.start)

    def end() -> None:
        last_resort.start()
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process is ending
            loop.call_soon_threadsafe(stop.set)

    call_on_signals((signal.SIGTERM, signal.SIGINT), end)
    try:
        async with running(settings, ending, stop) as server:
            spare_what_stays()
            sys.stdout.write(f"quarry: listening on {server.address}\n")
            sys.stdout.flush()
            await stop.wait()
            logger.info("draining")
    except StopAsked:
        logger.info("stopped before the start was done")
    except BaseException as error:
        if ending.left:
            end_now("", error)
        raise
    if ending.left:  # a thread that hangs would be waited for
        end_now()
