"""Long-running operations, followed to their end."""

from collections.abc import Callable
from typing import Any, TypeVar

from google.longrunning import operations_pb2
from google.protobuf import duration_pb2
from google.protobuf.message import Message

from quarry.client.errors import ProtocolError, read_status

WAIT_S = 1
"""How long the server keeps one call open while the operation runs."""

Watch = Callable[[operations_pb2.Operation], object]
"""Gets an operation at first, about every second while it runs, and at last when it has ended."""
Result = TypeVar("Result", bound=Message)


def follow(stub: Any, operation: operations_pb2.Operation, watch: Watch) -> operations_pb2.Operation:
    """Returns the operation as it is when it has ended."""
    watch(operation)
    while not operation.done:
        operation = stub.WaitOperation(wait_request(operation))
        watch(operation)
    return operation


async def follow_async(
    stub: Any, operation: operations_pb2.Operation, watch: Watch
) -> operations_pb2.Operation:
    """Does the same as ``follow``, for asyncio."""
    watch(operation)
    while not operation.done:
        operation = await stub.WaitOperation(wait_request(operation))
        watch(operation)
    return operation


def ignore(operation: operations_pb2.Operation) -> None:
    """Watches nothing."""


def read_result(operation: operations_pb2.Operation, result_type: type[Result]) -> Result:
    """Returns the response of an operation that has ended.

    Raises:
        QuarryCallError: the operation failed, or someone cancelled it.
        ProtocolError: its response is of another type.
    """
    if operation.HasField("error"):
        raise read_status(operation.error)
    result = result_type()
    if not operation.response.Unpack(result):
        raise ProtocolError(f"{operation.name} gave {operation.response.type_url!r}")
    return result


def wait_request(operation: operations_pb2.Operation) -> operations_pb2.WaitOperationRequest:
    """Returns what asks the server for the operation, and lets it wait a second for its end."""
    return operations_pb2.WaitOperationRequest(
        name=operation.name, timeout=duration_pb2.Duration(seconds=WAIT_S)
    )
