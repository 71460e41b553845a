"""Keeps the files of a folder from everybody but their user."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

OTHERS = 0o077


def make_private(folder: Path) -> int:
    """Takes the rights of group and others from ``folder`` and all in it. It follows no link.

    Returns the number of those that stay open, since they belong to another user.
    """
    return sum(not _close(path) for path in (folder, *_list_inside(folder)))


def _list_inside(folder: Path) -> Iterator[Path]:
    for inside, folders, files in os.walk(folder):  # it does not enter links
        for name in (*folders, *files):
            yield Path(inside, name)


def _close(path: Path) -> bool:
    """Takes the rights of others; tells whether they have none now."""
    try:
        mode = path.lstat().st_mode
        if mode & OTHERS and not stat.S_ISLNK(mode):
            path.chmod(stat.S_IMODE(mode) & ~OTHERS)
    except FileNotFoundError:  # it has gone meanwhile
        return True
    except PermissionError:
        return False
    return True
