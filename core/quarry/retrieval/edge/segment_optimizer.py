"""Builds HNSW on a copy of a shard, in a process of its own: the engine's build holds the GIL to its end.

``python -m quarry.retrieval.edge.segment_optimizer SOURCE TARGET NICENESS PARENT ERASE`` prints ``started``,
waits for a line, copies, prints ``copied``, builds, makes everything durable, and exits with 0. SOURCE must
be flushed before the line is sent, and must not change until ``copied``: starting takes longer than copying.

With the vectors' dimension as ERASE, instead of 0, nothing is left of points that were deleted before the
copy: not in segments, which the engine else leaves alone until a fifth of their points are deleted, and not
in its log.
"""

import errno
import os
import shutil
import sys
from pathlib import Path

import qdrant_edge as edge

from quarry.lifetime import die_with_parent
from quarry.retrieval.edge.folder import sync_tree
from quarry.retrieval.edge.store_settings import VECTOR
from quarry.storage.faults import reach
from quarry.storage.sync import sync_path

WAL = "wal"
STARTED, COPY, COPIED = b"started\n", b"copy\n", b"copied\n"


def copy_data(source: str, target: str) -> None:
    """Copies a file and leaves its holes: three quarters of what the engine sets aside is never written."""
    with Path(source).open("rb") as read, Path(target).open("wb") as written:
        size = os.fstat(read.fileno()).st_size
        os.truncate(written.fileno(), size)
        end = 0
        while (start := _find_next_data(read.fileno(), end)) < size:
            end = os.lseek(read.fileno(), start, os.SEEK_HOLE)
            os.lseek(written.fileno(), start, os.SEEK_SET)
            while start < end:
                start += os.sendfile(written.fileno(), read.fileno(), start, end - start)


def _find_next_data(file: int, after: int) -> int:
    """Finds where data begins, from ``after``; the end of the file if there is only a hole."""
    try:
        return os.lseek(file, after, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return os.fstat(file).st_size


def build(source: Path, target: Path, niceness: int, erased: int = 0) -> None:
    _say(STARTED)
    if sys.stdin.buffer.readline() != COPY:
        sys.exit("the store has gone")
    shutil.copytree(source, target, copy_function=copy_data)
    os.nice(niceness)  # not before: writes wait for the copy
    _say(COPIED)
    reach("build-copied")
    if erased:
        shutil.rmtree(target / WAL)  # all of it has been flushed
    shard = edge.EdgeShard.load(str(target), _make_erasing_config(erased) if erased else None)
    shard.optimize()
    shard.flush()
    shard.close()
    sync_tree(target)
    sync_path(target.parent)
    reach("build-built")


def _make_erasing_config(dimension: int) -> edge.EdgeConfig:
    """Makes a config with which no segment keeps a deleted point."""
    return edge.EdgeConfig(
        vectors={VECTOR: edge.EdgeVectorParams(size=dimension, distance=edge.Distance.Cosine)},
        optimizers=edge.EdgeOptimizersConfig(deleted_threshold=1e-9, vacuum_min_vector_number=1),
    )


def _say(word: bytes) -> None:
    sys.stdout.buffer.write(word)
    sys.stdout.buffer.flush()


def main() -> None:
    source, target, niceness, parent, erase = sys.argv[1:]
    die_with_parent(int(parent))
    build(Path(source), Path(target), int(niceness), int(erase))


if __name__ == "__main__":
    main()
