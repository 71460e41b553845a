"""FeedbackService."""

import asyncio
from collections.abc import AsyncIterator

from google.longrunning import operations_pb2
from google.protobuf import timestamp_pb2

from quarry.collections.collections import Collections
from quarry.config import Settings
from quarry.documents.catalog import read_now_us
from quarry.errors import InvalidArgumentError
from quarry.feedback.purge import PurgeMade, forget_nothing
from quarry.feedback.reading.stats import Statistics, read_statistics
from quarry.feedback.types import EventMark
from quarry.jobs.operations import Operations
from quarry.v1 import feedback_service_pb2 as pb
from quarry.v1 import feedback_service_pb2_grpc
from quarry_server.common.context import Context, resolve_deadline
from quarry_server.common.operations import Tell, start_operation
from quarry_server.common.streams import read_batches
from quarry_server.common.values import to_timestamp
from quarry_server.feedback.events import TYPES, record
from quarry_server.feedback.jobs import (
    FOLDER,
    parse_selection,
    run_import,
    run_purge,
    write_spool,
)
from quarry_server.wiring import OpenFeedback

_TYPE_VALUES = {kind: value for value, kind in TYPES.items()}
_MARKS = {
    EventMark.COUNTED: pb.EVENT_MARK_UNSPECIFIED,
    EventMark.ORPHAN: pb.EVENT_MARK_ORPHAN,
    EventMark.NOT_SHOWN: pb.EVENT_MARK_NOT_SHOWN,
    EventMark.CAPPED: pb.EVENT_MARK_CAPPED,
    EventMark.BURST: pb.EVENT_MARK_BURST,
    EventMark.BOT: pb.EVENT_MARK_BOT,
    EventMark.TRIAL: pb.EVENT_MARK_TRIAL,
}


class FeedbackServicer(feedback_service_pb2_grpc.FeedbackServiceServicer):
    def __init__(
        self,
        open_collections: Collections,
        operations: Operations,
        feedback: OpenFeedback,
        settings: Settings,
        purge_made: PurgeMade = forget_nothing,
    ) -> None:
        self._open_collections, self._operations, self._feedback = open_collections, operations, feedback
        self._folder, self._most_bytes = settings.data / FOLDER, settings.uploads.events_bytes
        self._default_deadline_s = settings.search.default_deadline_s
        self._purge_made = purge_made

    async def RecordEvents(
        self, request: pb.RecordEventsRequest, context: Context
    ) -> pb.RecordEventsResponse:
        with self._open_collections.use(request.collection):
            keys = self._open_collections.find_keys(request.collection)
            statuses = await record(self._feedback.log, self._feedback.signer, keys, request.events)
        return pb.RecordEventsResponse(statuses=statuses)

    async def StreamEvents(
        self, request_iterator: AsyncIterator[pb.StreamEventsRequest], context: Context
    ) -> AsyncIterator[pb.StreamEventsResponse]:
        def open_stream(config: pb.StreamEventsConfig) -> str:
            with self._open_collections.use(config.collection):
                return config.collection

        async for name, batch in read_batches(request_iterator, open_stream):
            with self._open_collections.use(name):
                keys = self._open_collections.find_keys(name)
                try:
                    statuses = await record(self._feedback.log, self._feedback.signer, keys, batch.events)
                except InvalidArgumentError as error:
                    raise error.move_under("batch") from None
            yield pb.StreamEventsResponse(statuses=statuses)

    async def ImportEvents(
        self, request_iterator: AsyncIterator[pb.ImportEventsRequest], context: Context
    ) -> operations_pb2.Operation:
        config, file = await write_spool(
            request_iterator, self._open_collections, self._folder, self._most_bytes
        )
        metadata = pb.ImportEventsMetadata(collection=config.collection, start_time=_make_now())

        async def work(tell: Tell) -> pb.ImportEventsResponse:
            return await run_import(self._feedback, self._open_collections, config, file, metadata, tell)

        return await start_operation(self._operations, "import-feedback", metadata, work)

    async def PurgeFeedback(
        self, request: pb.PurgeFeedbackRequest, context: Context
    ) -> operations_pb2.Operation:
        with self._open_collections.use(request.collection) as collection:
            name, selection = collection.row.settings.name, parse_selection(request, collection.row.key)
        metadata = pb.PurgeFeedbackMetadata(collection=name, start_time=_make_now())

        async def work(tell: Tell) -> pb.PurgeFeedbackResponse:
            documents = self._open_collections.database
            return await run_purge(self._feedback, selection, self._purge_made, documents, metadata, tell)

        return await start_operation(self._operations, "purge-feedback", metadata, work)

    async def GetFeedbackStats(
        self, request: pb.GetFeedbackStatsRequest, context: Context
    ) -> pb.GetFeedbackStatsResponse:
        deadline = resolve_deadline(context, self._default_deadline_s)
        feedback = self._feedback
        with self._open_collections.use(request.collection) as collection:
            key = collection.row.key
            async with asyncio.timeout(deadline.timeout_s):
                await feedback.impressions.flush()
                found = await asyncio.to_thread(read_statistics, feedback.log.engine, key, feedback.guards)
        return to_stats_message(found, feedback.impressions.count_dropped(key))


def _make_now() -> timestamp_pb2.Timestamp:
    return to_timestamp(read_now_us())


def to_stats_message(found: Statistics, dropped: int) -> pb.GetFeedbackStatsResponse:
    last = max((n for n, count in enumerate(found.displayed, start=1) if count), default=0)
    response = pb.GetFeedbackStatsResponse(
        impressions=found.impressions,
        simulated_impressions=found.simulated_impressions,
        trial_impressions=found.trial_impressions,
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
        response.first_time.CopyFrom(to_timestamp(found.first_us))
        response.last_time.CopyFrom(to_timestamp(found.last_us))
    return response
