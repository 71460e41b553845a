"""Around every call: bad requests and errors become typed statuses, and nothing returns UNKNOWN."""

import asyncio
import inspect
import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import grpc
import sqlalchemy.exc
from google.protobuf.message import DecodeError, Message

from quarry.documents.writer import to_typed_error
from quarry.errors import (
    DeadlineExceeded,
    DiskFullError,
    LimitExceededError,
    MalformedError,
    OutOfRangeError,
    QuarryError,
)
from quarry.storage.disk import is_disk_full
from quarry_server.common.errors import choose_status_code, make_status
from quarry_server.transport.required import check_required

logger = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable["grpc.RpcMethodHandler[Any, Any] | None"]]
_DETAILS = "grpc-status-details-bin"
DISK_FULL = "a disk of the server is full"


class TypedErrors(grpc.aio.ServerInterceptor):
    """Decodes requests itself, since gRPC answers INTERNAL or UNKNOWN to bytes that do not parse."""

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return None
        kind = (handler.request_streaming, handler.response_streaming)
        factory, wrap = _WRAPPERS[kind]
        behaviour = {
            (False, False): handler.unary_unary,
            (False, True): handler.unary_stream,
            (True, False): handler.stream_unary,
            (True, True): handler.stream_stream,
        }[kind]
        if handler.response_streaming and not inspect.isasyncgenfunction(behaviour):
            wrap = _WRAPPERS[handler.request_streaming, False][1]  # it writes to the context by itself
        decode = handler.request_deserializer or (lambda data: data)
        return factory(
            wrap(behaviour, decode),
            request_deserializer=None,
            response_serializer=handler.response_serializer,
        )


def _decode_message(decode: Callable[[bytes], Message], data: bytes) -> Message:
    try:
        message = decode(data)
    except (DecodeError, ValueError) as error:
        raise MalformedError("", f"the request's bytes are not a message of this method: {error}") from None
    if isinstance(message, Message):  # a method without a decoder takes the bytes
        check_required(message)
    return message


async def _decode_stream(
    decode: Callable[[bytes], Message], requests: AsyncIterator[bytes]
) -> AsyncIterator[Message]:
    async for data in requests:
        yield _decode_message(decode, data)


def _to_unary(behaviour: Any, decode: Any) -> Any:
    async def call(data: bytes, context: Context) -> Any:
        try:
            return await behaviour(_decode_message(decode, data), context)
        except Exception as error:  # noqa: BLE001  every error becomes a typed status
            await _abort(context, error)

    return call


def _to_stream(behaviour: Any, decode: Any) -> Any:
    async def call(data: bytes, context: Context) -> Any:
        try:
            async for response in behaviour(_decode_message(decode, data), context):
                yield response
        except Exception as error:  # noqa: BLE001  every error becomes a typed status
            await _abort(context, error)

    return call


def _from_stream_to_unary(behaviour: Any, decode: Any) -> Any:
    async def call(requests: AsyncIterator[bytes], context: Context) -> Any:
        try:
            return await behaviour(_decode_stream(decode, requests), context)
        except Exception as error:  # noqa: BLE001  every error becomes a typed status
            await _abort(context, error)

    return call


def _from_stream_to_stream(behaviour: Any, decode: Any) -> Any:
    async def call(requests: AsyncIterator[bytes], context: Context) -> Any:
        try:
            async for response in behaviour(_decode_stream(decode, requests), context):
                yield response
        except Exception as error:  # noqa: BLE001  every error becomes a typed status
            await _abort(context, error)

    return call


_WRAPPERS: dict[tuple[bool, bool], tuple[Any, Any]] = {
    (False, False): (grpc.unary_unary_rpc_method_handler, _to_unary),
    (False, True): (grpc.unary_stream_rpc_method_handler, _to_stream),
    (True, False): (grpc.stream_unary_rpc_method_handler, _from_stream_to_unary),
    (True, True): (grpc.stream_stream_rpc_method_handler, _from_stream_to_stream),
}


async def _abort(context: Context, error: Exception) -> NoReturn:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    typed_error = _as_quarry_error(error)
    status = make_status(typed_error)
    details = ((_DETAILS, status.SerializeToString()),)
    await context.abort(choose_status_code(typed_error), status.message, trailing_metadata=details)
    raise AssertionError("abort returned")


def _as_quarry_error(error: Exception) -> QuarryError:
    match error:
        case QuarryError():
            return error
        case TimeoutError() | asyncio.TimeoutError():
            return DeadlineExceeded("the deadline came before the work was done")
        case sqlalchemy.exc.SQLAlchemyError() | sqlite3.Error():
            logger.error("the document log failed", exc_info=error)
            return to_typed_error(error)
        case RecursionError():
            return OutOfRangeError("", "what was sent is nested too deeply")
        case MemoryError():
            logger.error("a call needed more memory than there is", exc_info=error)
            return LimitExceededError("the call needed more memory than the server has")
    if is_disk_full(error):
        logger.error("a disk is full", exc_info=error)
        return DiskFullError(DISK_FULL)
    logger.error("a bug: an error without a type reached the client", exc_info=error)
    return QuarryError(f"internal error: {type(error).__name__}")
