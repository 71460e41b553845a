"""The files of one store: which shard folder is current, and the position that is durable.

position.json      generation, sequence and a CRC-32 of both, written after a flush
CURRENT            name of the shard folder in use
shard-<number>     Qdrant Edge's own files
damaged-<time>     a shard that could not be opened, for whoever wants to know why
lock               held by the process that has the store open
"""

import contextlib
import json
import logging
import os
import shutil
import time
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock, Timeout

from quarry.errors import DataLossError, RetrieverUnavailableError
from quarry.storage.sync import sync_path, write_durably
from quarry.types import Position

logger = logging.getLogger(__name__)


def sync_tree(path: Path) -> None:
    """Syncs everything below ``path``: a copied file is not on the disk yet."""
    for parent, _, files in os.walk(path):
        for name in files:
            sync_path(Path(parent, name))
        sync_path(Path(parent))


class StoreFolder:
    """Reads and writes the store's own files.

    Args:
        path: made if missing.
        generation: of the store.
    """

    def __init__(self, path: Path, generation: str) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._generation = generation
        self._lock = FileLock(path / "lock", thread_local=False)

    def lock(self, timeout_s: float) -> None:
        """Keeps other processes out; a predecessor that died gets this long to end what it was doing.

        Raises:
            RetrieverUnavailableError: another process has it.
        """
        try:
            self._lock.acquire(timeout=timeout_s)
        except Timeout:
            raise RetrieverUnavailableError(
                "dense", f"cannot open {self.path}: another process has it open"
            ) from None

    def unlock(self) -> None:
        self._lock.release()

    def read_position(self) -> Position:
        """Reads what is durable.

        Raises:
            DataLossError: the file is damaged, or is of another generation.
        """
        try:
            stored = json.loads((self.path / "position.json").read_text(encoding="utf-8"))
            position = Position(str(stored["generation"]), int(stored["sequence"]))
            if stored.get("crc", crc := _compute_checksum(position)) != crc:  # older ones have none
                raise ValueError("its checksum is wrong")
        except FileNotFoundError:
            return Position(self._generation, 0)
        except (ValueError, KeyError, TypeError) as error:
            raise DataLossError(f"the position in {self.path} cannot be read: {error}") from error
        if position.generation != self._generation:
            raise DataLossError(
                f"{self.path} holds generation {position.generation!r}, not {self._generation!r}"
            )
        return position

    def write_position(self, sequence: int) -> Position:
        position = Position(self._generation, sequence)
        content = {**asdict(position), "crc": _compute_checksum(position)}
        write_durably(self.path / "position.json", json.dumps(content))
        return position

    def find_current_shard(self) -> Path | None:
        """Finds the shard folder in use, or None where there is none yet or nothing tells which."""
        with contextlib.suppress(FileNotFoundError, UnicodeDecodeError):
            shard = self.path / (self.path / "CURRENT").read_text(encoding="utf-8").strip()
            if shard.parent == self.path and shard.name.startswith("shard-") and shard.is_dir():
                return shard
        return None

    def reset_position(self) -> None:
        """Forgets the position, before an empty shard takes the place of a lost one."""
        (self.path / "position.json").unlink(missing_ok=True)
        sync_path(self.path)

    def set_aside(self, shard: Path) -> None:
        """Keeps a damaged shard under another name, so that a new one takes its place."""
        shard.rename(self.path / f"damaged-{time.time_ns()}")
        sync_path(self.path)

    def locate_new_shard(self) -> Path:
        """Makes a path for a shard that no folder has or had in this store."""
        numbers = [int(path.name.removeprefix("shard-")) for path in self._list_shards()]
        return self.path / f"shard-{max(numbers, default=0) + 1:06d}"

    def switch_to(self, shard: Path) -> None:
        """Makes ``shard``, which must be flushed, the one in use."""
        write_durably(self.path / "CURRENT", shard.name)

    def remove_leftovers(self) -> None:
        """Removes shard folders not in use; what cannot be removed now is tried again at the next start."""
        current = self.find_current_shard()
        for shard in self._list_shards():
            if shard != current:
                remove_folder(shard)

    def _list_shards(self) -> Iterator[Path]:
        return (p for p in self.path.glob("shard-*") if p.name.removeprefix("shard-").isdigit())


def _compute_checksum(position: Position) -> int:
    return zlib.crc32(f"{position.generation}:{position.sequence}".encode())


def remove_folder(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except OSError as error:
        logger.warning("cannot remove %s now: %s", path, error)
