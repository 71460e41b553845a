"""A fake server behind a real channel, in this process."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import empty_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from quarry.v1 import (
    collection_service_pb2,
    collection_service_pb2_grpc,
    document_service_pb2,
    document_service_pb2_grpc,
    feedback_service_pb2,
    feedback_service_pb2_grpc,
    mining_service_pb2,
    mining_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
    training_service_pb2,
    training_service_pb2_grpc,
)


def failed(code: int, message: str, *details: Any) -> status_pb2.Status:
    """A status with packed ``details``."""
    status = status_pb2.Status(code=code, message=message)
    for detail in details:
        status.details.add().Pack(detail)
    return status


class FakeServer(
    collection_service_pb2_grpc.CollectionServiceServicer,
    document_service_pb2_grpc.DocumentServiceServicer,
    feedback_service_pb2_grpc.FeedbackServiceServicer,
    mining_service_pb2_grpc.MiningServiceServicer,
    model_service_pb2_grpc.ModelServiceServicer,
    training_service_pb2_grpc.TrainingServiceServicer,
    operations_pb2_grpc.OperationsServicer,
):
    """Counts the calls that reach it, and fails as a test asks.

    Attributes:
        unavailable: how many calls fail with UNAVAILABLE before one is answered.
        status: what calls fail with, if it is set.
        arrived: a batch has come.
        batches: that streams brought, in order of arrival.
        breaks_before: numbers of the batches, from 1, before whose acknowledgement the stream breaks.
        silent: acknowledges nothing.
        events: ids of events that have come.
        refused: ids of documents that are not written.
        warnings: that come with each acknowledged batch.
        peers: addresses that calls came from: one for each connection.
    """

    def __init__(self) -> None:
        self.address = ""
        self.calls: Counter[str] = Counter()
        self.unavailable = 0
        self.status: status_pb2.Status | None = None
        self.batches: list[Any] = []
        self.arrived = threading.Event()
        self.breaks_before: set[int] = set()
        self.silent = False
        self.events: set[str] = set()
        self.refused: set[str] = set()
        self.warnings: list[Any] = []
        self.configs: list[Any] = []
        self.deadlines: list[float | None] = []
        self.peers: set[str] = set()
        self.pending = 0
        self.outcome: Any = None
        self.received = b""

    def enter(self, method: str, context: grpc.ServicerContext) -> None:
        self.calls[method] += 1
        self.peers.add(context.peer())
        self.deadlines.append(context.time_remaining())
        if self.unavailable:
            self.unavailable -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "shutting down")
        if self.status is not None:
            context.abort_with_status(rpc_status.to_status(self.status))

    def GetCollection(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.enter("GetCollection", context)
        collection = collection_service_pb2.Collection(name=request.name)
        return collection_service_pb2.GetCollectionResponse(collection=collection)

    def ListCollections(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.enter("ListCollections", context)
        page = int(request.page_token or 0)
        return collection_service_pb2.ListCollectionsResponse(
            collections=[collection_service_pb2.Collection(name=f"c{page}")],
            next_page_token=str(page + 1) if page < 2 else "",
        )

    def DeleteCollection(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.enter("DeleteCollection", context)
        return collection_service_pb2.DeleteCollectionResponse()

    def BatchUpsertDocuments(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.enter("BatchUpsertDocuments", context)
        return document_service_pb2.BatchUpsertDocumentsResponse()

    def UpsertDocuments(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        self.enter("UpsertDocuments", context)
        for request in requests:
            if request.HasField("config"):
                self.configs.append(request.config)
                continue
            self.batches.append(request.batch)
            self.arrived.set()
            if len(self.batches) in self.breaks_before:
                context.abort(grpc.StatusCode.UNAVAILABLE, "shutting down")
            if self.silent:
                continue
            response = document_service_pb2.UpsertDocumentsResponse()
            for document in request.batch.documents:
                refusal = failed(code_pb2.INVALID_ARGUMENT, "year: is no number")
                status = refusal if document.id in self.refused else None
                response.statuses.add(id=document.id, status=status)
            response.result.sequence = 10 * len(self.batches)
            response.result.reached = self.configs[-1].wait
            response.warnings.extend(self.warnings)
            yield response

    def StreamEvents(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        self.enter("StreamEvents", context)
        for request in requests:
            if request.HasField("config"):
                self.configs.append(request.config)
                continue
            self.batches.append(request.batch)
            stored = {event.event_id for event in request.batch.events}
            seen, self.events = self.events & stored, self.events | stored
            if len(self.batches) in self.breaks_before:
                context.abort(grpc.StatusCode.UNAVAILABLE, "max connection age")
            response = feedback_service_pb2.StreamEventsResponse()
            for event in request.batch.events:
                refusal = failed(code_pb2.INVALID_ARGUMENT, "type: is not set")
                status = refusal if event.event_id in self.refused else None
                response.statuses.add(
                    event_id=event.event_id, status=status, duplicate=event.event_id in seen
                )
            yield response

    def WaitOperation(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.enter("WaitOperation", context)
        self.pending -= 1
        operation = operations_pb2.Operation(name=request.name, done=self.pending <= 0)
        if operation.done and isinstance(self.outcome, status_pb2.Status):
            operation.error.CopyFrom(self.outcome)
        elif operation.done:
            operation.response.Pack(self.outcome)
        return operation

    def CancelOperation(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.enter("CancelOperation", context)

        return empty_pb2.Empty()

    def UploadExamples(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
        self.enter("UploadExamples", context)
        self.received = b"".join(request.parquet for request in requests)
        return training_service_pb2.UploadExamplesResponse(examples="upload-1")

    def ImportModel(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
        self.enter("ImportModel", context)
        first = next(requests)
        self.received = b"".join(request.archive for request in requests)
        name = f"{first.options.collection}@1"
        return model_service_pb2.ImportModelResponse(model=model_service_pb2.Model(name=name))

    def ImportEvents(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
        self.received = b"".join(request.data for request in requests)
        return operations_pb2.Operation(name="operations/1")

    def ReadExamples(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        self.enter("ReadExamples", context)
        yield mining_service_pb2.ReadExamplesResponse(parquet=b"one ")
        if request.name == "broken":
            context.abort(grpc.StatusCode.DATA_LOSS, "the file is cut short")
        yield mining_service_pb2.ReadExamplesResponse(parquet=b"two")


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    grpc_server = grpc.server(ThreadPoolExecutor(4))
    for add in (
        collection_service_pb2_grpc.add_CollectionServiceServicer_to_server,
        document_service_pb2_grpc.add_DocumentServiceServicer_to_server,
        feedback_service_pb2_grpc.add_FeedbackServiceServicer_to_server,
        mining_service_pb2_grpc.add_MiningServiceServicer_to_server,
        model_service_pb2_grpc.add_ModelServiceServicer_to_server,
        training_service_pb2_grpc.add_TrainingServiceServicer_to_server,
        operations_pb2_grpc.add_OperationsServicer_to_server,
    ):
        register: Callable[..., None] = add
        register(fake, grpc_server)
    fake.address = f"127.0.0.1:{grpc_server.add_insecure_port('127.0.0.1:0')}"
    grpc_server.start()
    yield fake
    grpc_server.stop(grace=None).wait()


@pytest.fixture
def wrong_field() -> status_pb2.Status:
    """What a server says of a wrong field."""
    violation = error_details_pb2.BadRequest.FieldViolation(
        field="documents[3].fields.price", description="is no number"
    )
    return failed(
        code_pb2.INVALID_ARGUMENT,
        "documents[3].fields.price: is no number",
        error_details_pb2.ErrorInfo(reason="FIELD_TYPE", domain="quarry", metadata={"id": "d3"}),
        error_details_pb2.BadRequest(field_violations=[violation]),
    )


@pytest.fixture
def unavailable_status() -> status_pb2.Status:
    return failed(code_pb2.RESOURCE_EXHAUSTED, "full", error_details_pb2.RetryInfo())
