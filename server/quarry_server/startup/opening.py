"""The first phase: opens what a server's services work with, and says in which order it closes."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from quarry.collections.collections import Collections
from quarry.collections.data_folder import DataFolder
from quarry.config import Settings
from quarry.documents.store import Database
from quarry.ending import Ending
from quarry.environment import remove_temporary_files
from quarry.jobs.job_worker import JobWorker
from quarry.jobs.memory_watch import resolve_memory_limit
from quarry.jobs.operations import Operations
from quarry.jobs.process import run_process
from quarry.mining.jobs import MiningJobs
from quarry.models.serving import ServedModels
from quarry.registry.store import ModelRegistry
from quarry.training.jobs import TrainingJobs
from quarry.training.loop_jobs import LoopJobs
from quarry_server.collections.reindex import ReindexJobs
from quarry_server.common.model_names import RequestedModels
from quarry_server.common.operations import describe_error
from quarry_server.feedback.jobs import MadeOfFeedback
from quarry_server.training.service import end_trainings
from quarry_server.wiring import (
    CollectionModels,
    OpenFeedback,
    SettingsEngines,
    open_feedback,
    open_registry,
    open_states,
    open_trials,
    read_examples_limits,
)

COLLECTIONS_GRACE_S = 2.0
"""When the server ends, for whoever still uses a collection."""

LookAtStop = Callable[[], None]
"""Raises if the server was asked to stop; called between the steps of a start."""


@dataclass(frozen=True, slots=True)
class OpenModels:
    """The models of a server.

    Attributes:
        trials: where new ones are tried; the phase that serves closes it, after whatever may ask for a trial.
        requested: those that requests name.
        of_collections: those that collections name, and the cache of what encoding has cost.
    """

    registry: ModelRegistry
    trials: JobWorker
    served: ServedModels
    requested: RequestedModels
    of_collections: CollectionModels


@dataclass(frozen=True, slots=True)
class Jobs:
    """The jobs of a server in processes of their own, and the operations that tell of them.

    Attributes:
        made_of_feedback: what was made of feedback, and goes when that goes.
    """

    operations: Operations
    reindexes: ReindexJobs
    mining: MiningJobs
    training: TrainingJobs
    loop: LoopJobs
    made_of_feedback: MadeOfFeedback


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that the services of a server work with, open."""

    settings: Settings
    folder: DataFolder
    models: OpenModels
    open_collections: Collections
    jobs: Jobs
    feedback: OpenFeedback


async def open_parts(settings: Settings, ending: Ending, look_at_stop: LookAtStop) -> Parts:
    """Opens the parts in this order; ``ending`` closes them in the reverse order, also if one fails to open.

    No collection is open yet: the next phase opens them.

    Raises:
        FailedPreconditionError: another server uses the data folder.
        DataLossError: the databases of the data folder do not know what it holds, or one is damaged.
    """
    folder = await _open_folder(settings, ending)
    database = Database(await asyncio.to_thread(folder.open_documents))
    ending.push("the document log", partial(asyncio.to_thread, database.close))
    look_at_stop()
    models = await _open_models(settings, database, ending)
    open_collections = _make_collections(settings, folder, database, models, ending)
    look_at_stop()
    jobs = _make_jobs(settings, open_collections)
    feedback = await ending.enter(
        "the feedback log", open_feedback(settings, open_collections, jobs.made_of_feedback.purge)
    )
    ending.push("the operations", jobs.operations.close)
    return Parts(settings, folder, models, open_collections, jobs, feedback)


async def _open_folder(settings: Settings, ending: Ending) -> DataFolder:
    folder = await asyncio.to_thread(
        DataFolder, settings.data, settings.quarantine_days, settings.accept_loss
    )
    ending.push("the data folder", partial(close_folder, folder, ending))
    await asyncio.to_thread(remove_temporary_files, settings.data)  # before anything puts a file there
    return folder


async def close_folder(folder: DataFolder, ending: Ending) -> None:
    """Closes the data folder, unless a part was left behind.

    That part may still commit. The commit would be in the log beside a database that says it is whole, and
    whoever copies the database alone would lose it unseen.
    """
    if ending.left:
        folder.leave_in_use()
    else:
        await asyncio.to_thread(folder.close)


async def _open_models(settings: Settings, database: Database, ending: Ending) -> OpenModels:
    trials = open_trials(settings)
    registry = open_registry(settings, database, trials)
    served = ServedModels(
        settings.data,
        settings.models.device,
        registry,
        settings.search.score_cache_bytes,
        await asyncio.to_thread(open_states, settings),
        settings.models.reranker_precision,
    )
    requested = RequestedModels(settings)
    of_collections = CollectionModels(served, settings, database, requested)
    ending.push("the models", of_collections.close)
    ending.push("fetches from the hub", requested.close)
    return OpenModels(registry, trials, served, requested, of_collections)


def _make_collections(
    settings: Settings, folder: DataFolder, database: Database, models: OpenModels, ending: Ending
) -> Collections:
    open_collections = Collections(
        folder,
        database,
        SettingsEngines(settings),
        models.of_collections,
        settings.search.threads,
        settings.liveness.behind_after_s,
    )
    ending.push("the collections", partial(open_collections.close, COLLECTIONS_GRACE_S))
    return open_collections


def _make_jobs(settings: Settings, open_collections: Collections) -> Jobs:
    operations = Operations(
        open_collections.database.engine, open_collections.database.writer, describe_error
    )
    run = partial(run_process, memory_bytes=resolve_memory_limit(settings.jobs.memory_bytes))
    mining = MiningJobs(settings.data, run)
    training = TrainingJobs(settings.data, operations.end, run, read_examples_limits(settings))
    loop = LoopJobs(settings.data, operations.end, run)
    purge_sets = end_trainings(mining.purge_mining_sets, training)
    made = MadeOfFeedback(purge_sets, operations, open_collections.database.engine, loop.purge)
    return Jobs(operations, ReindexJobs(open_collections, operations), mining, training, loop, made)
