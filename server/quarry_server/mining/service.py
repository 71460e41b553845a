"""MiningService."""

import asyncio
from collections.abc import AsyncIterator

from google.longrunning import operations_pb2

from quarry.collections.collections import Collections
from quarry.documents.catalog import read_now_us
from quarry.errors import FailedPreconditionError
from quarry.jobs.operations import Operations
from quarry.mining.jobs import MiningJobs
from quarry.mining.members import ENCODER_PREFIX
from quarry.mining.sets import EXAMPLES, PAGE, REPORT, MiningSets
from quarry.v1 import mining_service_pb2 as pb
from quarry.v1 import mining_service_pb2_grpc
from quarry.waiting import TimedWork
from quarry_server.common.context import Context, resolve_deadline
from quarry_server.common.jobs import CollectionJobs
from quarry_server.common.model_names import RequestedModels, list_names
from quarry_server.common.page_tokens import MINING_SETS
from quarry_server.common.paging import ListPage
from quarry_server.common.request_ids import parse_request_id
from quarry_server.mining.messages import to_relevance_message, to_set_message
from quarry_server.mining.plans import MiningPlans
from quarry_server.mining.requests import parse_estimate, parse_mining
from quarry_server.wiring import OpenFeedback

KIND = "mine"
PIECE_BYTES = 2**20
ANSWER_S, ANSWER_SHARE = 0.5, 0.1
"""An estimate is given up so long before the caller's deadline, at most this share of the time that there is,
so that the caller gets an answer and not silence."""


class MiningServicer(mining_service_pb2_grpc.MiningServiceServicer):
    """MiningService: starts mining as operations, and gives out the sets that they make.

    Args:
        address: where jobs reach this server.
    """

    def __init__(
        self,
        open_collections: Collections,
        operations: Operations,
        jobs: MiningJobs,
        feedback: OpenFeedback,
        requested: RequestedModels,
        default_deadline_s: float,
        address: str,
    ) -> None:
        self._clock, self._jobs = open_collections.folder.clock, jobs
        self._feedback, self._requested = feedback, requested
        self._default_deadline_s, self._address = default_deadline_s, address
        self._estimates, self._plans = TimedWork(), MiningPlans(jobs, feedback)
        self._calls = CollectionJobs(open_collections, operations, jobs)

    async def tidy(self) -> None:
        """Removes what unfinished jobs and deleted collections have left, and will from now on. Called at
        the start."""
        await asyncio.to_thread(self._jobs.sets.remove_unfinished, self._clock.now_us)
        await self._calls.tidy()

    async def MineHardNegatives(
        self, request: pb.MineHardNegativesRequest, context: Context
    ) -> operations_pb2.Operation:
        collection = await self._calls.find_collection(request.collection)
        request_id = parse_request_id(request.request_id, "mine-hard-negatives", request)
        if (started := await self._calls.find_started(collection, request_id)) is not None:
            return started
        spec = await asyncio.to_thread(
            parse_mining, request, collection, self._feedback.guards, self._address, read_now_us()
        )
        named = [member for member in spec.members if member.startswith(ENCODER_PREFIX)]
        encoders = [member.removeprefix(ENCODER_PREFIX) for member in named]
        await self._requested.admit(*encoders, known=list_names(collection))
        self._jobs.check_installed()
        return await self._calls.start_once(collection, request_id, KIND, self._plans.plan_mining(spec))

    async def EstimateRelevance(
        self, request: pb.EstimateRelevanceRequest, context: Context
    ) -> pb.EstimateRelevanceResponse:
        """Answers DEADLINE_EXCEEDED in time, and ends the job's process."""
        left_s = resolve_deadline(context, self._default_deadline_s).remaining_s
        timeout_s = left_s - min(ANSWER_S, ANSWER_SHARE * left_s)
        return await self._estimates.wait_for_result(self._estimate(request), timeout_s)

    async def _estimate(self, request: pb.EstimateRelevanceRequest) -> pb.EstimateRelevanceResponse:
        collection = await self._calls.find_collection(request.collection)
        spec = await asyncio.to_thread(parse_estimate, request, collection, self._feedback.guards)
        self._jobs.check_installed()
        await self._feedback.impressions.flush()
        return to_relevance_message(await self._jobs.estimate(spec))

    async def close(self) -> None:
        """Ends the estimates that run, and waits for their processes."""
        await self._estimates.close()

    async def GetMiningSet(
        self, request: pb.GetMiningSetRequest, context: Context
    ) -> pb.GetMiningSetResponse:
        await self._calls.remove_of_deleted()
        sets = self._jobs.sets
        summary = await asyncio.to_thread(sets.get, request.name)
        report = await asyncio.to_thread(sets.read_text, request.name, REPORT)
        html = await asyncio.to_thread(sets.read_text, request.name, PAGE) if request.include_html else ""
        return pb.GetMiningSetResponse(mining_set=to_set_message(summary, report), html=html)

    async def ListMiningSets(
        self, request: pb.ListMiningSetsRequest, context: Context
    ) -> pb.ListMiningSetsResponse:
        page = ListPage(MINING_SETS, request)
        name = self._calls.find_name(request.collection)
        await self._calls.remove_of_deleted()
        found = await asyncio.to_thread(self._jobs.sets.list_newest, name)
        sets, token = page.fill_newest(found, lambda s: (s.create_time_us, s.name), to_set_message)
        return pb.ListMiningSetsResponse(mining_sets=sets, next_page_token=token)

    async def ReadExamples(
        self, request: pb.ReadExamplesRequest, context: Context
    ) -> AsyncIterator[pb.ReadExamplesResponse]:
        await self._calls.remove_of_deleted()
        sets = self._jobs.sets
        await asyncio.to_thread(sets.get, request.name)
        at = 0
        while piece := await asyncio.to_thread(_read_piece, sets, request.name, at):
            yield pb.ReadExamplesResponse(parquet=piece)
            at += len(piece)


def _read_piece(sets: MiningSets, name: str, at: int) -> bytes:
    try:
        with (sets.locate(name) / EXAMPLES).open("rb") as file:
            file.seek(at)
            return file.read(PIECE_BYTES)
    except FileNotFoundError:
        if at:
            raise FailedPreconditionError("the mining set was deleted while it was read") from None
        raise sets.make_missing_error(name) from None
