"""The store inside its process: the shard in use, its position, and when its graph is built."""

import logging
import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quarry.errors import RetrieverUnavailableError
from quarry.filters import Filter
from quarry.retrieval.edge.folder import StoreFolder, remove_folder
from quarry.retrieval.edge.rebuild import BuildStage, Rebuild
from quarry.retrieval.edge.shard import Shard
from quarry.retrieval.edge.store_settings import EdgeStatus, StoreSettings
from quarry.retrieval.points import PackedParts, StoredPoint
from quarry.storage.faults import reach
from quarry.types import Candidate, Docno, Position

logger = logging.getLogger(__name__)

CATCH_UP_ROWS = 256
RETRY_BUILD_S = 300.0
SYSTEM_REFUSALS = (
    *("WouldBlock", "Permission denied", "No space left", "Too many open files", "Read-only file system"),
    *("Cannot allocate memory", "temporarily unavailable"),
)
"""Signs in the engine's messages that a shard may be sound although it does not open."""


class ShardStore:
    """Opens the store's folder, or starts an empty one.

    Args:
        settings: of the store.

    Raises:
        DataLossError: the folder is of another generation, or its position cannot be read.
        RetrieverUnavailableError: another process still holds the shard, or the engine cannot open it.
    """

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self._folder = StoreFolder(settings.folder, settings.generation)
        self._folder.lock(settings.lock_wait_s)
        self._applied = self._folder.read_position().sequence
        self._shard = self._open()
        self._folder.remove_leftovers()
        self.rebuild: Rebuild | None = None
        self._retry_build_at = 0.0

    def _open(self) -> Shard:
        current = self._folder.find_current_shard()
        if current is not None and (shard := self._load(current)) is not None:
            return shard
        # the position must go first: a crash in between may not leave it before an empty shard
        self._folder.reset_position()
        self._applied = 0
        path = self._folder.locate_new_shard()
        shard = Shard.create(path, self._settings)
        self._folder.switch_to(path)
        return shard

    def _load(self, path: Path) -> Shard | None:
        """Loads the shard; None, and its folder set aside, if it is damaged: the log then fills a new one."""
        try:
            return Shard.load(path, self._settings)
        except BaseException as error:  # the engine raises plain Exceptions, and panics
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            if any(sign in str(error) for sign in SYSTEM_REFUSALS):
                raise RetrieverUnavailableError("dense", f"cannot open {path}: {error}") from error
            logger.error("the shard %s is damaged, set aside and made anew: %s", path.name, error)
            self._folder.set_aside(path)
            return None

    # the calls of the server

    def apply(self, packed: PackedParts) -> None:
        parts = packed.unpack()
        if self.rebuild is not None:
            self.rebuild.touch({part.docno for part in parts})
        self._shard.apply(parts)
        reach("dense-applied")

    def note_applied(self, sequence: int) -> None:
        """Notes that all changes up to ``sequence`` were applied; the next flush makes it the position."""
        self._applied = sequence

    def flush(self) -> Position:
        self._shard.flush()
        reach("dense-flushed")
        position = self._folder.write_position(self._applied)
        reach("dense-positioned")
        return position

    def read_position(self) -> Position:
        return self._folder.read_position()

    def find_nearest(self, vector: NDArray[np.float32], depth: int, filter: Filter | None) -> list[Candidate]:
        return self._shard.find_nearest(vector, depth, filter)

    def compute_similarities(
        self, vector: NDArray[np.float32], docnos: Collection[Docno]
    ) -> dict[Docno, Candidate]:
        return self._shard.compute_similarities(vector, docnos)

    def read_versions(self, start: int, limit: int) -> tuple[list[tuple[Docno, int]], int | None]:
        return self._shard.read_versions(start, limit)

    def read_vectors(
        self, docnos: Sequence[Docno], start: int, limit: int
    ) -> tuple[list[StoredPoint], int | None]:
        return self._shard.read_vectors(docnos, start, limit)

    def count(self) -> int:
        return self._shard.count()

    def read_status(self) -> EdgeStatus:
        points, indexed = self._shard.count_sizes()
        return EdgeStatus(points, indexed, self._shard.pending, self.rebuild is not None)

    def close(self) -> None:
        if self.rebuild is not None:
            self.rebuild.abandon()
        self.flush()
        self._shard.close()
        self._folder.unlock()

    # building the graph

    @property
    def holds_writes(self) -> bool:
        """Whether the shard is being copied, so that nothing may be written to it."""
        return self.rebuild is not None and self.rebuild.stage is BuildStage.COPYING

    @property
    def has_work(self) -> bool:
        """Whether ``advance_build`` has something to do now."""
        return self.rebuild is not None and not self.rebuild.running

    def needs_rebuild(self) -> bool:
        graph = self._settings.graph
        if self.rebuild is not None or self._shard.pending < graph.min_pending:
            return False
        points, _ = self._shard.count_sizes()
        return (
            self._shard.pending >= points * graph.min_pending_share
            and time.monotonic() > self._retry_build_at
        )

    def start_rebuild(self, erase: bool = False) -> Rebuild:
        """Begins a build, after which nothing is left of what was deleted before, if it is to ``erase``.

        One may not be running already.
        """
        current = self._folder.find_current_shard()
        if current is None:
            raise RetrieverUnavailableError("dense", "its shard folder has been removed")
        self.rebuild = Rebuild(self._shard, current, self._folder.locate_new_shard(), self._settings, erase)
        return self.rebuild

    def advance_build(self) -> bool:
        """Advances a build that has ended by one short step; True when the new shard is in use."""
        if self.rebuild is None or self.rebuild.shard is None:
            return False
        self.rebuild.catch_up(self._shard, CATCH_UP_ROWS)
        if self.rebuild.stage is not BuildStage.READY:
            return False
        self._switch(self.rebuild.shard, self.rebuild.target)
        return True

    def _switch(self, shard: Shard, path: Path) -> None:
        shard.flush()
        left = self._folder.find_current_shard()
        reach("build-flushed")
        self._folder.switch_to(path)
        reach("build-switched")
        old, self._shard, self.rebuild = self._shard, shard, None  # from here on nothing can undo it
        old.close()
        if left is not None:
            threading.Thread(target=remove_folder, args=(left,), daemon=True).start()

    def give_up_rebuild(self, cause: str) -> None:
        """Drops a failed build; the shard in use is as good as before."""
        logger.error("the graph could not be built, next try in %g s: %s", RETRY_BUILD_S, cause)
        if self.rebuild is not None:
            self.rebuild.abandon()
            remove_folder(self.rebuild.target)
        self.rebuild = None
        self._retry_build_at = time.monotonic() + RETRY_BUILD_S
