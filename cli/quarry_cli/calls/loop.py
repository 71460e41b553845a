"""Calls of TrainingService about the loop: a turn followed to its end, and its page fetched."""

from pathlib import Path

from google.longrunning import operations_pb2

from quarry.client import Client
from quarry.v1 import training_service_pb2 as pb
from quarry_cli.calls.operations import wait_until_done
from quarry_cli.failures import name_file


def run_turn(quarry: Client, request: pb.RunLoopRequest) -> pb.LoopReport:
    """Runs the loop as the request asks, under a progress bar, and returns the report. Interrupted, it is
    cancelled.

    Raises CliError if the turn fails.
    """
    operation = quarry.training.RunLoop(request)
    made = pb.LoopReport()
    wait_until_done(quarry, operation, "the loop", _describe_progress).response.Unpack(made)
    return made


def write_page(quarry: Client, name: str, path: Path) -> None:
    """Writes a turn's report as one HTML page."""
    request = pb.GetLoopReportRequest(name=name, include_html=True)
    html = quarry.training.GetLoopReport(request).html
    with name_file(path):
        path.write_text(html, encoding="utf-8")


def _describe_progress(operation: operations_pb2.Operation) -> tuple[float, str]:
    metadata = pb.RunLoopMetadata()
    operation.metadata.Unpack(metadata)
    return metadata.progress, metadata.stage
