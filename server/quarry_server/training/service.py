"""TrainingService."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from google.longrunning import operations_pb2

from quarry.collections.collections import Collections
from quarry.documents.catalog import Collection
from quarry.documents.store import RequestId
from quarry.errors import InvalidArgumentError, RequiredError
from quarry.feedback.purge import PurgeMade
from quarry.jobs.operations import Operations
from quarry.registry.names import parse_name
from quarry.training.jobs import TrainingJobs
from quarry.training.spec import TrainingSpec
from quarry.training.uploads import FIELD
from quarry.v1 import training_service_pb2 as pb
from quarry.v1 import training_service_pb2_grpc
from quarry_server.common.context import Context
from quarry_server.common.jobs import CollectionJobs
from quarry_server.common.model_names import RequestedModels, list_names
from quarry_server.common.request_ids import parse_request_id
from quarry_server.training.loop_runs import LoopRuns
from quarry_server.training.plans import TrainingPlans
from quarry_server.training.request_context import RequestContext, RequestContexts
from quarry_server.training.requests import (
    Request,
    parse_distillation,
    parse_encoder_training,
    parse_evaluation,
    parse_training,
    parse_tuning,
)

R = TypeVar("R", bound=Request)


class TrainingServicer(training_service_pb2_grpc.TrainingServiceServicer):
    """TrainingService: checks requests, and starts what they ask for as operations.

    Args:
        plans: of what requests ask for, once ``contexts`` have let them be checked.
    """

    def __init__(
        self,
        open_collections: Collections,
        operations: Operations,
        jobs: TrainingJobs,
        contexts: RequestContexts,
        plans: TrainingPlans,
        loops: LoopRuns,
        requested: RequestedModels,
    ) -> None:
        self._open_collections, self._jobs = open_collections, jobs
        self._contexts, self._plans = contexts, plans
        self._loops, self._requested = loops, requested
        self._calls = CollectionJobs(open_collections, operations, jobs)

    async def tidy(self) -> None:
        """Removes what unfinished jobs and deleted collections have left, and will from now on. Called at
        the start."""
        now_us = self._open_collections.folder.clock.now_us
        await asyncio.to_thread(self._jobs.folders.remove_unfinished, now_us)
        await asyncio.to_thread(self._jobs.uploads.remove_unused, now_us)
        await self._calls.tidy()

    async def UploadExamples(
        self, request_iterator: AsyncIterator[pb.UploadExamplesRequest], context: Context
    ) -> pb.UploadExamplesResponse:
        upload = await asyncio.to_thread(self._jobs.uploads.begin)
        try:
            async for request in request_iterator:
                if not request.parquet:
                    raise RequiredError(FIELD, "is empty")
                await asyncio.to_thread(upload.add, request.parquet)
            name, rows = await asyncio.to_thread(upload.finish)
        finally:
            await asyncio.shield(asyncio.to_thread(upload.drop))
        return pb.UploadExamplesResponse(examples=name, rows=rows, bytes=upload.size)

    async def TrainReranker(
        self, request: pb.TrainRerankerRequest, context: Context
    ) -> operations_pb2.Operation:
        return await self._train("train-reranker", request, parse_training)

    async def TrainEncoder(
        self, request: pb.TrainEncoderRequest, context: Context
    ) -> operations_pb2.Operation:
        return await self._train("train-encoder", request, parse_encoder_training)

    async def DistillReranker(
        self, request: pb.DistillRerankerRequest, context: Context
    ) -> operations_pb2.Operation:
        return await self._train("distill-reranker", request, parse_distillation)

    async def EvaluateReranker(
        self, request: pb.EvaluateRerankerRequest, context: Context
    ) -> operations_pb2.Operation:
        version = parse_name(request.model)
        if version is None:
            raise InvalidArgumentError("model", f"{request.model[:80]!r} is not COLLECTION@NUMBER")
        collection = await self._calls.find_collection(version[0])
        request_id = parse_request_id(request.request_id, "evaluate-reranker", request)
        if (started := await self._find_started(collection, request_id)) is not None:
            return started
        await self._requested.admit(request.compare_with, known=list_names(collection))
        spec = await asyncio.to_thread(lambda: parse_evaluation(request, self._contexts.read(collection)))
        return await self._calls.start_once(
            collection, request_id, "evaluate-reranker", self._plans.plan_evaluation(spec)
        )

    async def TuneRanking(self, request: pb.TuneRankingRequest, context: Context) -> operations_pb2.Operation:
        collection = await self._calls.find_collection(request.collection)
        request_id = parse_request_id(request.request_id, "tune-ranking", request)
        if (started := await self._find_started(collection, request_id)) is not None:
            return started
        with self._open_collections.use(collection.settings.name) as opened:
            arms = opened.generation.searcher.first_stage.arms
        spec = await asyncio.to_thread(lambda: parse_tuning(request, self._contexts.read(collection), arms))
        plan = self._plans.plan_tuning(spec)
        return await self._calls.start_once(collection, request_id, "tune-ranking", plan)

    async def RunLoop(self, request: pb.RunLoopRequest, context: Context) -> operations_pb2.Operation:
        return await self._loops.run(request)

    async def GetLoopReport(
        self, request: pb.GetLoopReportRequest, context: Context
    ) -> pb.GetLoopReportResponse:
        return await self._loops.get(request)

    async def ListLoopReports(
        self, request: pb.ListLoopReportsRequest, context: Context
    ) -> pb.ListLoopReportsResponse:
        return await self._loops.list_reports(request)

    async def _train(
        self, kind: str, request: R, parse: Callable[[R, RequestContext], TrainingSpec]
    ) -> operations_pb2.Operation:
        collection = await self._calls.find_collection(request.collection)
        request_id = parse_request_id(request.request_id, kind, request)
        if (started := await self._find_started(collection, request_id)) is not None:
            return started
        teacher = request.teacher if isinstance(request, pb.DistillRerankerRequest) else ""
        named = request.base, teacher, self._contexts.base_reranker
        await self._requested.admit(*named, known=list_names(collection))
        spec = await asyncio.to_thread(lambda: parse(request, self._contexts.read(collection)))
        return await self._calls.start_once(collection, request_id, kind, self._plans.plan_training(spec))

    async def _find_started(
        self, collection: Collection, request_id: RequestId
    ) -> operations_pb2.Operation | None:
        """Finds what a repeated request has started.

        Raises FailedPreconditionError if the request is new, and this server cannot train.
        """
        started = await self._calls.find_started(collection, request_id)
        if started is None:
            self._jobs.check_installed()
        return started


def end_trainings(purge_sets: PurgeMade, jobs: TrainingJobs) -> PurgeMade:
    """Adds to ``purge_sets`` the trainings on mining sets that go."""

    async def purge(key: int, start_us: int | None, end_us: int | None) -> list[str]:
        names = await purge_sets(key, start_us, end_us)
        await jobs.end_trainings_on(names)
        return names

    return purge
