"""MiningService."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from google.longrunning import operations_pb2

from quarry.collections.library import Library
from quarry.documents.catalog import Collection, now_us
from quarry.errors import FailedPreconditionError
from quarry.jobs.operations import Operation, Operations, SetMetadata, new_name
from quarry.mining.jobs import MiningJobs
from quarry.mining.presets import ENCODER_PREFIX, MEMBERS
from quarry.mining.sets import EXAMPLES, PAGE, REPORT, no_set
from quarry.mining.spec import MiningSpec
from quarry.v1 import mining_service_pb2 as pb
from quarry.v1 import mining_service_pb2_grpc
from quarry.waiting import TimedWork
from quarry_server.collections.documents import parse_request_id
from quarry_server.common.context import Context, deadline_of
from quarry_server.common.model_names import RequestedModels, names_of
from quarry_server.common.once import StartedOnce
from quarry_server.common.operations import operation_message, packed
from quarry_server.common.page_tokens import MINING_SETS
from quarry_server.common.paging import DEFAULT_LIST_PAGE, MAX_LIST_PAGE, fitting, parse_page_size
from quarry_server.common.values import timestamp_message
from quarry_server.mining.messages import relevance_message, set_message
from quarry_server.mining.requests import parse_estimate, parse_mining
from quarry_server.wiring import Feedback

KIND = "mine"
PIECE_BYTES = 2**20
ANSWER_S, ANSWER_SHARE = 0.5, 0.1
"""An estimate is given up so long before the caller's deadline, at most this share of the time that there is,
so that the caller gets an answer and not silence."""


class MiningServicer(mining_service_pb2_grpc.MiningServiceServicer):
    """
    Args:
        address: where jobs reach this server.
    """

    def __init__(
        self,
        library: Library,
        operations: Operations,
        jobs: MiningJobs,
        feedback: Feedback,
        requested: RequestedModels,
        default_deadline_s: float,
        address: str,
    ) -> None:
        self._library, self._operations, self._jobs = library, operations, jobs
        self._feedback, self._requested = feedback, requested
        self._default_deadline_s, self._address = default_deadline_s, address
        self._estimates = TimedWork()
        self._once = StartedOnce(library.database, operations)

    async def tidy(self) -> None:
        """At the start: removes what unfinished jobs and deleted collections have left; sees to later."""
        now_us = self._library.folder.clock.now_us
        await asyncio.to_thread(self._jobs.sets.remove_unfinished, now_us)
        await self._remove_of_deleted()
        self._library.when_deleted(self._remove_of_deleted)

    async def MineHardNegatives(
        self, request: pb.MineHardNegativesRequest, context: Context
    ) -> operations_pb2.Operation:
        collection = await self._collection(request.collection)
        request_id = parse_request_id(request.request_id, "mine-hard-negatives", request)
        spec = await asyncio.to_thread(
            parse_mining, request, collection, self._feedback.guards, self._address, now_us()
        )
        encoders = [member.removeprefix(ENCODER_PREFIX) for member in spec.members if member not in MEMBERS]
        await self._requested.admit(*encoders, known=names_of(collection))
        self._jobs.check_installed()
        name = new_name(KIND)
        started = await self._once.start(collection, request_id, name, lambda: self._start(spec, name))
        return operation_message(started)

    async def _start(self, spec: MiningSpec, name: str) -> Operation:
        metadata = pb.MineHardNegativesMetadata(
            collection=spec.collection, mining_set=spec.name, start_time=timestamp_message(now_us())
        )

        async def mine(report: SetMetadata) -> bytes:
            async def on_progress(stage: str, progress: float) -> None:
                metadata.stage, metadata.progress = stage, progress
                await report(packed(metadata))

            if spec.feedback is not None:
                await self._feedback.impressions.flush()  # or the job would miss the last answers
            summary = await self._jobs.mine(spec, on_progress)
            await on_progress("done", 1.0)
            text = await asyncio.to_thread(self._jobs.sets.text, spec.name, REPORT)
            return packed(set_message(summary, text))

        return await self._operations.start(KIND, packed(metadata), mine, name)

    async def EstimateRelevance(
        self, request: pb.EstimateRelevanceRequest, context: Context
    ) -> pb.EstimateRelevanceResponse:
        """Answers DEADLINE_EXCEEDED in time, and ends the job's process."""
        left_s = deadline_of(context, self._default_deadline_s).remaining_s
        timeout_s = left_s - min(ANSWER_S, ANSWER_SHARE * left_s)
        return await self._estimates.result(self._estimate(request), timeout_s)

    async def _estimate(self, request: pb.EstimateRelevanceRequest) -> pb.EstimateRelevanceResponse:
        collection = await self._collection(request.collection)
        spec = await asyncio.to_thread(parse_estimate, request, collection, self._feedback.guards)
        self._jobs.check_installed()
        await self._feedback.impressions.flush()
        return relevance_message(await self._jobs.estimate(spec))

    async def close(self) -> None:
        """Ends the estimates that run, and waits for their processes."""
        await self._estimates.close()

    async def GetMiningSet(
        self, request: pb.GetMiningSetRequest, context: Context
    ) -> pb.GetMiningSetResponse:
        await self._remove_of_deleted()
        sets = self._jobs.sets
        summary = await asyncio.to_thread(sets.get, request.name)
        report = await asyncio.to_thread(sets.text, request.name, REPORT)
        html = await asyncio.to_thread(sets.text, request.name, PAGE) if request.include_html else ""
        return pb.GetMiningSetResponse(mining_set=set_message(summary, report), html=html)

    async def ListMiningSets(
        self, request: pb.ListMiningSetsRequest, context: Context
    ) -> pb.ListMiningSetsResponse:
        size = parse_page_size(request.page_size, DEFAULT_LIST_PAGE, MAX_LIST_PAGE)
        below = MINING_SETS.parse(request)
        if request.collection:
            await self._collection(request.collection)
        await self._remove_of_deleted()
        found = await asyncio.to_thread(self._jobs.sets.all, request.collection)
        places = {(s.create_time_us, s.name): s for s in found}
        later = sorted((place for place in places if below is None or place < below), reverse=True)
        page = fitting(set_message(places[place]) for place in later[:size])
        more = len(later) > len(page)
        return pb.ListMiningSetsResponse(
            mining_sets=page,
            next_page_token=MINING_SETS.encode(later[len(page) - 1], request) if more else "",
        )

    async def ReadExamples(
        self, request: pb.ReadExamplesRequest, context: Context
    ) -> AsyncIterator[pb.ReadExamplesResponse]:
        await self._remove_of_deleted()
        await asyncio.to_thread(self._jobs.sets.get, request.name)
        path = self._jobs.sets.folder(request.name) / EXAMPLES
        at = 0
        while piece := await asyncio.to_thread(_piece, path, at):
            yield pb.ReadExamplesResponse(parquet=piece)
            at += len(piece)

    async def _collection(self, name: str) -> Collection:
        """The collection's row. Raises as ``Library.use``."""
        with self._library.use(name):
            pass
        return await self._library.current(name)

    async def _remove_of_deleted(self, _deleted: Collection | None = None) -> None:
        """Removes the sets of collections that have been deleted."""
        await self._jobs.remove_of_deleted(self._library.deleted_keys)


def _piece(path: Path, at: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(at)
            return file.read(PIECE_BYTES)
    except FileNotFoundError:
        if at:
            raise FailedPreconditionError("the mining set was deleted while it was read") from None
        raise no_set(path.parent.name) from None
