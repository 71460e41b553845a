"""The signs of a full disk: the system's error numbers, and words where a library hides those."""

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from quarry.errors import DiskFullError, QuarryError, UnavailableError

FULL_NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL_WORDS = (
    *("No space left on device", "Disk quota exceeded", "File too large"),
    *("os error 28)", "os error 122)", "os error 27)"),  # Rust's, for these three
    "disk is full",  # SQLite
    *("PytorchStreamWriter failed", "unexpected pos "),  # torch
)
"""What libraries say whose errors have no number."""
NEARLY_FULL_BYTES = 2**20
"""Space below which a failed write is taken for one that found the disk full."""


def is_disk_full(error: BaseException | None) -> bool:
    """Tells whether ``error``, or one that it came of, was caused by a full disk."""
    return any(
        getattr(cause, "errno", None) in FULL_NUMBERS or says_disk_is_full(str(cause))
        for cause in list_causes(error)
    )


def says_disk_is_full(message: str) -> bool:
    """Tells whether a message of some library says that a disk is full."""
    return any(words in message for words in FULL_WORDS)


def list_causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yields ``error`` and all that it came of, the last one first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def is_nearly_full(folder: Path) -> bool:
    """Tells whether the disk that holds ``folder`` has next to no space: asked where a failure names no
    cause."""
    try:
        return shutil.disk_usage(folder).free < NEARLY_FULL_BYTES
    except OSError:  # the folder is gone, which is another failure
        return False


def make_write_error(action: str, error: OSError) -> QuarryError:
    """Makes an error of a file that could not be written: DiskFullError, or UnavailableError, which a
    caller can act on."""
    kind = DiskFullError if is_disk_full(error) else UnavailableError
    return kind(f"{action}: {error.strerror or type(error).__name__}")
