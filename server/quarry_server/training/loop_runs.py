"""Turns of the loop as operations, and their reports."""

import asyncio

from google.longrunning import operations_pb2

from quarry.collections.library import Library
from quarry.config import LoopSettings
from quarry.documents.catalog import Collection, list_collections, now_us
from quarry.errors import NotFoundError, OutOfRangeError, QuarryError
from quarry.jobs.operations import Operation, Operations, SetMetadata, new_name
from quarry.training.loop_jobs import LoopJobs
from quarry.training.loop_reports import no_report
from quarry.training.loop_spec import LoopReport, LoopSpec
from quarry.v1 import training_service_pb2 as pb
from quarry_server.collections.documents import parse_request_id
from quarry_server.common.once import StartedOnce
from quarry_server.common.operations import operation_message, packed
from quarry_server.common.page_tokens import LOOP_REPORTS
from quarry_server.common.paging import DEFAULT_LIST_PAGE, MAX_LIST_PAGE, fitting, parse_page_size
from quarry_server.common.values import timestamp_message
from quarry_server.feedback.jobs import LOOP
from quarry_server.mining.requests import checked, parse_judged, unique_name
from quarry_server.training.loop_messages import report_message
from quarry_server.wiring import Feedback


class LoopRuns:
    """What TrainingService does with the loop.

    Args:
        address: where turns reach this server.
    """

    def __init__(
        self,
        library: Library,
        operations: Operations,
        jobs: LoopJobs,
        feedback: Feedback,
        settings: LoopSettings,
        address: str,
    ) -> None:
        self._library, self._operations, self._jobs = library, operations, jobs
        self._feedback, self._settings, self._address = feedback, settings, address
        self._once = StartedOnce(library.database, operations)

    async def tidy(self) -> None:
        """At the start: what was under way has failed, what is of deleted collections goes; sees to later."""
        await asyncio.to_thread(self._jobs.reports.fail_unfinished)
        await self._remove_of_deleted()
        self._library.when_deleted(self._remove_of_deleted)

    async def run(self, request: pb.RunLoopRequest) -> operations_pb2.Operation:
        """Raises InvalidArgumentError, CollectionNotFoundError, or FailedPreconditionError if this server
        cannot mine or train."""
        collection = await self._collection(request.collection)
        request_id = parse_request_id(request.request_id, LOOP, request)
        spec = await asyncio.to_thread(self._spec, request, collection)
        self._jobs.check_installed()
        name = new_name(LOOP)

        async def start() -> Operation:
            operation, _ = await self._start(spec, name)
            return operation

        return operation_message(await self._once.start(collection, request_id, name, start))

    async def turn(self, name: str) -> LoopReport:
        """A turn of a collection as the server's policy says, to its end, as an operation that all can see.

        Raises QuarryError: how it failed.
        """
        collection = await self._collection(name)
        request = pb.RunLoopRequest(collection=name)
        spec = await asyncio.to_thread(self._spec, request, collection)
        self._jobs.check_installed()
        operation, ended = await self._start(spec, new_name(LOOP))
        try:
            return await asyncio.shield(ended)
        except asyncio.CancelledError:
            if ended.cancelled():
                raise QuarryError(f"{operation.name} was cancelled") from None
            await self._operations.cancel(operation.name)
            raise

    async def get(self, request: pb.GetLoopReportRequest) -> pb.GetLoopReportResponse:
        await self._remove_of_deleted()
        if not request.name:
            raise no_report(request.name)
        report = await asyncio.to_thread(self._jobs.reports.get, request.name)
        html = await asyncio.to_thread(self._jobs.reports.page, request.name) if request.include_html else ""
        return pb.GetLoopReportResponse(report=report_message(report), html=html)

    async def listed(self, request: pb.ListLoopReportsRequest) -> pb.ListLoopReportsResponse:
        size = parse_page_size(request.page_size, DEFAULT_LIST_PAGE, MAX_LIST_PAGE)
        below = LOOP_REPORTS.parse(request)
        if request.collection:
            await self._collection(request.collection)
        await self._remove_of_deleted()
        found = await asyncio.to_thread(self._jobs.reports.all, request.collection)
        places = {(report.start_us, report.name): report for report in found}
        later = sorted((place for place in places if below is None or place < below), reverse=True)
        page = fitting(report_message(places[place], whole=False) for place in later[:size])
        more = len(later) > len(page)
        token = LOOP_REPORTS.encode(later[len(page) - 1], request) if more else ""
        return pb.ListLoopReportsResponse(reports=page, next_page_token=token)

    async def collections(self) -> list[str]:
        """Names of those there are."""
        found = await asyncio.to_thread(self._library.database.read, list_collections)
        return [collection.settings.name for collection in found]

    async def turned_us(self, name: str) -> int:
        """Until when feedback of a collection has had its turn; 0 if none has."""
        try:
            key = (await self._library.current(name)).key
        except NotFoundError:
            return 0
        return (await asyncio.to_thread(self._jobs.reports.place, key)).until_us

    def _spec(self, request: pb.RunLoopRequest, collection: Collection) -> LoopSpec:
        if request.HasField("min_new_choices") and request.min_new_choices < 1:
            raise OutOfRangeError("min_new_choices", f"is {request.min_new_choices}, not 1 or more")
        if request.max_tokens and request.max_tokens < 16:
            raise OutOfRangeError("max_tokens", f"is {request.max_tokens}, not 16 or more")
        least = self._settings.min_new_choices
        now = now_us()
        values = {
            "name": unique_name(request.collection, now),
            "collection": request.collection,
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
        return checked(LoopSpec, values)

    async def _start(self, spec: LoopSpec, name: str) -> tuple[Operation, "asyncio.Future[LoopReport]"]:
        """The operation, and what comes of it."""
        metadata = pb.RunLoopMetadata(
            collection=spec.collection, start_time=timestamp_message(spec.create_time_us)
        )
        ended: asyncio.Future[LoopReport] = asyncio.get_running_loop().create_future()
        ended.add_done_callback(lambda future: future.cancelled() or future.exception())  # maybe nobody waits

        async def turn(report: SetMetadata) -> bytes:
            async def on_progress(stage: str, progress: float) -> None:
                metadata.stage, metadata.progress = stage, progress
                await report(packed(metadata))

            try:
                await self._feedback.impressions.flush()  # or the turn would miss the last answers
                made = await self._jobs.turn(spec, on_progress)
            except asyncio.CancelledError:
                ended.cancel()
                raise
            except Exception as error:
                if not ended.done():
                    ended.set_exception(error)
                raise
            await on_progress("done", 1.0)
            if not ended.done():
                ended.set_result(made)
            return packed(report_message(made))

        return await self._operations.start(LOOP, packed(metadata), turn, name), ended

    async def _collection(self, name: str) -> Collection:
        """The collection's row. Raises as ``Library.use``."""
        with self._library.use(name):
            pass
        return await self._library.current(name)

    async def _remove_of_deleted(self, _deleted: Collection | None = None) -> None:
        """Removes the reports of collections that have been deleted."""
        await self._jobs.remove_of_deleted(self._library.deleted_keys)
