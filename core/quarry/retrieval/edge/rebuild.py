"""One graph build: a process that copies and builds, then catching up with what was written meanwhile."""

import os
import subprocess
import sys
from collections.abc import Iterator, Set
from enum import Enum, auto
from pathlib import Path

from quarry.errors import UnavailableError
from quarry.retrieval.edge.segment_optimizer import COPIED, COPY, STARTED
from quarry.retrieval.edge.shard import Shard
from quarry.retrieval.edge.store_settings import StoreSettings
from quarry.types import Docno


class BuildStage(Enum):
    """The stage of a build. While COPYING nothing may be written to the source."""

    STARTING = auto()
    COPYING = auto()
    BUILDING = auto()
    CATCHING_UP = auto()
    READY = auto()


class Rebuild:
    """Builds ``target`` from ``source``, which stays in use.

    Args:
        live: the shard in use; it is flushed before it is copied.
        source: its folder.
        target: folder that the new one gets.
        settings: of the store.
        erase: leave nothing of what was deleted before.
    """

    def __init__(
        self, live: Shard, source: Path, target: Path, settings: StoreSettings, erase: bool = False
    ) -> None:
        self.target = target
        self.stage = BuildStage.STARTING
        self._live = live
        self.shard: Shard | None = None
        self._settings = settings
        self._touched: set[Docno] = set()
        self._steps: Iterator[int] = iter(())
        arguments = [str(source), str(target), str(settings.graph.niceness), str(os.getpid())]
        arguments.append(str(settings.dimension if erase else 0))
        module = "quarry.retrieval.edge.segment_optimizer"
        self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
            [sys.executable, "-P", "-m", module, *arguments], stdout=subprocess.PIPE, stdin=subprocess.PIPE
        )

    def fileno(self) -> int:
        """Returns a file number that is readable when ``advance`` has something to do."""
        if self._process.stdout is None:
            raise ValueError("the build was started without a pipe")
        return self._process.stdout.fileno()

    @property
    def running(self) -> bool:
        return self.stage in (BuildStage.STARTING, BuildStage.COPYING, BuildStage.BUILDING)

    def touch(self, docnos: Set[Docno]) -> None:
        """Notes that documents were written after the copy."""
        self._touched |= docnos

    def advance(self) -> None:
        """Reads what the process says; once it is done, opens what it built.

        Raises:
            UnavailableError: the process died or failed.
        """
        said = os.read(self.fileno(), 4_096)
        if said == STARTED:
            self._copy()
        elif said == COPIED:
            self.stage = BuildStage.BUILDING
        elif not said:
            code = self._process.wait()
            self._close_pipes()
            if code != 0:
                raise UnavailableError(f"the build of the graph ended with status {code}")
            self.shard = Shard.load(self.target, self._settings)
            self.stage = BuildStage.CATCHING_UP

    def catch_up(self, live: Shard, rows: int) -> None:
        """Copies about ``rows`` points of touched documents; READY when none is left.

        Whoever writes to ``live`` before the switch must ``touch`` and catch up again.
        """
        if self.shard is None:
            raise ValueError("the build has not ended")
        copied = 0
        while copied < rows:
            step = next(self._steps, None)
            if step is not None:
                copied += max(step, 1)
            elif self._touched:
                self._steps = live.copy_document(self._touched.pop(), self.shard, rows)
            else:
                self.stage = BuildStage.READY
                return

    def abandon(self) -> None:
        """Ends the process and closes the new shard."""
        self._process.kill()
        self._process.wait()
        self._close_pipes()
        if self.shard is not None:
            self.shard.close()

    def _copy(self) -> None:
        self._live.flush()
        self._touched.clear()  # the copy has it all
        self.stage = BuildStage.COPYING
        if self._process.stdin is not None:
            self._process.stdin.write(COPY)
            self._process.stdin.flush()

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
