"""Builds HNSW on a copy of a shard, in a process of its own: the engine's build holds the GIL to its end.

``python -m quarry.retrieval.edge.optimizer SOURCE TARGET NICENESS PARENT`` copies, prints ``copied``, builds,
makes everything durable, and exits with 0. SOURCE must be flushed and must not change until ``copied``.
"""

import os
import shutil
import sys
from pathlib import Path

import qdrant_edge as edge

from quarry.faults import reach
from quarry.retrieval.edge.folder import sync_path, sync_tree
from quarry.retrieval.edge.lifetime import die_with_parent

COPIED = b"copied\n"


def build(source: Path, target: Path) -> None:
    shutil.copytree(source, target)
    sys.stdout.buffer.write(COPIED)
    sys.stdout.buffer.flush()
    reach("build-copied")
    shard = edge.EdgeShard.load(str(target))
    shard.optimize()
    shard.flush()
    shard.close()
    sync_tree(target)
    sync_path(target.parent)
    reach("build-built")


def main() -> None:
    source, target, niceness, parent = sys.argv[1:]
    die_with_parent(int(parent))
    os.nice(int(niceness))
    build(Path(source), Path(target))


if __name__ == "__main__":
    main()
