"""The reindexing methods of CollectionService, and the operations behind them."""

import math
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from google.longrunning import operations_pb2
from google.protobuf import duration_pb2

from quarry.collections.collection_handle import CollectionHandle
from quarry.collections.collections import Collections
from quarry.collections.reindex import Reindexer, ReindexProgress, ReindexState, Report
from quarry.collections.reindex_cost import ReindexEstimate
from quarry.collections.reindex_plan import ReindexPlan, Wanted
from quarry.documents.catalog import Collection, read_now_us
from quarry.documents.generations import Role, SideGeneration
from quarry.errors import RequiredError
from quarry.jobs.operations import Job, Operation, Operations, make_name
from quarry.v1 import collection_service_pb2 as pb
from quarry.v1 import collection_service_pb2_grpc
from quarry.waiting import finish_undisturbed
from quarry_server.collections.messages import (
    parse_passages,
    parse_schema,
    to_arm_messages,
    to_collection_message,
    to_passages_message,
    to_schema_message,
)
from quarry_server.common.context import Context
from quarry_server.common.model_names import RequestedModels, list_names
from quarry_server.common.operations import PREFIX, Tell, make_job, pack_any, to_operation_message
from quarry_server.common.values import parse_etag, to_timestamp

KIND = "reindex"
ROLLBACK = "rollback"

_STATES = {
    ReindexState.BUILDING: pb.REINDEX_STATE_BUILDING,
    ReindexState.PAUSED: pb.REINDEX_STATE_PAUSED,
    ReindexState.CATCHING_UP: pb.REINDEX_STATE_CATCHING_UP,
    ReindexState.CHECKING: pb.REINDEX_STATE_CHECKING,
    ReindexState.SWITCHING: pb.REINDEX_STATE_SWITCHING,
    ReindexState.DONE: pb.REINDEX_STATE_DONE,
}


class ReindexJobs:
    """Reindexes and rollbacks as operations. A reindex outlives its server: ``resume`` goes on with it."""

    def __init__(self, open_collections: Collections, operations: Operations) -> None:
        self.reindexer = Reindexer(open_collections)
        self._open_collections, self._operations = open_collections, operations

    async def list_resumable(self) -> list[str]:
        """Lists the names of operations that ``resume`` will go on with."""
        return [side.operation for side in await self.reindexer.list_unfinished()]

    async def resume(self) -> None:
        """Goes on with what the last server left."""
        for side in await self.reindexer.list_unfinished():
            metadata = _make_metadata(
                await self.reindexer.read_name(side.key), ReindexEstimate.from_dict(side.estimate)
            )
            metadata.start_time.CopyFrom(to_timestamp(side.create_time_us))
            job = self._reindex(side.key, metadata)
            await self._operations.resume(side.operation, pack_any(metadata), job)

    async def start(self, plan: ReindexPlan) -> operations_pb2.Operation:
        """Raises as ``Reindexer.begin``."""
        return to_operation_message(await finish_undisturbed(self._begin(plan)))

    async def _begin(self, plan: ReindexPlan) -> Operation:
        """Begins a reindex; a caller that went in between would leave one that nobody runs."""
        name = make_name(KIND)
        await self.reindexer.begin(plan, name)
        metadata = _make_metadata(plan.before.settings.name, plan.estimate)
        return await self._operations.resume(
            name, pack_any(metadata), self._reindex(plan.before.key, metadata)
        )

    async def roll_back(self, name: str, revision: int | None) -> operations_pb2.Operation:
        """Raises as ``Reindexer.begin_rollback``."""
        operation = make_name(ROLLBACK)
        key = await self.reindexer.begin_rollback(name, revision, operation)
        metadata = _make_metadata(name, None)
        job = _make_job(metadata, partial(self.reindexer.roll_back, key))
        try:
            return to_operation_message(await self._operations.start("", pack_any(metadata), job, operation))
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

    async def add_status(self, opened: CollectionHandle, status: pb.CollectionStatus) -> None:
        """Says what is beside the serving generation."""
        sides = await self.reindexer.list_side_generations(opened.row.key)
        if building := sides.get(Role.BUILDING):
            status.reindex.CopyFrom(self._to_building_message(building))
        if previous := sides.get(Role.PREVIOUS):
            kept = self._open_collections.side_generations.get(opened.row.settings.name, Role.PREVIOUS)
            status.previous.CopyFrom(_to_previous_message(previous, kept))

    def _to_building_message(self, side: SideGeneration) -> pb.ReindexStatus:
        estimate = ReindexEstimate.from_dict(side.estimate)
        known = pb.ReindexEstimate() if estimate is None else _to_estimate_message(estimate)
        return pb.ReindexStatus(
            operation=PREFIX + side.operation,
            generation=side.name,
            encoder=side.settings.encoder,
            schema=to_schema_message(side.settings.schema),
            passages=to_passages_message(side.settings.passages),
            progress=_to_progress_message(self.reindexer.read_progress(side), known),
        )


class ReindexServicer(collection_service_pb2_grpc.CollectionServiceServicer):
    """Reindex and what belongs to it; the rest of the service is ``CollectionServicer``'s."""

    def __init__(
        self, open_collections: Collections, reindexes: ReindexJobs, requested: RequestedModels
    ) -> None:
        self._open_collections, self._reindexes, self._requested = open_collections, reindexes, requested

    async def Reindex(self, request: pb.ReindexRequest, context: Context) -> operations_pb2.Operation:
        if request.HasField("encoder") and not request.encoder:
            raise RequiredError("encoder", "is empty: leave it out to keep the one there is")
        wanted = Wanted(
            request.encoder if request.HasField("encoder") else None,
            parse_schema(request.schema) if request.HasField("schema") else None,
            parse_passages(request.passages) if request.HasField("passages") else None,
        )
        name = self._open_collections.find_name(request.name)
        if wanted.encoder is not None:
            await self._admit(name, wanted.encoder)
        plan = await self._reindexes.reindexer.plan(name, parse_etag(request.etag), wanted)
        if not request.validate_only:
            return await self._reindexes.start(plan)
        answer = pb.ReindexResponse(
            collection=to_collection_message(plan.after), estimate=_to_estimate_message(plan.estimate)
        )
        operation = operations_pb2.Operation(done=True)
        operation.response.Pack(answer)
        operation.metadata.Pack(_make_metadata(name, plan.estimate))
        return operation

    async def _admit(self, name: str, encoder: str) -> None:
        """Raises as ``RequestedModels.admit``, or InvalidArgumentError for what can be no model's name."""
        with self._open_collections.use(name):
            current = await self._open_collections.read_current(name)
        replace(current.settings, encoder=encoder)
        await self._requested.admit(encoder, known=list_names(current))

    async def PauseReindex(
        self, request: pb.PauseReindexRequest, context: Context
    ) -> pb.PauseReindexResponse:
        with self._open_collections.use(request.name) as opened:
            name = opened.row.settings.name
            await self._reindexes.reindexer.pause(name)
            return pb.PauseReindexResponse(collection=await self._read_state(name))

    async def ResumeReindex(
        self, request: pb.ResumeReindexRequest, context: Context
    ) -> pb.ResumeReindexResponse:
        with self._open_collections.use(request.name) as opened:
            name = opened.row.settings.name
            await self._reindexes.reindexer.resume(name)
            return pb.ResumeReindexResponse(collection=await self._read_state(name))

    async def RollbackReindex(
        self, request: pb.RollbackReindexRequest, context: Context
    ) -> operations_pb2.Operation:
        with self._open_collections.use(request.name) as opened:
            return await self._reindexes.roll_back(opened.row.settings.name, parse_etag(request.etag))

    async def DropPreviousGeneration(
        self, request: pb.DropPreviousGenerationRequest, context: Context
    ) -> pb.DropPreviousGenerationResponse:
        with self._open_collections.use(request.name) as opened:
            name = opened.row.settings.name
            await self._reindexes.reindexer.drop_previous(name)
            return pb.DropPreviousGenerationResponse(collection=await self._read_state(name))

    async def _read_state(self, name: str) -> pb.Collection:
        """Reads the collection with its status; counts are read from the log."""
        with self._open_collections.use(name) as opened:
            message = to_collection_message(await self._open_collections.read_current(name))
            message.aliases.extend(self._open_collections.aliases.list_of(name))
            message.status.read_only_reason = str(opened.read_only or "")
            message.status.arms.extend(to_arm_messages(opened.generation))
            await self._reindexes.add_status(opened, message.status)
            return message


def _make_metadata(name: str, estimate: ReindexEstimate | None) -> pb.ReindexMetadata:
    metadata = pb.ReindexMetadata(collection=name, start_time=to_timestamp(read_now_us()))
    if estimate is not None:
        metadata.estimate.CopyFrom(_to_estimate_message(estimate))
    return metadata


def _make_job(metadata: pb.ReindexMetadata, work: Callable[[Report], Awaitable[Collection]]) -> Job:
    """Makes a job of ``work``, whose progress goes into the operation's metadata."""

    async def run(tell: Tell) -> pb.ReindexResponse:
        async def report(progress: ReindexProgress) -> None:
            metadata.progress.CopyFrom(_to_progress_message(progress, metadata.estimate))
            await tell()

        collection = await work(report)
        count = collection.document_count
        await report(ReindexProgress(ReindexState.DONE, count, count))
        response = pb.ReindexResponse(collection=to_collection_message(collection))
        if metadata.HasField("estimate"):
            response.estimate.CopyFrom(metadata.estimate)
        return response

    return make_job(metadata, run)


def _to_estimate_message(estimate: ReindexEstimate) -> pb.ReindexEstimate:
    return pb.ReindexEstimate(
        documents=estimate.documents,
        passages=estimate.passages,
        tokens=estimate.tokens,
        duration=_to_duration(estimate.seconds),
        disk_bytes=estimate.disk_bytes,
        sampled_documents=estimate.sampled_documents,
        encoded_passages=estimate.encoded_passages,
    )


def _to_progress_message(progress: ReindexProgress, estimate: pb.ReindexEstimate) -> pb.ReindexProgress:
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
        message.remaining.CopyFrom(_to_duration(progress.remaining_s))
    return message


def _to_previous_message(side: SideGeneration, kept: CollectionHandle | None) -> pb.PreviousGeneration:
    return pb.PreviousGeneration(
        generation=side.name,
        encoder=side.settings.encoder,
        schema=to_schema_message(side.settings.schema),
        passages=to_passages_message(side.settings.passages),
        arms=[] if kept is None else to_arm_messages(kept.generation),
        retire_time=to_timestamp(side.create_time_us),
    )


def _to_duration(seconds: float) -> duration_pb2.Duration:
    fraction, whole = math.modf(seconds)
    return duration_pb2.Duration(seconds=int(whole), nanos=int(fraction * 1e9))
