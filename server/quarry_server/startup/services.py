"""The services of a server, over the parts that are open."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc

from quarry.collections.promotion import Promotions, read_policy
from quarry.collections.ranking_promotion import Rankings
from quarry.ending import Ending
from quarry.models.runtime.runner import resolve_device
from quarry.registry.trained_models import TrainedModels, TunedRankings
from quarry.search.result_pages import KeptSearch, PageStore
from quarry.search.service import SearchService
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
from quarry_server.collections.documents import DocumentServicer
from quarry_server.collections.service import CollectionServicer
from quarry_server.common.operations import OperationsServicer
from quarry_server.feedback.service import FeedbackServicer
from quarry_server.info import ServerServicer
from quarry_server.mining.service import MiningServicer
from quarry_server.models.rankings import RankingCalls
from quarry_server.models.service import ModelServicer
from quarry_server.search.service import SearchServicer
from quarry_server.startup.opening import Parts
from quarry_server.training.loop_runs import LoopRuns
from quarry_server.training.plans import TrainingPlans
from quarry_server.training.request_context import RequestContexts
from quarry_server.training.service import TrainingServicer
from quarry_server.transport.connections import ConnectionLimits
from quarry_server.wiring import read_archive_limits

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

Register = Callable[[grpc.aio.Server], None]
"""Adds one service to a gRPC server."""


@dataclass(frozen=True, slots=True)
class Services:
    """The servicers of a server.

    Attributes:
        register: one for each of ``SERVICES``.
        loops: runs of the loop, which the schedule asks for as well.
    """

    register: list[Register]
    loops: LoopRuns


async def build_services(parts: Parts, address: str, limits: ConnectionLimits, ending: Ending) -> Services:
    """Builds each after what it needs. One that keeps files first removes what the last server left of them.

    Args:
        address: where jobs reach this server.
        limits: of connections, which ServerService publishes.
    """
    promotions = Promotions(parts.open_collections, parts.models.registry, parts.models.served)
    rankings = Rankings(parts.open_collections)
    mining = await _build_mining(parts, address, ending)
    models = _build_models(parts, promotions, rankings, ending)
    loops = LoopRuns(
        parts.open_collections,
        parts.jobs.operations,
        parts.jobs.loop,
        parts.feedback,
        parts.settings.loop,
        address,
    )
    training = await _build_training(parts, promotions, rankings, loops, address)
    register = [*_build_stores(parts), *_build_answers(parts, limits), mining, models, training]
    return Services(register, loops)


async def _build_mining(parts: Parts, address: str, ending: Ending) -> Register:
    mining = MiningServicer(
        parts.open_collections,
        parts.jobs.operations,
        parts.jobs.mining,
        parts.feedback,
        parts.models.requested,
        parts.settings.search.default_deadline_s,
        address,
    )
    ending.push("estimates of relevance", mining.close)
    await mining.tidy()
    return partial(mining_service_pb2_grpc.add_MiningServiceServicer_to_server, mining)


def _build_models(parts: Parts, promotions: Promotions, rankings: Rankings, ending: Ending) -> Register:
    models = ModelServicer(
        parts.open_collections,
        parts.models.registry,
        promotions,
        parts.models.served,
        parts.models.requested,
        read_archive_limits(parts.settings),
        RankingCalls(parts.open_collections, rankings),
    )
    models.tidy()
    ending.push("imports of models", models.close)
    ending.push("the trial of models", parts.models.trials.close)  # first, or an import would wait for one
    return partial(model_service_pb2_grpc.add_ModelServiceServicer_to_server, models)


async def _build_training(
    parts: Parts, promotions: Promotions, rankings: Rankings, loops: LoopRuns, address: str
) -> Register:
    settings, sets = parts.settings, parts.jobs.mining.sets
    policy_of = partial(read_policy, parts.open_collections, settings.training.promotion)
    contexts = RequestContexts(
        parts.open_collections,
        parts.models.registry,
        sets,
        parts.jobs.training.uploads,
        parts.feedback.guards,
        settings,
        address,
    )
    plans = TrainingPlans(
        parts.jobs.training,
        parts.feedback,
        TrainedModels(parts.models.registry, promotions, sets, policy_of),
        TunedRankings(rankings, policy_of),
    )
    training = TrainingServicer(
        parts.open_collections,
        parts.jobs.operations,
        parts.jobs.training,
        contexts,
        plans,
        loops,
        parts.models.requested,
    )
    await training.tidy()
    await loops.tidy()  # after that of trainings: what is told of a deletion last ends first
    return partial(training_service_pb2_grpc.add_TrainingServiceServicer_to_server, training)


def _build_stores(parts: Parts) -> list[Register]:
    """Builds the services of collections, documents and feedback."""
    settings, default_s = parts.settings, parts.settings.search.default_deadline_s
    collections = CollectionServicer(
        parts.open_collections,
        parts.jobs.operations,
        parts.jobs.reindexes,
        parts.models.requested,
        settings.models.encoder,
        default_s,
    )
    documents = DocumentServicer(parts.open_collections, default_s)
    purge = parts.jobs.made_of_feedback.purge
    feedback = FeedbackServicer(
        parts.open_collections, parts.jobs.operations, parts.feedback, settings, purge
    )
    return [
        partial(collection_service_pb2_grpc.add_CollectionServiceServicer_to_server, collections),
        partial(document_service_pb2_grpc.add_DocumentServiceServicer_to_server, documents),
        partial(feedback_service_pb2_grpc.add_FeedbackServiceServicer_to_server, feedback),
    ]


def _build_answers(parts: Parts, limits: ConnectionLimits) -> list[Register]:
    """Builds the services of searches, of the server itself and of operations."""
    settings, default_s = parts.settings, parts.settings.search.default_deadline_s
    pages: PageStore[KeptSearch] = PageStore(settings.search.page_lifetime_s, settings.search.max_kept_bytes)
    searches = SearchService(pages, parts.feedback.answers)
    search = SearchServicer(
        parts.open_collections, searches, parts.models.of_collections.hold_for_search, default_s
    )
    server = ServerServicer(settings, resolve_device(settings.models.device), limits)
    operations = OperationsServicer(parts.jobs.operations, default_s)
    return [
        partial(search_service_pb2_grpc.add_SearchServiceServicer_to_server, search),
        partial(server_service_pb2_grpc.add_ServerServiceServicer_to_server, server),
        partial(operations_pb2_grpc.add_OperationsServicer_to_server, operations),
    ]
