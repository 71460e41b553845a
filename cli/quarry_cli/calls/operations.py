"""Long-running operations, followed to their end under a progress bar."""

import contextlib
from collections.abc import Callable

import grpc
from google.longrunning import operations_pb2
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2
from rich.progress import TaskProgressColumn, TextColumn

from quarry_cli.connection import Connection
from quarry_cli.console import note, progress
from quarry_cli.failures import HINTS, CliError

WAIT_S = 1
SAID = "{task.fields[said]}"

Describe = Callable[[operations_pb2.Operation], tuple[float, str]]
"""How far the operation is, 0 to 1, and what it is doing, from its metadata."""


def finished(
    quarry: Connection, operation: operations_pb2.Operation, name: str, describe: Describe
) -> operations_pb2.Operation:
    """The operation when it has ended well. Interrupted, it is cancelled.

    Args:
        name: of what is done, such as ``mining``.

    Raises CliError if the operation fails.
    """
    try:
        operation = _followed(quarry, operation, name, describe)
    except KeyboardInterrupt:
        with contextlib.suppress(grpc.RpcError):
            cancel = operations_pb2.CancelOperationRequest(name=operation.name)
            quarry.operations.CancelOperation(cancel, timeout=quarry.timeout_s)
            note(f"the {name} job is cancelled; the same command goes on where it was")
        raise
    if operation.HasField("error"):
        raise _failure(operation, name)
    return operation


def _followed(
    quarry: Connection, operation: operations_pb2.Operation, name: str, describe: Describe
) -> operations_pb2.Operation:
    with progress(TaskProgressColumn(), TextColumn(SAID)) as bar:
        task = bar.add_task(name, total=1.0, said="")
        while not operation.done:
            wait = operations_pb2.WaitOperationRequest(
                name=operation.name, timeout=duration_pb2.Duration(seconds=WAIT_S)
            )
            operation = quarry.operations.WaitOperation(wait, timeout=quarry.timeout_s)
            completed, said = describe(operation)
            bar.update(task, completed=completed, said=said)
    return operation


def _failure(operation: operations_pb2.Operation, name: str) -> CliError:
    info = error_details_pb2.ErrorInfo()
    for detail in operation.error.details:
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
    return CliError(f"{name} failed: {operation.error.message}", HINTS.get(info.reason, ""))
