"""The client for asyncio."""

import asyncio
import math
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, Self

from google.longrunning import operations_pb2, operations_pb2_grpc

from quarry.client.aio_channel import CheckedAioChannel
from quarry.client.aio_streams import write_in_thread
from quarry.client.channel import DEFAULT_ADDRESS, DEFAULT_TIMEOUT_S, CheckedChannel, Options
from quarry.client.events import (
    BATCH_EVENTS,
    EventBatch,
    Events,
    EventStream,
    EventSummary,
    pack_events_async,
)
from quarry.client.events import Response as EventResponse
from quarry.client.operations import Result, Watch, follow_async, ignore, read_result
from quarry.client.paging import Page, Request, read_pages_async
from quarry.client.streams import ACKNOWLEDGEMENT_S
from quarry.client.tls import Tls
from quarry.client.transfers import (
    make_requests_async,
    read_pieces,
    replace_file,
    wrap_archive,
    wrap_examples,
    wrap_log,
)
from quarry.client.upserts import (
    BATCH_BYTES,
    AnyBatch,
    Documents,
    Response,
    UpsertStream,
    UpsertSummary,
    pack_documents_async,
)
from quarry.v1 import (
    document_service_pb2,
    feedback_service_pb2,
    mining_service_pb2,
    model_service_pb2,
)
from quarry.v1.collection_service_pb2_grpc import CollectionServiceStub
from quarry.v1.document_service_pb2_grpc import DocumentServiceStub
from quarry.v1.feedback_service_pb2_grpc import FeedbackServiceStub
from quarry.v1.mining_service_pb2_grpc import MiningServiceStub
from quarry.v1.model_service_pb2_grpc import ModelServiceStub
from quarry.v1.search_service_pb2_grpc import SearchServiceStub
from quarry.v1.server_service_pb2_grpc import ServerServiceStub
from quarry.v1.training_service_pb2_grpc import TrainingServiceStub


class AsyncClient:
    """The same as ``Client``, for asyncio. It belongs to the event loop that runs while it is made.

    Example:
        >>> async with AsyncClient("127.0.0.1:50051", timeout_s=5) as quarry:
        ...     request = SearchRequest(collection="faq", query="reset my password")
        ...     answer = await quarry.search.Search(request)
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        options: Options = (),
        tls: Tls | None = None,
    ) -> None:
        self.address, self.timeout_s = address, timeout_s
        self._options, self._tls = list(options), tls
        self._stream_channel: CheckedChannel | None = None
        self.channel = CheckedAioChannel(address, timeout_s, self._options, tls)
        self.collections = CollectionServiceStub(self.channel)
        self.documents = DocumentServiceStub(self.channel)
        self.search = SearchServiceStub(self.channel)
        self.feedback = FeedbackServiceStub(self.channel)
        self.mining = MiningServiceStub(self.channel)
        self.models = ModelServiceStub(self.channel)
        self.training = TrainingServiceStub(self.channel)
        self.server = ServerServiceStub(self.channel)
        self.operations = operations_pb2_grpc.OperationsStub(self.channel)

    async def close(self) -> None:
        """Ends all calls and the connection. Closing again does nothing."""
        await self.channel.close()
        if self._stream_channel is not None:
            self._stream_channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    def pages(self, call: Callable[[Request], Awaitable[Page]], request: Request) -> AsyncIterator[Page]:
        """Yields every page of a list or a search: ``quarry.pages(quarry.models.ListModels, request)``."""
        self.channel.check_open()
        return read_pages_async(call, request)

    async def upsert(
        self,
        collection: str,
        documents: Documents,
        *,
        wait: document_service_pb2.WriteVisibility.ValueType = (
            document_service_pb2.WRITE_VISIBILITY_UNSPECIFIED
        ),
        batch_bytes: int = BATCH_BYTES,
        timeout_s: float = ACKNOWLEDGEMENT_S,
    ) -> UpsertSummary:
        """Writes any number of documents in one stream. ``Client.upsert`` says how, and what it raises."""
        summary = UpsertSummary()
        batches = pack_documents_async(documents, batch_bytes)
        async for _, response in self.upsert_batches(collection, batches, wait=wait, timeout_s=timeout_s):
            summary.add(response)
        return summary.raise_if_refused()

    def upsert_batches(
        self,
        collection: str,
        batches: Iterable[AnyBatch] | AsyncIterable[AnyBatch],
        *,
        wait: document_service_pb2.WriteVisibility.ValueType = (
            document_service_pb2.WRITE_VISIBILITY_UNSPECIFIED
        ),
        timeout_s: float = ACKNOWLEDGEMENT_S,
    ) -> AsyncIterator[tuple[AnyBatch, Response]]:
        """Yields each batch with its acknowledgement; it writes as far as the caller iterates."""
        self.channel.check_open()
        stub = DocumentServiceStub(self._open_stream_channel())
        stream: UpsertStream[AnyBatch] = UpsertStream(stub, collection, wait, timeout_s)
        return write_in_thread(stream, batches)

    async def record_events(
        self,
        collection: str,
        events: Events,
        *,
        batch_events: int = BATCH_EVENTS,
        timeout_s: float = ACKNOWLEDGEMENT_S,
    ) -> EventSummary:
        """Records any number of events in one stream, as ``Client.record_events`` does."""
        summary = EventSummary()
        batches = pack_events_async(events, batch_events)
        async for _, response in self.record_event_batches(collection, batches, timeout_s=timeout_s):
            summary.add(response)
        return summary.raise_if_refused()

    def record_event_batches(
        self,
        collection: str,
        batches: Iterable[EventBatch] | AsyncIterable[EventBatch],
        *,
        timeout_s: float = ACKNOWLEDGEMENT_S,
    ) -> AsyncIterator[tuple[EventBatch, EventResponse]]:
        """Yields each batch with its acknowledgement; it records as far as the caller iterates."""
        self.channel.check_open()
        stub = FeedbackServiceStub(self._open_stream_channel())
        return write_in_thread(EventStream(stub, collection, timeout_s), batches)

    def _open_stream_channel(self) -> CheckedChannel:
        """Returns the synchronous channel to the same server, which the first stream opens."""
        if self._stream_channel is None:
            self._stream_channel = CheckedChannel(self.address, self.timeout_s, self._options, self._tls)
        return self._stream_channel

    async def follow(
        self, operation: operations_pb2.Operation, watch: Watch = ignore
    ) -> operations_pb2.Operation:
        """Returns a long-running operation when it has ended, well or not, however long that takes."""
        return await follow_async(self.operations, operation, watch)

    async def wait(
        self, operation: operations_pb2.Operation, result_type: type[Result], watch: Watch = ignore
    ) -> Result:
        """Returns the response of a long-running operation when it has ended, however long that takes.

        Raises:
            QuarryCallError: the operation failed or was cancelled, or the server cannot be asked.
        """
        return read_result(await self.follow(operation, watch), result_type)

    async def cancel(self, operation: operations_pb2.Operation) -> None:
        """Asks the server to end the operation."""
        await self.operations.CancelOperation(operations_pb2.CancelOperationRequest(name=operation.name))

    async def upload_examples(self, path: Path | str, timeout: float = math.inf) -> str:
        """Sends a Parquet file of examples. Returns the name that ``TrainRerankerRequest.examples`` takes."""
        requests = make_requests_async(read_pieces(Path(path)), wrap_examples)
        return (await self.training.UploadExamples(requests, timeout=timeout)).examples

    async def import_model(
        self,
        options: model_service_pb2.ImportOptions,
        archive: Path | str | None = None,
        timeout: float = math.inf,
    ) -> model_service_pb2.Model:
        """Registers a version: of an ``archive`` (tar) here, or of what ``options.source`` names there."""
        first = model_service_pb2.ImportModelRequest(options=options)
        requests: Any = [first]
        if archive is not None:
            requests = make_requests_async(read_pieces(Path(archive)), wrap_archive, first)
        return (await self.models.ImportModel(requests, timeout=timeout)).model

    async def import_events(
        self,
        config: feedback_service_pb2.ImportEventsConfig,
        pieces: Iterable[bytes] | AsyncIterable[bytes],
        timeout: float = math.inf,
    ) -> operations_pb2.Operation:
        """Sends a log of impressions and events, uncompressed. Returns the operation that reads it."""
        first = feedback_service_pb2.ImportEventsRequest(config=config)
        requests = make_requests_async(pieces, wrap_log, first)
        operation: operations_pb2.Operation = await self.feedback.ImportEvents(requests, timeout=timeout)
        return operation

    async def export_model(self, name: str, path: Path | str, timeout: float = math.inf) -> int:
        """Writes a version's archive; what was at ``path`` stays until it is whole. Returns its bytes."""
        request = model_service_pb2.ExportModelRequest(name=name)
        answers = self.models.ExportModel(request, timeout=timeout)
        return await _write(path, (answer.archive async for answer in answers))

    async def read_examples(self, name: str, path: Path | str, timeout: float = math.inf) -> int:
        """Writes a mining set's Parquet file to ``path``, as ``export_model`` does. Returns its bytes."""
        request = mining_service_pb2.ReadExamplesRequest(name=name)
        answers = self.mining.ReadExamples(request, timeout=timeout)
        return await _write(path, (answer.parquet async for answer in answers))


async def _write(path: Path | str, pieces: AsyncIterator[Any]) -> int:
    size = 0
    with replace_file(Path(path)) as file:
        async for piece in pieces:
            size += await asyncio.to_thread(file.write, piece)
    return size
