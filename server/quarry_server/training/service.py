"""TrainingService."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from google.longrunning import operations_pb2
from google.protobuf.message import Message

from quarry.collections.collections import Collections
from quarry.config import Settings
from quarry.documents.catalog import Collection, get_collection, read_now_us
from quarry.errors import InvalidArgumentError, RequiredError
from quarry.feedback.purge import PurgeMade
from quarry.jobs.operations import Operations
from quarry.jobs.process import OnDetails, OnProgress
from quarry.mining.sets import MiningSets
from quarry.registry.names import parse_name
from quarry.registry.trained_models import TrainedModels, TunedRankings
from quarry.training.folders import AnySpec
from quarry.training.jobs import TrainingJobs
from quarry.training.spec import ModelRef, TrainingResult, TrainingSpec, TuningResult, TuningSpec
from quarry.training.uploads import FIELD
from quarry.v1 import model_service_pb2 as models_pb
from quarry.v1 import training_service_pb2 as pb
from quarry.v1 import training_service_pb2_grpc
from quarry_server.collections.documents import parse_request_id
from quarry_server.common.context import Context
from quarry_server.common.jobs import CollectionJobs, Plan
from quarry_server.common.model_names import RequestedModels, list_names
from quarry_server.models.messages import to_model_message
from quarry_server.models.rankings import to_found_message, to_ranking_message
from quarry_server.training.loop_runs import LoopRuns
from quarry_server.training.messages import (
    add_advice,
    make_metadata,
    set_details,
    to_evaluation_message,
    to_unregistered_message,
)
from quarry_server.training.requests import (
    Request,
    RequestContext,
    parse_distillation,
    parse_encoder_training,
    parse_evaluation,
    parse_training,
    parse_tuning,
)
from quarry_server.wiring import OpenFeedback, choose_precision

R = TypeVar("R", bound=Request)
AnyRequest = Request | pb.EvaluateRerankerRequest | pb.TuneRankingRequest
Work = Callable[[OnProgress, OnDetails], Awaitable[Message]]
"""Does what an operation is for; its response."""


class TrainingServicer(training_service_pb2_grpc.TrainingServiceServicer):
    """
    Args:
        address: where jobs reach this server.
    """

    def __init__(
        self,
        open_collections: Collections,
        operations: Operations,
        jobs: TrainingJobs,
        mining_sets: MiningSets,
        feedback: OpenFeedback,
        trained: TrainedModels,
        tuned: TunedRankings,
        find_model: Callable[[str], ModelRef],
        loops: LoopRuns,
        settings: Settings,
        requested: RequestedModels,
        address: str,
    ) -> None:
        self._open_collections, self._jobs = open_collections, jobs
        self._mining_sets, self._feedback = mining_sets, feedback
        self._trained, self._tuned, self._find_model = trained, tuned, find_model
        self._loops, self._requested, self._address = loops, requested, address
        self._base_reranker = settings.models.base_reranker
        self._precision = choose_precision(settings)
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

        async def plan() -> Plan:
            await self._requested.admit(request.compare_with, known=list_names(collection))
            spec = await asyncio.to_thread(lambda: parse_evaluation(request, self._read_context(collection)))

            async def evaluate(on_progress: OnProgress, on_details: OnDetails) -> Message:
                return to_evaluation_message(await self._jobs.evaluate(spec, on_progress, on_details), spec)

            return self._plan(spec, evaluate)

        return await self._start("evaluate-reranker", request, collection, plan)

    async def TuneRanking(self, request: pb.TuneRankingRequest, context: Context) -> operations_pb2.Operation:
        collection = await self._calls.find_collection(request.collection)

        async def plan() -> Plan:
            with self._open_collections.use(request.collection) as opened:
                arms = opened.generation.searcher.arms
            spec = await asyncio.to_thread(
                lambda: parse_tuning(request, self._read_context(collection), arms)
            )

            async def tune(on_progress: OnProgress, on_details: OnDetails) -> Message:
                return await self._jobs.tune(spec, on_progress, on_details, partial(self._take_ranking, spec))

            return self._plan(spec, tune)

        return await self._start("tune-ranking", request, collection, plan)

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

        async def plan() -> Plan:
            teacher = request.teacher if isinstance(request, pb.DistillRerankerRequest) else ""
            named = request.base, teacher, self._base_reranker
            await self._requested.admit(*named, known=list_names(collection))
            spec = await asyncio.to_thread(lambda: parse(request, self._read_context(collection)))

            async def train(on_progress: OnProgress, on_details: OnDetails) -> Message:
                return await self._jobs.train(spec, on_progress, on_details, partial(self._take, spec))

            return self._plan(spec, train)

        return await self._start(kind, request, collection, plan)

    async def _take(self, spec: TrainingSpec, result: TrainingResult, folder: Path) -> models_pb.Model:
        """Says what became of a training's model."""
        taken = await self._trained.take(spec, result, folder)
        if taken.version is None:
            return to_unregistered_message(result, spec)
        return add_advice(to_model_message(taken.version), taken.advice)

    async def _take_ranking(self, spec: TuningSpec, result: TuningResult) -> models_pb.Ranking:
        """Says what became of the ranking configuration that a tuning found."""
        taken = await self._tuned.take(spec, result)
        if taken.version is None:
            return to_found_message(spec.collection, result)
        return add_advice(to_ranking_message(taken.version), taken.advice)

    async def _start(
        self, kind: str, request: AnyRequest, collection: Collection, plan: Callable[[], Awaitable[Plan]]
    ) -> operations_pb2.Operation:
        """Starts what ``plan`` has checked, once for the request's id."""
        request_id = parse_request_id(request.request_id, kind, request)

        async def prepare() -> Plan:
            self._jobs.check_installed()
            return await plan()

        return await self._calls.start_once(collection, request_id, kind, prepare)

    def _plan(self, spec: AnySpec, work: Work) -> Plan:
        metadata = make_metadata(spec)

        async def run(on_progress: OnProgress) -> Message:
            await self._feedback.impressions.flush()  # or the job would miss the last answers
            response = await work(on_progress, partial(set_details, metadata))
            metadata.ClearField("eta")
            return response

        return Plan(metadata, run)

    def _read_context(self, collection: Collection) -> RequestContext:
        """Reads what a request is read against. Blocks."""
        database = self._open_collections.database
        return RequestContext(
            collection=collection,
            base_reranker=self._base_reranker,
            precision=self._precision,
            guards=self._feedback.guards,
            server=self._address,
            now_us=read_now_us(),
            resolve=self._find_model,
            key_of=lambda name: database.read(lambda c: get_collection(c, name)).key,
            mining_sets=self._mining_sets,
            uploads=self._jobs.uploads,
        )


def end_trainings(purge_sets: PurgeMade, jobs: TrainingJobs) -> PurgeMade:
    """Adds to ``purge_sets`` the trainings on mining sets that go."""

    async def purge(key: int, start_us: int | None, end_us: int | None) -> list[str]:
        names = await purge_sets(key, start_us, end_us)
        await jobs.end_trainings_on(names)
        return names

    return purge
