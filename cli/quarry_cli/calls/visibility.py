"""Waits until searches find what was written."""

import time

from rich.progress import Progress, TaskID

from quarry.client import Client
from quarry.v1 import collection_service_pb2
from quarry_cli.connection import read_collection
from quarry_cli.console import make_progress
from quarry_cli.failures import CliError

POLL_S = 0.2


def wait_searchable(quarry: Client, name: str, sequence: int, writes: int) -> None:
    """Returns when every arm has applied ``sequence``, the last of about ``writes`` writes.

    Batches are sent to be logged and this waits for all of them at once: a wait for each batch would
    keep the arms from working on large pieces.

    Raises:
        CliError: an arm has stopped, or none has moved for the time of one call.
    """
    last_applied, moved = -1, time.monotonic()
    with make_progress() as bar:
        task = bar.add_task("becoming searchable", total=writes)
        while (applied := _read_applied(read_collection(quarry, name).status)) < sequence:
            if applied > last_applied:
                last_applied, moved = applied, time.monotonic()
            elif time.monotonic() - moved > quarry.timeout_s:
                still = f"no arm has moved for {quarry.timeout_s:g} s"
                raise CliError(
                    f"all is logged, but {still}{_list_problems(quarry, name)}",
                    "searches will find it later; --timeout SECONDS waits longer",
                )
            _show(bar, task, writes - (sequence - applied))
            time.sleep(POLL_S)


def _read_applied(status: collection_service_pb2.CollectionStatus) -> int:
    """Reads the sequence number that all arms have reached."""
    return min((arm.applied_sequence for arm in status.arms), default=status.last_sequence)


def _list_problems(quarry: Client, name: str) -> str:
    """Lists what the arms say is wrong.

    A failure that they get over by themselves is not worth stopping for.
    """
    status = read_collection(quarry, name).status
    return "".join(f"; the {arm.arm} arm: {arm.error}" for arm in status.arms if arm.error)


def _show(bar: Progress, task: TaskID, done: int) -> None:
    bar.update(task, completed=max(0, done))
