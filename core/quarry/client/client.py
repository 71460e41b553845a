"""The synchronous client."""

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Self

from google.longrunning import operations_pb2, operations_pb2_grpc

from quarry.client.channel import DEFAULT_ADDRESS, DEFAULT_TIMEOUT_S, CheckedChannel, Options
from quarry.client.events import BATCH_EVENTS, EventBatch, EventStream, EventSummary, pack_events
from quarry.client.events import Response as EventResponse
from quarry.client.operations import Result, Watch, follow, ignore, read_result
from quarry.client.paging import Page, Request, read_pages
from quarry.client.streams import ACKNOWLEDGEMENT_S
from quarry.client.tls import Tls
from quarry.client.transfers import (
    make_requests,
    read_pieces,
    replace_file,
    wrap_archive,
    wrap_examples,
    wrap_log,
)
from quarry.client.upserts import (
    BATCH_BYTES,
    AnyBatch,
    Response,
    UpsertStream,
    UpsertSummary,
    pack_documents,
)
from quarry.v1 import (
    document_service_pb2,
    feedback_service_pb2,
    mining_service_pb2,
    model_service_pb2,
    types_pb2,
)
from quarry.v1.collection_service_pb2_grpc import CollectionServiceStub
from quarry.v1.document_service_pb2_grpc import DocumentServiceStub
from quarry.v1.feedback_service_pb2_grpc import FeedbackServiceStub
from quarry.v1.mining_service_pb2_grpc import MiningServiceStub
from quarry.v1.model_service_pb2_grpc import ModelServiceStub
from quarry.v1.search_service_pb2_grpc import SearchServiceStub
from quarry.v1.server_service_pb2_grpc import ServerServiceStub
from quarry.v1.training_service_pb2_grpc import TrainingServiceStub


class Client:
    """A connection to one server: a stub of each service, and calls that take more than one request.

    The first call connects. Every call has a deadline; those that are safe to repeat are made again while
    the server is unavailable. Use it in a ``with`` block, or close it. Threads may share it.

    Args:
        address: ``HOST:PORT`` of the server, or ``unix:PATH`` of its socket.
        timeout_s: deadline of a call that names none; ``timeout=math.inf`` in a call means none.
        options: further options of gRPC's channel.
        tls: the certificates, if the server speaks TLS; None for plaintext.

    Attributes:
        collections, documents, search, feedback, mining, models, training, server, operations: stubs. Their
            methods raise QuarryCallError, and ClientClosedError after ``close``.
        channel: for stubs of other services, such as health.

    Raises:
        ValueError: gRPC cannot use the address, or a file of ``tls`` cannot be used.

    Example:
        >>> with Client("127.0.0.1:50051", timeout_s=5) as quarry:
        ...     answer = quarry.search.Search(SearchRequest(collection="faq", query="reset my password"))
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
        self.channel = CheckedChannel(address, timeout_s, options, tls)
        self.collections = CollectionServiceStub(self.channel)
        self.documents = DocumentServiceStub(self.channel)
        self.search = SearchServiceStub(self.channel)
        self.feedback = FeedbackServiceStub(self.channel)
        self.mining = MiningServiceStub(self.channel)
        self.models = ModelServiceStub(self.channel)
        self.training = TrainingServiceStub(self.channel)
        self.server = ServerServiceStub(self.channel)
        self.operations = operations_pb2_grpc.OperationsStub(self.channel)

    def close(self) -> None:
        """Ends all calls and the connection. Closing again does nothing."""
        self.channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def pages(self, call: Callable[[Request], Page], request: Request) -> Iterator[Page]:
        """Yields every page of a list or a search: ``quarry.pages(quarry.models.ListModels, request)``."""
        self.channel.check_open()
        return read_pages(call, request)

    def upsert(
        self,
        collection: str,
        documents: Iterable[types_pb2.Document],
        *,
        wait: document_service_pb2.WriteVisibility.ValueType = (
            document_service_pb2.WRITE_VISIBILITY_UNSPECIFIED
        ),
        batch_bytes: int = BATCH_BYTES,
        timeout_s: float = ACKNOWLEDGEMENT_S,
    ) -> UpsertSummary:
        """Writes any number of documents in one stream, without holding them all in memory.

        A stream that breaks is opened again, and nothing is written twice.

        Args:
            wait: how far each batch must have come before it is acknowledged; on disk by default.
            batch_bytes: of one message at most, up to 64 MiB; a larger document has a message of its own.
            timeout_s: longest wait for the acknowledgement of one batch.

        Raises:
            DocumentsRefusedError: some documents were not written; its summary says which. All others were.
            QuarryCallError: the server refused the stream, or stayed unavailable.
            StreamStalledError: it acknowledged nothing in time.
        """
        summary = UpsertSummary()
        batches = pack_documents(documents, batch_bytes)
        for _, response in self.upsert_batches(collection, batches, wait=wait, timeout_s=timeout_s):
            summary.add(response)
        return summary.raise_if_refused()

    def upsert_batches(
        self,
        collection: str,
        batches: Iterable[AnyBatch],
        *,
        wait: document_service_pb2.WriteVisibility.ValueType = (
            document_service_pb2.WRITE_VISIBILITY_UNSPECIFIED
        ),
        timeout_s: float = ACKNOWLEDGEMENT_S,
    ) -> Iterator[tuple[AnyBatch, Response]]:
        """Yields each batch with its acknowledgement; it writes as far as the caller iterates."""
        self.channel.check_open()
        stream: UpsertStream[AnyBatch] = UpsertStream(self.documents, collection, wait, timeout_s)
        return stream.write(batches)

    def record_events(
        self,
        collection: str,
        events: Iterable[feedback_service_pb2.Event],
        *,
        batch_events: int = BATCH_EVENTS,
        timeout_s: float = ACKNOWLEDGEMENT_S,
    ) -> EventSummary:
        """Records any number of events in one stream, each under its ``event_id``.

        A stream that breaks is opened again, and nothing is lost or recorded twice.

        Args:
            batch_events: of one message, 1 to 1,000. From a slow source take few: a batch is sent when it is
                full.
            timeout_s: longest wait for the acknowledgement of one batch.

        Raises:
            OutOfRangeError: ``batch_events`` is not at least 1.
            EventsRefusedError: some events were not recorded; its summary says which. All others were.
            QuarryCallError: the server refused the stream, or stayed unavailable.
            StreamStalledError: it acknowledged nothing in time.
        """
        summary = EventSummary()
        batches = pack_events(events, batch_events)
        for _, response in self.record_event_batches(collection, batches, timeout_s=timeout_s):
            summary.add(response)
        return summary.raise_if_refused()

    def record_event_batches(
        self, collection: str, batches: Iterable[EventBatch], *, timeout_s: float = ACKNOWLEDGEMENT_S
    ) -> Iterator[tuple[EventBatch, EventResponse]]:
        """Yields each batch with its acknowledgement; it records as far as the caller iterates."""
        self.channel.check_open()
        return EventStream(self.feedback, collection, timeout_s).write(batches)

    def follow(self, operation: operations_pb2.Operation, watch: Watch = ignore) -> operations_pb2.Operation:
        """Returns a long-running operation when it has ended, well or not, however long that takes."""
        return follow(self.operations, operation, watch)

    def wait(
        self, operation: operations_pb2.Operation, result_type: type[Result], watch: Watch = ignore
    ) -> Result:
        """Returns the response of a long-running operation when it has ended, however long that takes.

        Raises:
            QuarryCallError: the operation failed or was cancelled, or the server cannot be asked.
        """
        return read_result(self.follow(operation, watch), result_type)

    def cancel(self, operation: operations_pb2.Operation) -> None:
        """Asks the server to end the operation."""
        self.operations.CancelOperation(operations_pb2.CancelOperationRequest(name=operation.name))

    def upload_examples(self, path: Path | str, timeout: float = math.inf) -> str:
        """Sends a Parquet file of examples. Returns the name that ``TrainRerankerRequest.examples`` takes."""
        requests = make_requests(read_pieces(Path(path)), wrap_examples)
        return self.training.UploadExamples(requests, timeout=timeout).examples

    def import_model(
        self,
        options: model_service_pb2.ImportOptions,
        archive: Path | str | None = None,
        timeout: float = math.inf,
    ) -> model_service_pb2.Model:
        """Registers a version: of an ``archive`` (tar) here, or of what ``options.source`` names there."""
        pieces = () if archive is None else read_pieces(Path(archive))
        first = model_service_pb2.ImportModelRequest(options=options)
        return self.models.ImportModel(make_requests(pieces, wrap_archive, first), timeout=timeout).model

    def import_events(
        self,
        config: feedback_service_pb2.ImportEventsConfig,
        pieces: Iterable[bytes],
        timeout: float = math.inf,
    ) -> operations_pb2.Operation:
        """Sends a log of impressions and events, uncompressed. Returns the operation that reads it."""
        first = feedback_service_pb2.ImportEventsRequest(config=config)
        requests = make_requests(pieces, wrap_log, first)
        operation: operations_pb2.Operation = self.feedback.ImportEvents(requests, timeout=timeout)
        return operation

    def export_model(self, name: str, path: Path | str, timeout: float = math.inf) -> int:
        """Writes a version's archive; what was at ``path`` stays until it is whole. Returns its bytes."""
        request = model_service_pb2.ExportModelRequest(name=name)
        answers = self.models.ExportModel(request, timeout=timeout)
        return _write(path, (answer.archive for answer in answers))

    def read_examples(self, name: str, path: Path | str, timeout: float = math.inf) -> int:
        """Writes a mining set's Parquet file to ``path``, as ``export_model`` does. Returns its bytes."""
        request = mining_service_pb2.ReadExamplesRequest(name=name)
        answers = self.mining.ReadExamples(request, timeout=timeout)
        return _write(path, (answer.parquet for answer in answers))


def _write(path: Path | str, pieces: Iterable[Any]) -> int:
    with replace_file(Path(path)) as file:
        return sum(file.write(piece) for piece in pieces)
