"""google.longrunning.Operations: the standard way to follow what takes long."""

from collections.abc import Awaitable, Callable

from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import any_pb2, empty_pb2
from google.protobuf.message import Message
from google.rpc import status_pb2

from quarry.errors import InvalidArgumentError, QuarryError, UnknownValueError
from quarry.jobs.operations import Job, Operation, Operations, SetMetadata
from quarry_server.common.context import Context, resolve_deadline
from quarry_server.common.errors import make_status
from quarry_server.common.page_tokens import OPERATIONS
from quarry_server.common.paging import ListPage

PREFIX = "operations/"

Tell = Callable[[], Awaitable[None]]
"""Writes the operation's metadata as they are now."""


class OperationsServicer(operations_pb2_grpc.OperationsServicer):  # type: ignore[misc]  # untyped base
    def __init__(self, operations: Operations, default_deadline_s: float) -> None:
        self._operations, self._default_deadline_s = operations, default_deadline_s

    async def GetOperation(
        self, request: operations_pb2.GetOperationRequest, context: Context
    ) -> operations_pb2.Operation:
        return to_operation_message(await self._operations.get(parse_name(request.name)))

    async def ListOperations(
        self, request: operations_pb2.ListOperationsRequest, context: Context
    ) -> operations_pb2.ListOperationsResponse:
        if request.filter:
            raise InvalidArgumentError("filter", "is not supported")
        if request.name not in ("", "operations"):
            raise UnknownValueError("name", "is not operations")
        page = ListPage(OPERATIONS, request)
        (after,) = page.after or ("",)
        found = await self._operations.read_page(after, page.size + 1)
        messages, token = page.fill(found, lambda operation: (operation.name,), to_operation_message)
        return operations_pb2.ListOperationsResponse(operations=messages, next_page_token=token)

    async def WaitOperation(
        self, request: operations_pb2.WaitOperationRequest, context: Context
    ) -> operations_pb2.Operation:
        deadline = resolve_deadline(context, self._default_deadline_s)
        if request.HasField("timeout"):
            deadline = deadline.limit_to(request.timeout.seconds + request.timeout.nanos / 1e9)
        timeout = deadline.timeout_s
        wait = None if timeout is None else 0.9 * timeout  # so that the answer still arrives
        return to_operation_message(await self._operations.wait(parse_name(request.name), wait))

    async def CancelOperation(
        self, request: operations_pb2.CancelOperationRequest, context: Context
    ) -> empty_pb2.Empty:
        await self._operations.cancel(parse_name(request.name))
        return empty_pb2.Empty()

    async def DeleteOperation(
        self, request: operations_pb2.DeleteOperationRequest, context: Context
    ) -> empty_pb2.Empty:
        await self._operations.forget(parse_name(request.name))
        return empty_pb2.Empty()


def parse_name(name: str) -> str:
    """Parses an operation's own name. Raises InvalidArgumentError unless it starts with ``operations/``."""
    if not name.startswith(PREFIX):
        raise InvalidArgumentError("name", f"{name[:80]!r} does not start with {PREFIX}")
    return name.removeprefix(PREFIX)


def pack_any(message: Message) -> bytes:
    """Packs ``message`` as the bytes that an operation keeps: an Any, so that its type is known."""
    wrapped = any_pb2.Any()
    wrapped.Pack(message)
    return wrapped.SerializeToString()


def make_job(metadata: Message, work: Callable[[Tell], Awaitable[Message]]) -> Job:
    """Makes a job of ``work``, which sets fields of ``metadata``, tells of them, and returns the response."""

    async def run_job(set_metadata: SetMetadata) -> bytes:
        async def tell() -> None:
            await set_metadata(pack_any(metadata))

        return pack_any(await work(tell))

    return run_job


async def start_operation(
    operations: Operations, kind: str, metadata: Message, work: Callable[[Tell], Awaitable[Message]]
) -> operations_pb2.Operation:
    """Starts ``work`` as an operation whose name begins with ``kind``."""
    return to_operation_message(await operations.start(kind, pack_any(metadata), make_job(metadata, work)))


def describe_error(error: QuarryError) -> bytes:
    return bytes(make_status(error).SerializeToString())


def to_operation_message(operation: Operation) -> operations_pb2.Operation:
    message = operations_pb2.Operation(name=PREFIX + operation.name, done=operation.done)
    message.metadata.CopyFrom(any_pb2.Any.FromString(operation.metadata))
    if operation.response is not None:
        message.response.CopyFrom(any_pb2.Any.FromString(operation.response))
    if operation.error is not None:
        message.error.CopyFrom(status_pb2.Status.FromString(operation.error))
    return message
