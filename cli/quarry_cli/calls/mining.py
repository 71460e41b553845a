"""Calls of MiningService: an operation followed to its end, and its files fetched."""

from pathlib import Path

from quarry.client import Client
from quarry.v1 import mining_service_pb2 as pb
from quarry_cli.calls.operations import make_describer, run_operation
from quarry_cli.failures import name_file, write_text


def run_mining(quarry: Client, request: pb.MineHardNegativesRequest) -> pb.MiningSet:
    """Runs the mining that the request asks for, under a progress bar. Interrupted, the operation is
    cancelled.

    Raises CliError if the operation fails.
    """
    operation = quarry.mining.MineHardNegatives(request)
    describe = make_describer(pb.MineHardNegativesMetadata())
    return run_operation(quarry, operation, "mining", describe, pb.MiningSet())


def write_examples(quarry: Client, name: str, path: Path) -> None:
    """Writes the set's Parquet file; what was at ``path`` stays until it is there whole."""
    with name_file(path):
        quarry.read_examples(name, path)


def write_page(quarry: Client, name: str, path: Path) -> None:
    """Writes the set's report as one HTML page."""
    request = pb.GetMiningSetRequest(name=name, include_html=True)
    write_text(path, quarry.mining.GetMiningSet(request).html)
