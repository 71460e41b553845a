"""Calls of MiningService: an operation followed to its end, and its files fetched."""

from pathlib import Path

from google.longrunning import operations_pb2

from quarry.client import Client
from quarry.v1 import mining_service_pb2 as pb
from quarry_cli.calls.operations import wait_until_done
from quarry_cli.failures import name_file


def run_mining(quarry: Client, request: pb.MineHardNegativesRequest) -> pb.MiningSet:
    """Runs the mining that the request asks for, under a progress bar. Interrupted, the operation is
    cancelled.

    Raises CliError if the operation fails.
    """
    operation = quarry.mining.MineHardNegatives(request)
    made = pb.MiningSet()
    wait_until_done(quarry, operation, "mining", _describe_progress).response.Unpack(made)
    return made


def _describe_progress(operation: operations_pb2.Operation) -> tuple[float, str]:
    metadata = pb.MineHardNegativesMetadata()
    operation.metadata.Unpack(metadata)
    return metadata.progress, metadata.stage


def write_examples(quarry: Client, name: str, path: Path) -> None:
    """Writes the set's Parquet file; what was at ``path`` stays until it is there whole."""
    with name_file(path):
        quarry.read_examples(name, path)


def write_page(quarry: Client, name: str, path: Path) -> None:
    """Writes the set's report as one HTML page."""
    request = pb.GetMiningSetRequest(name=name, include_html=True)
    html = quarry.mining.GetMiningSet(request).html
    with name_file(path):
        path.write_text(html, encoding="utf-8")
