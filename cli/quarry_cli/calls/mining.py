"""Calls of MiningService: an operation followed to its end, and its files fetched."""

from pathlib import Path

from google.longrunning import operations_pb2

from quarry.v1 import mining_service_pb2 as pb
from quarry.v1.mining_service_pb2_grpc import MiningServiceStub
from quarry_cli.calls.operations import finished
from quarry_cli.connection import Connection
from quarry_cli.failures import CliError


def mined(quarry: Connection, request: pb.MineHardNegativesRequest) -> pb.MiningSet:
    """The set that the request asks for, under a progress bar. Interrupted, the operation is cancelled.

    Raises CliError if the operation fails.
    """
    operation = MiningServiceStub(quarry.channel).MineHardNegatives(request, timeout=quarry.timeout_s)
    made = pb.MiningSet()
    finished(quarry, operation, "mining", _said).response.Unpack(made)
    return made


def _said(operation: operations_pb2.Operation) -> tuple[float, str]:
    metadata = pb.MineHardNegativesMetadata()
    operation.metadata.Unpack(metadata)
    return metadata.progress, metadata.stage


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
