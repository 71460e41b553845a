"""Waits until searches find what was written."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.progress import Progress, TaskID

from quarry.client import Client
from quarry.v1 import collection_service_pb2
from quarry_cli.connection import read_collection
from quarry_cli.console import count_things, make_progress
from quarry_cli.failures import CliError

POLL_S = 0.2
WAITING = "becoming searchable"


@dataclass(slots=True)
class Writes:
    """The writes of one command, by their sequence numbers, in order: others may have written in between."""

    ranges: list[range] = field(default_factory=list)

    def add(self, count: int, last: int) -> None:
        """Adds ``count`` writes that were made at once, up to the sequence number ``last``."""
        if not count:
            return
        first = last - count + 1
        if self.ranges and self.ranges[-1].stop == first:
            first = self.ranges.pop().start
        self.ranges.append(range(first, last + 1))

    @property
    def last(self) -> int:
        """The sequence number of the last one; 0 if there is none."""
        return max((some.stop - 1 for some in self.ranges), default=0)

    def count_after(self, sequence: int) -> int:
        return sum(max(0, some.stop - max(some.start, sequence + 1)) for some in self.ranges)

    def __contains__(self, sequence: int) -> bool:
        return any(sequence in some for some in self.ranges)

    def __len__(self) -> int:
        return sum(map(len, self.ranges))


@dataclass(frozen=True, slots=True)
class IndexProgress:
    """Says how far the arms are.

    Attributes:
        reached: searches find all up to this sequence number, except what is being encoded.
        encoding: passages of each large document, by its sequence number: how many are encoded, and how many
            there are (0 while that is not known).
    """

    reached: int
    encoding: dict[int, tuple[int, int]]


def wait_searchable(quarry: Client, name: str, writes: Writes) -> None:
    """Returns when every arm answers with all ``writes``. Large documents of others are not waited for.

    Batches are sent to be logged and this waits for all of them at once: a wait for each batch would
    keep the arms from working on large pieces.

    Raises:
        CliError: an arm has stopped, or none has moved for the time of one call.
    """
    before, moved = None, time.monotonic()
    with make_progress() as bar:
        task = bar.add_task(WAITING, total=len(writes))
        for now in _poll(quarry, name):
            large = [passages for sequence, passages in now.encoding.items() if sequence in writes]
            missing = writes.count_after(now.reached)
            if not missing and not large:
                return
            if now != before:
                before, moved = now, time.monotonic()
            elif time.monotonic() - moved > quarry.timeout_s:
                still = f"no arm has moved for {quarry.timeout_s:g} s"
                raise CliError(
                    f"all is logged, but {still}{_list_problems(quarry, name)}",
                    "searches will find it later; --timeout SECONDS waits longer",
                )
            _show(bar, task, len(writes) - missing - len(large), large)


def _poll(quarry: Client, name: str) -> Iterator[IndexProgress]:
    """Yields how far the arms are, again and again."""
    while True:
        yield _read_progress(read_collection(quarry, name).status)
        time.sleep(POLL_S)


def _read_progress(status: collection_service_pb2.CollectionStatus) -> IndexProgress:
    """Reads what all arms have reached: a server before ``reached_sequence`` leaves that 0."""
    reached = (max(arm.reached_sequence, arm.applied_sequence) for arm in status.arms)
    encoding = {
        one.sequence: (one.passages_done, one.passages_total) for arm in status.arms for one in arm.encoding
    }
    return IndexProgress(min(reached, default=status.last_sequence), encoding)


def _list_problems(quarry: Client, name: str) -> str:
    """Lists what the arms say is wrong.

    A failure that they get over by themselves is not worth stopping for.
    """
    status = read_collection(quarry, name).status
    return "".join(f"; the {arm.arm} arm: {arm.error}" for arm in status.arms if arm.error)


def _show(bar: Progress, task: TaskID, done: int, large: list[tuple[int, int]]) -> None:
    bar.update(task, completed=max(0, done), description=_describe_encoding(large) if large else WAITING)


def _describe_encoding(large: list[tuple[int, int]]) -> str:
    share = min(done / total if total else 0 for done, total in large)
    return f"encoding {count_things(len(large), 'large document')} ({share:.0%})"
