"""Long-running operations, followed to their end under a progress bar."""

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

from google.longrunning import operations_pb2
from google.protobuf.message import Message
from rich.progress import TaskProgressColumn, TextColumn

from quarry.client import Client, QuarryCallError
from quarry_cli.console import make_progress, note
from quarry_cli.failures import check_outcome

M = TypeVar("M", bound=Message)

SAID = "{task.fields[said]}"

Describe = Callable[[operations_pb2.Operation], tuple[float, str]]
"""How far the operation is, 0 to 1, and what it is doing, from its metadata."""


def run_operation(
    quarry: Client, operation: operations_pb2.Operation, name: str, describe: Describe, answer: M
) -> M:
    """Waits as ``wait_until_done``, and returns ``answer``, which holds what the operation gave."""
    wait_until_done(quarry, operation, name, describe).response.Unpack(answer)
    return answer


def make_describer(metadata: Any) -> Describe:
    """Makes what reads progress and stage out of metadata of this kind."""

    def describe(operation: operations_pb2.Operation) -> tuple[float, str]:
        operation.metadata.Unpack(metadata)
        return metadata.progress, metadata.stage

    return describe


def wait_until_done(
    quarry: Client, operation: operations_pb2.Operation, name: str, describe: Describe
) -> operations_pb2.Operation:
    """Waits until the operation has ended well. Interrupted, it is cancelled.

    Args:
        name: of what is done, such as ``mining``.

    Raises CliError if the operation fails.
    """
    try:
        operation = _follow(quarry, operation, name, describe)
    except KeyboardInterrupt:
        with contextlib.suppress(QuarryCallError):
            quarry.cancel(operation)
            note(f"the {name} job is cancelled; the same command goes on where it was")
        raise
    check_outcome(operation, f"{name} failed")
    return operation


def _follow(
    quarry: Client, operation: operations_pb2.Operation, name: str, describe: Describe
) -> operations_pb2.Operation:
    with make_progress(TaskProgressColumn(), TextColumn(SAID)) as bar:
        task = bar.add_task(name, total=1.0, said="")

        def show(operation: operations_pb2.Operation) -> None:
            completed, said = describe(operation)
            bar.update(task, completed=completed, said=said)

        return quarry.follow(operation, show)
