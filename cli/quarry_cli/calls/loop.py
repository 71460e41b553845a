"""Calls of TrainingService about the loop: a turn followed to its end, and its page fetched."""

from pathlib import Path

from quarry.client import Client
from quarry.v1 import training_service_pb2 as pb
from quarry_cli.calls.operations import make_describer, run_operation
from quarry_cli.failures import write_text


def run_turn(quarry: Client, request: pb.RunLoopRequest) -> pb.LoopReport:
    """Runs the loop as the request asks, under a progress bar, and returns the report. Interrupted, it is
    cancelled.

    Raises CliError if the turn fails.
    """
    operation = quarry.training.RunLoop(request)
    return run_operation(quarry, operation, "the loop", make_describer(pb.RunLoopMetadata()), pb.LoopReport())


def write_page(quarry: Client, name: str, path: Path) -> None:
    """Writes a turn's report as one HTML page."""
    request = pb.GetLoopReportRequest(name=name, include_html=True)
    write_text(path, quarry.training.GetLoopReport(request).html)
