"""FeedbackService."""

import asyncio
from collections.abc import AsyncIterator

from google.longrunning import operations_pb2
from google.protobuf import timestamp_pb2

from quarry.collections.library import Library
from quarry.config import Settings
from quarry.documents.catalog import now_us
from quarry.errors import InvalidArgumentError, RequiredError
from quarry.feedback.purge import PurgeMade, nothing_made
from quarry.feedback.reading.stats import Statistics, statistics
from quarry.feedback.types import EventMark
from quarry.jobs.operations import Operations
from quarry.v1 import feedback_service_pb2 as pb
from quarry.v1 import feedback_service_pb2_grpc
from quarry_server.common.context import Context, deadline_of
from quarry_server.common.operations import Tell, start_operation
from quarry_server.common.values import timestamp_message
from quarry_server.feedback.events import TYPES, record
from quarry_server.feedback.jobs import (
    FOLDER,
    parse_selection,
    run_import,
    run_purge,
    spool,
)
from quarry_server.wiring import Feedback

_TYPE_VALUES = {kind: value for value, kind in TYPES.items()}
_MARKS = {
    EventMark.COUNTED: pb.EVENT_MARK_UNSPECIFIED,
    EventMark.ORPHAN: pb.EVENT_MARK_ORPHAN,
    EventMark.NOT_SHOWN: pb.EVENT_MARK_NOT_SHOWN,
    EventMark.CAPPED: pb.EVENT_MARK_CAPPED,
    EventMark.BURST: pb.EVENT_MARK_BURST,
    EventMark.BOT: pb.EVENT_MARK_BOT,
}


class FeedbackServicer(feedback_service_pb2_grpc.FeedbackServiceServicer):
    def __init__(
        self,
        library: Library,
        operations: Operations,
        feedback: Feedback,
        settings: Settings,
        purge_made: PurgeMade = nothing_made,
    ) -> None:
        self._library, self._operations, self._feedback = library, operations, feedback
        self._folder, self._most_bytes = settings.data / FOLDER, settings.uploads.events_bytes
        self._default_deadline_s = settings.search.default_deadline_s
        self._purge_made = purge_made

    async def RecordEvents(
        self, request: pb.RecordEventsRequest, context: Context
    ) -> pb.RecordEventsResponse:
        with self._library.use(request.collection) as collection:
            key = collection.collection.key
            statuses = await record(self._feedback.log, self._feedback.signer, key, request.events)
        return pb.RecordEventsResponse(statuses=statuses)

    async def StreamEvents(
        self, request_iterator: AsyncIterator[pb.StreamEventsRequest], context: Context
    ) -> AsyncIterator[pb.StreamEventsResponse]:
        config: pb.StreamEventsConfig | None = None
        async for request in request_iterator:
            kind = request.WhichOneof("message")
            if (kind == "config") != (config is None):
                raise InvalidArgumentError("message", "the stream opens with config, and only once")
            if kind == "config":
                config = request.config
                with self._library.use(config.collection):
                    continue
            if config is None or kind is None:
                raise RequiredError("message", "holds neither config nor batch")
            with self._library.use(config.collection) as collection:
                key = collection.collection.key
                try:
                    statuses = await record(
                        self._feedback.log, self._feedback.signer, key, request.batch.events
                    )
                except InvalidArgumentError as error:
                    raise error.under("batch") from None
            yield pb.StreamEventsResponse(statuses=statuses)

    async def ImportEvents(
        self, request_iterator: AsyncIterator[pb.ImportEventsRequest], context: Context
    ) -> operations_pb2.Operation:
        config, file = await spool(request_iterator, self._library, self._folder, self._most_bytes)
        metadata = pb.ImportEventsMetadata(collection=config.collection, start_time=_now())

        async def work(tell: Tell) -> pb.ImportEventsResponse:
            return await run_import(self._feedback, self._library, config, file, metadata, tell)

        return await start_operation(self._operations, "import-feedback", metadata, work)

    async def PurgeFeedback(
        self, request: pb.PurgeFeedbackRequest, context: Context
    ) -> operations_pb2.Operation:
        with self._library.use(request.collection) as collection:
            selection = parse_selection(request, collection.collection.key)
        metadata = pb.PurgeFeedbackMetadata(collection=request.collection, start_time=_now())

        async def work(tell: Tell) -> pb.PurgeFeedbackResponse:
            documents = self._library.database
            return await run_purge(self._feedback, selection, self._purge_made, documents, metadata, tell)

        return await start_operation(self._operations, "purge-feedback", metadata, work)

    async def GetFeedbackStats(
        self, request: pb.GetFeedbackStatsRequest, context: Context
    ) -> pb.GetFeedbackStatsResponse:
        deadline = deadline_of(context, self._default_deadline_s)
        feedback = self._feedback
        with self._library.use(request.collection) as collection:
            key = collection.collection.key
            async with asyncio.timeout(deadline.timeout_s):
                await feedback.impressions.flush()
                found = await asyncio.to_thread(statistics, feedback.log.engine, key, feedback.guards)
        return stats_message(found, feedback.impressions.dropped(key))


def _now() -> timestamp_pb2.Timestamp:
    return timestamp_message(now_us())


def stats_message(found: Statistics, dropped: int) -> pb.GetFeedbackStatsResponse:
    last = max((n for n, count in enumerate(found.displayed, start=1) if count), default=0)
    response = pb.GetFeedbackStatsResponse(
        impressions=found.impressions,
        simulated_impressions=found.simulated_impressions,
        dropped_impressions=dropped,
        events=[
            pb.EventCount(type=_TYPE_VALUES[kind], mark=_MARKS[mark], count=count)
            for (kind, mark), count in found.events.items()
        ],
        texts=found.texts,
        ranks=[
            pb.RankCount(rank=n + 1, displayed=found.displayed[n], clicked=found.clicked[n])
            for n in range(last)
        ],
        queries=found.queries,
        users=found.users,
        sessions=found.sessions,
    )
    if found.first_us is not None and found.last_us is not None:
        response.first_time.CopyFrom(timestamp_message(found.first_us))
        response.last_time.CopyFrom(timestamp_message(found.last_us))
    return response
