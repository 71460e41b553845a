"""Waits until what was written is on the disk: the one place that does it for paths."""

import os
from pathlib import Path


def sync_path(path: Path) -> None:
    """Returns when a file, or a folder's entries, are on the disk. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_durably(path: Path, content: str) -> None:
    """Replaces ``path`` in one step that outlives a power cut."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_path(path.parent)
