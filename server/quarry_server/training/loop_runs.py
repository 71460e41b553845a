"""Turns of the loop as operations, and their reports."""

import asyncio
from functools import partial

from google.longrunning import operations_pb2

from quarry.collections.collections import Collections
from quarry.config import LoopSettings
from quarry.documents.catalog import Collection, list_collections, read_now_us
from quarry.errors import NotFoundError, OutOfRangeError, QuarryError
from quarry.jobs.operations import Operations, make_name
from quarry.jobs.process import OnProgress
from quarry.training.loop_jobs import LoopJobs
from quarry.training.loop_spec import LoopReport, LoopSpec
from quarry.v1 import training_service_pb2 as pb
from quarry_server.common.jobs import CollectionJobs, OperationPlan
from quarry_server.common.page_tokens import LOOP_REPORTS
from quarry_server.common.paging import ListPage
from quarry_server.common.request_ids import parse_request_id
from quarry_server.common.values import to_timestamp
from quarry_server.feedback.jobs import LOOP
from quarry_server.mining.requests import check_values, make_unique_name, parse_judged
from quarry_server.training.loop_messages import to_report_message
from quarry_server.wiring import OpenFeedback


class LoopRuns:
    """The loop runs of TrainingService.

    Args:
        address: where turns reach this server.
    """

    def __init__(
        self,
        open_collections: Collections,
        operations: Operations,
        jobs: LoopJobs,
        feedback: OpenFeedback,
        settings: LoopSettings,
        address: str,
    ) -> None:
        self._open_collections, self._operations, self._jobs = open_collections, operations, jobs
        self._feedback, self._settings, self._address = feedback, settings, address
        self._calls = CollectionJobs(open_collections, operations, jobs)

    async def tidy(self) -> None:
        """Fails what was under way and removes what deleted collections have left, now and later. Called
        at the start."""
        await asyncio.to_thread(self._jobs.reports.fail_unfinished)
        await self._calls.tidy()

    async def run(self, request: pb.RunLoopRequest) -> operations_pb2.Operation:
        """Raises InvalidArgumentError, CollectionNotFoundError, or FailedPreconditionError if this server
        cannot mine or train."""
        collection = await self._calls.find_collection(request.collection)
        request_id = parse_request_id(request.request_id, LOOP, request)
        if (started := await self._calls.find_started(collection, request_id)) is not None:
            return started
        plan, _ = await self._plan(request, collection)
        return await self._calls.start_once(collection, request_id, LOOP, plan)

    async def turn(self, name: str) -> LoopReport:
        """Runs the loop of a collection as the server's policy says, to its end, as an operation that all can
        see.

        Raises QuarryError: how it failed.
        """
        collection = await self._calls.find_collection(name)
        plan, ended = await self._plan(pb.RunLoopRequest(collection=name), collection)
        operation = await self._calls.start(plan, make_name(LOOP))
        try:
            return await asyncio.shield(ended)
        except asyncio.CancelledError:
            if ended.cancelled():
                raise QuarryError(f"{operation.name} was cancelled") from None
            await self._operations.cancel(operation.name)
            raise

    async def get(self, request: pb.GetLoopReportRequest) -> pb.GetLoopReportResponse:
        await self._calls.remove_of_deleted()
        report = await asyncio.to_thread(self._jobs.reports.get, request.name)
        html = (
            await asyncio.to_thread(self._jobs.reports.read_page, request.name)
            if request.include_html
            else ""
        )
        return pb.GetLoopReportResponse(report=to_report_message(report), html=html)

    async def list_reports(self, request: pb.ListLoopReportsRequest) -> pb.ListLoopReportsResponse:
        page = ListPage(LOOP_REPORTS, request)
        name = self._calls.find_name(request.collection)
        await self._calls.remove_of_deleted()
        found = await asyncio.to_thread(self._jobs.reports.list_newest, name)
        reports, token = page.fill_newest(
            found, lambda report: (report.start_us, report.name), partial(to_report_message, whole=False)
        )
        return pb.ListLoopReportsResponse(reports=reports, next_page_token=token)

    async def list_collections(self) -> list[str]:
        """Lists the names of the collections there are."""
        found = await asyncio.to_thread(self._open_collections.database.read, list_collections)
        return [collection.settings.name for collection in found]

    async def read_turned_us(self, name: str) -> int:
        """Reads until when feedback of a collection has had its loop run; 0 if none has."""
        try:
            key = (await self._open_collections.read_current(name)).key
        except NotFoundError:
            return 0
        return (await asyncio.to_thread(self._jobs.reports.read_place, key)).until_us

    def _make_spec(self, request: pb.RunLoopRequest, collection: Collection) -> LoopSpec:
        if request.HasField("min_new_choices") and request.min_new_choices < 1:
            raise OutOfRangeError("min_new_choices", f"is {request.min_new_choices}, not 1 or more")
        if request.max_tokens and request.max_tokens < 16:
            raise OutOfRangeError("max_tokens", f"is {request.max_tokens}, not 16 or more")
        least = self._settings.min_new_choices
        now = read_now_us()
        values = {
            "name": make_unique_name(collection.settings.name, now),
            "collection": collection.settings.name,
            "collection_key": collection.key,
            "server": self._address,
            "min_new_choices": request.min_new_choices if request.HasField("min_new_choices") else least,
            "force": request.force,
            "steps": request.steps,
            "max_tokens": request.max_tokens,
            "seed": request.seed,
            "judgments": parse_judged(request.judgments, "judgments"),
            "guards": self._feedback.guards,
            "create_time_us": now,
        }
        return check_values(LoopSpec, values)

    async def _plan(
        self, request: pb.RunLoopRequest, collection: Collection
    ) -> tuple[OperationPlan, "asyncio.Future[LoopReport]"]:
        """Prepares a turn that can begin, and what will come of it."""
        spec = await asyncio.to_thread(self._make_spec, request, collection)
        self._jobs.check_installed()
        ended: asyncio.Future[LoopReport] = asyncio.get_running_loop().create_future()
        ended.add_done_callback(lambda future: future.cancelled() or future.exception())  # maybe nobody waits

        async def turn(on_progress: OnProgress) -> pb.LoopReport:
            try:
                await self._feedback.impressions.flush()  # or the turn would miss the last answers
                report = await self._jobs.turn(spec, on_progress)
            except asyncio.CancelledError:
                ended.cancel()
                raise
            except Exception as error:
                if not ended.done():
                    ended.set_exception(error)
                raise
            if not ended.done():
                ended.set_result(report)
            return to_report_message(report)

        start_time = to_timestamp(spec.create_time_us)
        metadata = pb.RunLoopMetadata(collection=spec.collection, start_time=start_time)
        return OperationPlan(metadata, turn), ended
