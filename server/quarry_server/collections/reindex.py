"""The reindexing methods of CollectionService, and the operations behind them."""

import math
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from google.longrunning import operations_pb2
from google.protobuf import duration_pb2

from quarry.collections.collection import OpenCollection
from quarry.collections.library import Library
from quarry.collections.reindex import Progress, Reindexer, Report, State
from quarry.collections.reindex_cost import Estimate
from quarry.collections.reindex_plan import Plan, Wanted
from quarry.documents.catalog import Collection, now_us
from quarry.documents.generations import Role, SideGeneration
from quarry.errors import RequiredError
from quarry.jobs.operations import Job, Operations, new_name
from quarry.v1 import collection_service_pb2 as pb
from quarry.v1 import collection_service_pb2_grpc
from quarry_server.collections.messages import (
    arm_messages,
    collection_message,
    parse_passages,
    parse_schema,
    passages_message,
    schema_message,
)
from quarry_server.common.context import Context
from quarry_server.common.model_names import RequestedModels, names_of
from quarry_server.common.operations import PREFIX, Tell, make_job, operation_message, packed
from quarry_server.common.values import parse_etag, timestamp_message

KIND = "reindex"
ROLLBACK = "rollback"

_STATES = {
    State.BUILDING: pb.REINDEX_STATE_BUILDING,
    State.PAUSED: pb.REINDEX_STATE_PAUSED,
    State.CATCHING_UP: pb.REINDEX_STATE_CATCHING_UP,
    State.CHECKING: pb.REINDEX_STATE_CHECKING,
    State.SWITCHING: pb.REINDEX_STATE_SWITCHING,
    State.DONE: pb.REINDEX_STATE_DONE,
}


class ReindexJobs:
    """Reindexes and rollbacks as operations. A reindex outlives its server: ``resume`` goes on with it."""

    def __init__(self, library: Library, operations: Operations) -> None:
        self.reindexer = Reindexer(library)
        self._library, self._operations = library, operations

    async def lasting(self) -> list[str]:
        """Names of operations that ``resume`` will go on with."""
        return [side.operation for side in await self.reindexer.unfinished()]

    async def resume(self) -> None:
        """Goes on with what the last server left."""
        for side in await self.reindexer.unfinished():
            metadata = _metadata(await self.reindexer.name_of(side.key), Estimate.of_dict(side.estimate))
            metadata.start_time.CopyFrom(timestamp_message(side.create_time_us))
            job = self._reindex(side.key, metadata)
            await self._operations.resume(side.operation, packed(metadata), job)

    async def start(self, plan: Plan) -> operations_pb2.Operation:
        """Raises as ``Reindexer.begin``."""
        name = new_name(KIND)
        await self.reindexer.begin(plan, name)
        metadata = _metadata(plan.before.settings.name, plan.estimate)
        job = self._reindex(plan.before.key, metadata)
        return operation_message(await self._operations.resume(name, packed(metadata), job))

    async def roll_back(self, name: str, revision: int | None) -> operations_pb2.Operation:
        """Raises as ``Reindexer.begin_rollback``."""
        operation = new_name(ROLLBACK)
        key = await self.reindexer.begin_rollback(name, revision, operation)
        metadata = _metadata(name, None)
        job = _make_job(metadata, partial(self.reindexer.roll_back, key))
        try:
            return operation_message(await self._operations.start("", packed(metadata), job, operation))
        except BaseException:
            self.reindexer.release(key)
            raise

    def _reindex(self, key: int, metadata: pb.ReindexMetadata) -> Job:
        async def build(report: Report) -> Collection:
            try:
                return await self.reindexer.run(key, report)
            except BaseException:
                if not self._operations.closing:
                    await self.reindexer.abandon(key)
                raise

        return _make_job(metadata, build)

    async def add_status(self, opened: OpenCollection, status: pb.CollectionStatus) -> None:
        """Says what is beside the serving generation."""
        beside = await self.reindexer.beside(opened.collection.key)
        if building := beside.get(Role.BUILDING):
            status.reindex.CopyFrom(self._building_message(building))
        if previous := beside.get(Role.PREVIOUS):
            kept = self._library.side_generations.get(opened.collection.settings.name, Role.PREVIOUS)
            status.previous.CopyFrom(_previous_message(previous, kept))

    def _building_message(self, side: SideGeneration) -> pb.ReindexStatus:
        estimate = Estimate.of_dict(side.estimate)
        known = pb.ReindexEstimate() if estimate is None else _estimate_message(estimate)
        return pb.ReindexStatus(
            operation=PREFIX + side.operation,
            generation=side.name,
            encoder=side.settings.encoder,
            schema=schema_message(side.settings.schema),
            passages=passages_message(side.settings.passages),
            progress=_progress_message(self.reindexer.progress(side), known),
        )


class ReindexServicer(collection_service_pb2_grpc.CollectionServiceServicer):
    """Reindex and what belongs to it; the rest of the service is ``CollectionServicer``'s."""

    def __init__(self, library: Library, reindexes: ReindexJobs, requested: RequestedModels) -> None:
        self._library, self._reindexes, self._requested = library, reindexes, requested

    async def Reindex(self, request: pb.ReindexRequest, context: Context) -> operations_pb2.Operation:
        if request.HasField("encoder") and not request.encoder:
            raise RequiredError("encoder", "is empty: leave it out to keep the one there is")
        wanted = Wanted(
            request.encoder if request.HasField("encoder") else None,
            parse_schema(request.schema) if request.HasField("schema") else None,
            parse_passages(request.passages) if request.HasField("passages") else None,
        )
        if wanted.encoder is not None:
            await self._admit(request.name, wanted.encoder)
        plan = await self._reindexes.reindexer.plan(request.name, parse_etag(request.etag), wanted)
        if not request.validate_only:
            return await self._reindexes.start(plan)
        answer = pb.ReindexResponse(
            collection=collection_message(plan.after), estimate=_estimate_message(plan.estimate)
        )
        operation = operations_pb2.Operation(done=True)
        operation.response.Pack(answer)
        operation.metadata.Pack(_metadata(request.name, plan.estimate))
        return operation

    async def _admit(self, name: str, encoder: str) -> None:
        """Raises as ``RequestedModels.admit``, or InvalidArgumentError for what can be no model's name."""
        with self._library.use(name):
            current = await self._library.current(name)
        replace(current.settings, encoder=encoder)
        await self._requested.admit(encoder, known=names_of(current))

    async def PauseReindex(
        self, request: pb.PauseReindexRequest, context: Context
    ) -> pb.PauseReindexResponse:
        with self._library.use(request.name):
            await self._reindexes.reindexer.pause(request.name)
            return pb.PauseReindexResponse(collection=await self._state(request.name))

    async def ResumeReindex(
        self, request: pb.ResumeReindexRequest, context: Context
    ) -> pb.ResumeReindexResponse:
        with self._library.use(request.name):
            await self._reindexes.reindexer.resume(request.name)
            return pb.ResumeReindexResponse(collection=await self._state(request.name))

    async def RollbackReindex(
        self, request: pb.RollbackReindexRequest, context: Context
    ) -> operations_pb2.Operation:
        with self._library.use(request.name):
            return await self._reindexes.roll_back(request.name, parse_etag(request.etag))

    async def DropPreviousGeneration(
        self, request: pb.DropPreviousGenerationRequest, context: Context
    ) -> pb.DropPreviousGenerationResponse:
        with self._library.use(request.name):
            await self._reindexes.reindexer.drop_previous(request.name)
            return pb.DropPreviousGenerationResponse(collection=await self._state(request.name))

    async def _state(self, name: str) -> pb.Collection:
        """The collection with its status; counts are read from the log."""
        with self._library.use(name) as opened:
            message = collection_message(await self._library.current(name))
            message.status.read_only_reason = str(opened.read_only or "")
            message.status.arms.extend(arm_messages(opened.generation))
            await self._reindexes.add_status(opened, message.status)
            return message


def _metadata(name: str, estimate: Estimate | None) -> pb.ReindexMetadata:
    metadata = pb.ReindexMetadata(collection=name, start_time=timestamp_message(now_us()))
    if estimate is not None:
        metadata.estimate.CopyFrom(_estimate_message(estimate))
    return metadata


def _make_job(metadata: pb.ReindexMetadata, work: Callable[[Report], Awaitable[Collection]]) -> Job:
    """Makes a job of ``work``, whose progress goes into the operation's metadata."""

    async def run(tell: Tell) -> pb.ReindexResponse:
        async def report(progress: Progress) -> None:
            metadata.progress.CopyFrom(_progress_message(progress, metadata.estimate))
            await tell()

        collection = await work(report)
        count = collection.document_count
        await report(Progress(State.DONE, count, count))
        response = pb.ReindexResponse(collection=collection_message(collection))
        if metadata.HasField("estimate"):
            response.estimate.CopyFrom(metadata.estimate)
        return response

    return make_job(metadata, run)


def _estimate_message(estimate: Estimate) -> pb.ReindexEstimate:
    return pb.ReindexEstimate(
        documents=estimate.documents,
        passages=estimate.passages,
        tokens=estimate.tokens,
        duration=_duration(estimate.seconds),
        disk_bytes=estimate.disk_bytes,
        sampled_documents=estimate.sampled_documents,
        encoded_passages=estimate.encoded_passages,
    )


def _progress_message(progress: Progress, estimate: pb.ReindexEstimate) -> pb.ReindexProgress:
    per_document = estimate.passages / estimate.documents if estimate.documents else 0.0
    message = pb.ReindexProgress(
        state=_STATES[progress.state],
        documents_done=progress.documents,
        documents_total=progress.total,
        passages_done=round(progress.documents * per_document),
        documents_per_second=progress.documents_per_s,
        problem=progress.problem,
    )
    if progress.remaining_s is not None:
        message.remaining.CopyFrom(_duration(progress.remaining_s))
    return message


def _previous_message(side: SideGeneration, kept: OpenCollection | None) -> pb.PreviousGeneration:
    return pb.PreviousGeneration(
        generation=side.name,
        encoder=side.settings.encoder,
        schema=schema_message(side.settings.schema),
        passages=passages_message(side.settings.passages),
        arms=[] if kept is None else arm_messages(kept.generation),
        retire_time=timestamp_message(side.create_time_us),
    )


def _duration(seconds: float) -> duration_pb2.Duration:
    fraction, whole = math.modf(seconds)
    return duration_pb2.Duration(seconds=int(whole), nanos=int(fraction * 1e9))
