"""The operation that a job waits for: the job writes its name down, so that its server can end it."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from quarry.jobs.files import write_bytes

NOTE = "operation"
_PREFIX = "operations/"

EndOperation = Callable[[str], Awaitable[None]]
"""Cancels the operation of this name; one that is not there, or has ended, stays as it is."""


def note_operation(folder: Path, name: str) -> None:
    """Writes down that the job in ``folder`` waits for an operation, named as the API names it."""
    write_bytes(folder / NOTE, name.removeprefix(_PREFIX).encode())


def read_operation(folder: Path) -> str:
    """Reads the operation that the job in ``folder`` waited for last; empty if it wrote none down."""
    try:
        return (folder / NOTE).read_text()
    except OSError:
        return ""
