"""Calls of MiningService: an operation followed to its end, and its files fetched."""

import contextlib
from pathlib import Path

import grpc
from google.longrunning import operations_pb2
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2
from rich.progress import TaskProgressColumn, TextColumn

from quarry.v1 import mining_service_pb2 as pb
from quarry.v1.mining_service_pb2_grpc import MiningServiceStub
from quarry_cli.connection import Connection
from quarry_cli.console import note, progress
from quarry_cli.failures import HINTS, CliError

WAIT_S = 1
STAGE = "{task.fields[stage]}"


def mined(quarry: Connection, request: pb.MineHardNegativesRequest) -> pb.MiningSet:
    """The set that the request asks for, under a progress bar. Interrupted, the operation is cancelled.

    Raises CliError if the operation fails.
    """
    stub = MiningServiceStub(quarry.channel)
    operation = stub.MineHardNegatives(request, timeout=quarry.timeout_s)
    try:
        operation = _finished(quarry, operation)
    except KeyboardInterrupt:
        with contextlib.suppress(grpc.RpcError):
            cancel = operations_pb2.CancelOperationRequest(name=operation.name)
            quarry.operations.CancelOperation(cancel, timeout=quarry.timeout_s)
            note("the mining job is cancelled; the same command goes on where it was")
        raise
    if operation.HasField("error"):
        raise _failure(operation)
    made = pb.MiningSet()
    operation.response.Unpack(made)
    return made


def _finished(quarry: Connection, operation: operations_pb2.Operation) -> operations_pb2.Operation:
    metadata = pb.MineHardNegativesMetadata()
    with progress(TaskProgressColumn(), TextColumn(STAGE)) as bar:
        task = bar.add_task("mining", total=1.0, stage="")
        while not operation.done:
            wait = operations_pb2.WaitOperationRequest(
                name=operation.name, timeout=duration_pb2.Duration(seconds=WAIT_S)
            )
            operation = quarry.operations.WaitOperation(wait, timeout=quarry.timeout_s)
            operation.metadata.Unpack(metadata)
            bar.update(task, completed=metadata.progress, stage=metadata.stage)
    return operation


def _failure(operation: operations_pb2.Operation) -> CliError:
    info = error_details_pb2.ErrorInfo()
    for detail in operation.error.details:
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
    return CliError(f"mining failed: {operation.error.message}", HINTS.get(info.reason, ""))


def write_examples(quarry: Connection, name: str, path: Path) -> None:
    """The set's Parquet file; what was at ``path`` stays until it is there whole."""
    stub = MiningServiceStub(quarry.channel)
    partial = path.with_name(f".{path.name}.part")
    try:
        with partial.open("wb") as file:
            for piece in stub.ReadExamples(pb.ReadExamplesRequest(name=name), timeout=quarry.timeout_s):
                file.write(piece.parquet)
        partial.replace(path)
    except OSError as error:
        raise CliError(f"{path}: {error.strerror or error}") from None
    finally:
        partial.unlink(missing_ok=True)


def write_page(quarry: Connection, name: str, path: Path) -> None:
    """The set's report as one HTML page."""
    stub = MiningServiceStub(quarry.channel)
    request = pb.GetMiningSetRequest(name=name, include_html=True)
    html = stub.GetMiningSet(request, timeout=quarry.timeout_s).html
    try:
        path.write_text(html, encoding="utf-8")
    except OSError as error:
        raise CliError(f"{path}: {error.strerror or error}") from None
