"""Errors become typed statuses over a real channel, whatever kind of method raises them."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
import sqlalchemy.exc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from quarry.errors import ConflictError, InvalidArgumentError, PageExpiredError
from quarry.v1 import document_service_pb2 as pb
from quarry.v1 import document_service_pb2_grpc
from quarry_server.transport.interceptors import TypedErrors

Servicer = document_service_pb2_grpc.DocumentServiceServicer


class Raising(Servicer):
    """Raises ``error`` from a unary and from a streaming method, after one answer of the latter."""

    error: BaseException = ConflictError("changed")

    async def GetDocument(self, request: pb.GetDocumentRequest, context: Any) -> pb.GetDocumentResponse:
        raise self.error

    async def UpsertDocuments(
        self, request_iterator: AsyncIterator[pb.UpsertDocumentsRequest], context: Any
    ) -> AsyncIterator[pb.UpsertDocumentsResponse]:
        async for _ in request_iterator:
            yield pb.UpsertDocumentsResponse()
            raise self.error

    async def DeleteDocumentsByFilter(
        self, request: pb.DeleteDocumentsByFilterRequest, context: Any
    ) -> pb.DeleteDocumentsByFilterResponse:
        await context.abort(grpc.StatusCode.NOT_FOUND, "aborted by hand")
        raise AssertionError("abort returned")


@pytest.fixture
def raising() -> Raising:
    return Raising()


@contextlib.asynccontextmanager
async def serving(servicer: Servicer) -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server(interceptors=[TypedErrors()])
    document_service_pb2_grpc.add_DocumentServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened:
        yield opened
    await server.stop(grace=None)


@pytest_asyncio.fixture
async def channel(raising: Raising) -> AsyncIterator[grpc.aio.Channel]:
    async with serving(raising) as opened:
        yield opened


REQUEST = pb.GetDocumentRequest(collection="things", id="a").SerializeToString()


async def unary(channel: grpc.aio.Channel, data: bytes = REQUEST) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary("/quarry.v1.DocumentService/GetDocument")(data, timeout=10)
    return caught.value


async def stream(channel: grpc.aio.Channel, *data: bytes) -> tuple[int, grpc.aio.AioRpcError]:
    """How many answers came before the error."""
    call = channel.stream_stream("/quarry.v1.DocumentService/UpsertDocuments")(iter(data), timeout=10)
    answers = 0
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in call:
            answers += 1
    return answers, caught.value


def info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    status = rpc_status.from_call(error)
    assert status is not None
    assert status.code == error.code().value[0]
    (found,) = [d for d in status.details if d.Is(error_details_pb2.ErrorInfo.DESCRIPTOR)]
    return error_details_pb2.ErrorInfo.FromString(found.value)


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (ConflictError("changed"), grpc.StatusCode.ABORTED, "ETAG_MISMATCH"),
        (InvalidArgumentError("a", "is wrong"), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
        (PageExpiredError(), grpc.StatusCode.FAILED_PRECONDITION, "PAGE_EXPIRED"),
        (TimeoutError(), grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
        (sqlite3.OperationalError("disk is full"), grpc.StatusCode.RESOURCE_EXHAUSTED, "DISK_FULL"),
        (
            sqlalchemy.exc.InterfaceError("x", None, Exception("x")),
            grpc.StatusCode.UNAVAILABLE,
            "UNAVAILABLE",
        ),
        (RecursionError("secret"), grpc.StatusCode.INVALID_ARGUMENT, "VALUE_OUT_OF_RANGE"),
        (MemoryError("secret"), grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED"),
        (ZeroDivisionError("secret"), grpc.StatusCode.INTERNAL, "INTERNAL"),
    ],
)
async def test_an_error_is_typed_from_any_method(
    channel: grpc.aio.Channel, raising: Raising, error: Exception, code: grpc.StatusCode, reason: str
) -> None:
    raising.error = error
    answers, streamed = await stream(channel, b"", b"")
    assert answers == 1
    for raised in (await unary(channel), streamed):
        assert (raised.code(), info(raised).reason) == (code, reason)
        assert "secret" not in str(raised.details())


async def test_bytes_that_are_no_message_are_an_invalid_argument(channel: grpc.aio.Channel) -> None:
    for data in (b"\xff", b"\x0a\x05ab", b"\x0a\x02\xff\xfe", b"\x0b" * 200):
        error = await unary(channel, data)
        assert (error.code(), info(error).reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED")
    answers, error = await stream(channel, b"\xff")
    assert (answers, error.code()) == (0, grpc.StatusCode.INVALID_ARGUMENT)


async def test_a_request_without_a_required_field_does_not_reach_the_servicer(
    channel: grpc.aio.Channel,
) -> None:
    error = await unary(channel, pb.GetDocumentRequest(id="a").SerializeToString())
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (info(error).reason, dict(info(error).metadata)) == ("REQUIRED", {"field": "collection"})
    answers, error = await stream(channel, pb.UpsertDocumentsRequest(config={}).SerializeToString())
    assert (answers, dict(info(error).metadata)) == (0, {"field": "config.collection"})


async def test_a_method_that_aborts_by_hand_is_left_alone(channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary("/quarry.v1.DocumentService/DeleteDocumentsByFilter")(
            pb.DeleteDocumentsByFilterRequest(collection="things").SerializeToString(), timeout=10
        )
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.NOT_FOUND, "aborted by hand")


class Waiting(Raising):
    def __init__(self) -> None:
        self.begun, self.cancelled = asyncio.Event(), asyncio.Event()

    async def GetDocument(self, request: pb.GetDocumentRequest, context: Any) -> pb.GetDocumentResponse:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        raise AssertionError("an event that nobody sets was set")


async def test_work_stops_when_the_caller_has_gone() -> None:
    waiting = Waiting()
    async with serving(waiting) as channel:
        call = channel.unary_unary("/quarry.v1.DocumentService/GetDocument")(REQUEST, timeout=10)
        await asyncio.wait_for(waiting.begun.wait(), 10)
        call.cancel()
        await asyncio.wait_for(waiting.cancelled.wait(), 10)
