"""A server in this process, on a loop and a thread of its own, and calls to it from the tests' thread."""

import asyncio
import contextlib
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.longrunning import operations_pb2_grpc
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc
from grpc_status import rpc_status

from quarry.config import MAX_MESSAGE_BYTES, Settings
from quarry.v1 import (
    collection_service_pb2,
    collection_service_pb2_grpc,
    document_service_pb2,
    document_service_pb2_grpc,
    feedback_service_pb2_grpc,
    search_service_pb2,
    search_service_pb2_grpc,
    server_service_pb2_grpc,
    types_pb2,
)
from quarry_server.app import run_server
from quarry_server.common.errors import REASONS

CALL_S = 60.0
"""Deadline of a call where nothing is said: no test should come near it."""

OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
]

Value = str | int | float | bool | Timestamp | list[Any]


class Api:
    """Stubs of every service, on one channel."""

    def __init__(self, channel: grpc.Channel, address: str) -> None:
        self.channel, self.address = channel, address
        self.collections = collection_service_pb2_grpc.CollectionServiceStub(channel)
        self.documents = document_service_pb2_grpc.DocumentServiceStub(channel)
        self.searches = search_service_pb2_grpc.SearchServiceStub(channel)
        self.feedback = feedback_service_pb2_grpc.FeedbackServiceStub(channel)
        self.server = server_service_pb2_grpc.ServerServiceStub(channel)
        self.operations: Any = operations_pb2_grpc.OperationsStub(channel)
        self.health = health_pb2_grpc.HealthStub(channel)
        self.reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)

    def create(self, name: str, **settings: Any) -> collection_service_pb2.Collection:
        request = collection_service_pb2.CreateCollectionRequest(
            collection=collection_service_pb2.Collection(name=name, **settings)
        )
        return self.collections.CreateCollection(request, timeout=CALL_S).collection

    def upsert(self, collection: str, documents: Mapping[str, Mapping[str, Value]], **settings: Any) -> Any:
        """Stores documents given as fields by id, and waits until searches find them."""
        request = document_service_pb2.BatchUpsertDocumentsRequest(
            collection=collection,
            documents=[document(id, **fields) for id, fields in documents.items()],
            wait=document_service_pb2.WRITE_VISIBILITY_SEARCHABLE,
            **settings,
        )
        answer = self.documents.BatchUpsertDocuments(request, timeout=CALL_S)
        assert not any(s.status.code for s in answer.statuses), answer.statuses
        assert answer.result.reached == document_service_pb2.WRITE_VISIBILITY_SEARCHABLE
        return answer

    def delete(self, collection: str, *ids: str) -> Any:
        request = document_service_pb2.BatchDeleteDocumentsRequest(
            collection=collection, ids=ids, wait=document_service_pb2.WRITE_VISIBILITY_SEARCHABLE
        )
        return self.documents.BatchDeleteDocuments(request, timeout=CALL_S)

    def search(self, collection: str, query: str = "", **settings: Any) -> search_service_pb2.SearchResponse:
        request = search_service_pb2.SearchRequest(collection=collection, query=query, **settings)
        return self.searches.Search(request, timeout=CALL_S)


@contextlib.contextmanager
def served(settings: Settings) -> Iterator[Api]:
    """A server with these settings, ready, and a client of it; both end with the context."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="server")
    thread.start()
    context = run_server(settings)
    try:
        server = asyncio.run_coroutine_threadsafe(context.__aenter__(), loop).result(CALL_S)
        try:
            with grpc.insecure_channel(server.address, OPTIONS) as channel:
                yield Api(channel, server.address)
        finally:
            asyncio.run_coroutine_threadsafe(context.__aexit__(None, None, None), loop).result(CALL_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@dataclass(frozen=True)
class Failure:
    """What a failed call said.

    Attributes:
        field: path of the field that was wrong; empty unless the code is INVALID_ARGUMENT.
    """

    code: grpc.StatusCode
    message: str
    reason: str
    field: str


def failure(error: grpc.RpcError) -> Failure:
    """``error``, once it is seen to be typed as every error of the API must be."""
    status = rpc_status.from_call(error)
    code = error.code()
    assert status is not None, f"{code}: {error.details()} came without details"
    assert status.code == code.value[0]
    return checked_status(status, code)


def checked_status(status: status_pb2.Status, code: grpc.StatusCode) -> Failure:
    """``status``, once it is seen to hold one ErrorInfo and what else belongs to its code."""
    kinds = [detail.TypeName() for detail in status.details]
    assert kinds.count("google.rpc.ErrorInfo") == 1, kinds
    info = error_details_pb2.ErrorInfo()
    assert status.details[kinds.index("google.rpc.ErrorInfo")].Unpack(info)
    assert info.domain == "quarry"
    assert info.reason in REASONS
    field = ""
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        request = error_details_pb2.BadRequest()
        assert status.details[kinds.index("google.rpc.BadRequest")].Unpack(request)
        (violation,) = request.field_violations
        assert violation.description
        field = violation.field
    return Failure(code, status.message, info.reason, field)


def refused(call: Any, request: Any, **settings: Any) -> Failure:
    """What ``call`` says of a request that it must not accept."""
    try:
        answer = call(request, timeout=CALL_S, **settings)
    except grpc.RpcError as error:
        return failure(error)
    raise AssertionError(f"answered {answer!r}")


def document(id: str, **fields: Value) -> types_pb2.Document:
    return types_pb2.Document(id=id, fields={name: field_value(value) for name, value in fields.items()})


def field_value(value: Value) -> types_pb2.FieldValue:
    match value:
        case list():
            values = [field_value(item) for item in value]
            return types_pb2.FieldValue(list_value=types_pb2.FieldValueList(values=values))
        case bool():
            return types_pb2.FieldValue(boolean_value=value)
        case int():
            return types_pb2.FieldValue(integer_value=value)
        case float():
            return types_pb2.FieldValue(float_value=value)
        case Timestamp():
            return types_pb2.FieldValue(timestamp_value=value)
    return types_pb2.FieldValue(string_value=value)


def tiny_settings(data: Path, encoder: Path, **changes: Any) -> Settings:
    """Settings of a server on a port that the kernel picks, which never looks for a model elsewhere."""
    models = {"encoder": str(encoder), "device": "cpu"} | changes.pop("models", {})
    models.setdefault("folders", (tempfile.gettempdir(),))  # where tests make models
    values: dict[str, Any] = {
        "data": data,
        "port": 0,
        "drain_notice_s": 0,
        "drain_s": 0.1,
        "models": models,
    }
    return Settings.model_validate(values | changes)
