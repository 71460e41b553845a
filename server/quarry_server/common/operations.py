"""google.longrunning.Operations: the standard way to follow what takes long."""

from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import any_pb2, empty_pb2
from google.protobuf.message import Message
from google.rpc import status_pb2

from quarry.errors import InvalidArgumentError, QuarryError, UnknownValueError
from quarry.jobs.operations import Operation, Operations
from quarry_server.common.context import Context, deadline_of
from quarry_server.common.errors import status_of
from quarry_server.common.page_tokens import OPERATIONS
from quarry_server.common.paging import DEFAULT_LIST_PAGE, MAX_LIST_PAGE, parse_page_size

PREFIX = "operations/"


class OperationsServicer(operations_pb2_grpc.OperationsServicer):  # type: ignore[misc]  # untyped base
    def __init__(self, operations: Operations, default_deadline_s: float) -> None:
        self._operations, self._default_deadline_s = operations, default_deadline_s

    async def GetOperation(
        self, request: operations_pb2.GetOperationRequest, context: Context
    ) -> operations_pb2.Operation:
        return operation_message(await self._operations.get(parse_name(request.name)))

    async def ListOperations(
        self, request: operations_pb2.ListOperationsRequest, context: Context
    ) -> operations_pb2.ListOperationsResponse:
        if request.filter:
            raise InvalidArgumentError("filter", "is not supported")
        if request.name not in ("", "operations"):
            raise UnknownValueError("name", "is not operations")
        size = parse_page_size(request.page_size, DEFAULT_LIST_PAGE, MAX_LIST_PAGE)
        (after,) = OPERATIONS.parse(request) or ("",)
        found = await self._operations.page(after, size + 1)
        more = len(found) > size
        return operations_pb2.ListOperationsResponse(
            operations=[operation_message(operation) for operation in found[:size]],
            next_page_token=OPERATIONS.encode((found[size - 1].name,), request) if more else "",
        )

    async def WaitOperation(
        self, request: operations_pb2.WaitOperationRequest, context: Context
    ) -> operations_pb2.Operation:
        deadline = deadline_of(context, self._default_deadline_s)
        if request.HasField("timeout"):
            deadline = deadline.at_most(request.timeout.seconds + request.timeout.nanos / 1e9)
        timeout = deadline.timeout_s
        wait = None if timeout is None else 0.9 * timeout  # so that the answer still arrives
        return operation_message(await self._operations.wait(parse_name(request.name), wait))

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
    """The operation's own name. Raises InvalidArgumentError unless it starts with ``operations/``."""
    if not name.startswith(PREFIX):
        raise InvalidArgumentError("name", f"{name[:80]!r} does not start with {PREFIX}")
    return name.removeprefix(PREFIX)


def packed(message: Message) -> bytes:
    """``message`` as the bytes that an operation keeps: an Any, so that its type is known."""
    wrapped = any_pb2.Any()
    wrapped.Pack(message)
    return wrapped.SerializeToString()


def describe_error(error: QuarryError) -> bytes:
    return bytes(status_of(error).SerializeToString())


def operation_message(operation: Operation) -> operations_pb2.Operation:
    message = operations_pb2.Operation(name=PREFIX + operation.name, done=operation.done)
    message.metadata.CopyFrom(any_pb2.Any.FromString(operation.metadata))
    if operation.response is not None:
        message.response.CopyFrom(any_pb2.Any.FromString(operation.response))
    if operation.error is not None:
        message.error.CopyFrom(status_pb2.Status.FromString(operation.error))
    return message
