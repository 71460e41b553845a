"""Tantivy's failures as Quarry's errors: the binding raises ValueError for all, and lets panics through."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from quarry.errors import DataLossError, DiskFullError, QuarryError, RetrieverUnavailableError
from quarry.storage.disk import FULL_NUMBERS

ARM = "bm25"

_OS_ERROR = re.compile(r"Os \{ code: (\d+)|\(os error (\d+)\)|\[Errno (\d+)\]")
"""How the engine writes the system's error number, for programmers and for people, and how Python does."""


@contextmanager
def translate_engine_errors() -> Iterator[None]:
    """Raises RetrieverUnavailableError, or DiskFullError, where the engine fails."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise _to_typed_error(error) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # derives from BaseException and cannot be imported
            raise
        raise RetrieverUnavailableError(ARM, f"the engine panicked: {error}") from error


@contextmanager
def translate_opening_errors(folder: str) -> Iterator[None]:
    """Raises DataLossError if what lies in ``folder`` is no sound index, and as ``translate_engine_errors``
    otherwise.

    Where the system refuses (permissions, open files, a full disk) nothing is known to be lost.
    """
    try:
        with translate_engine_errors():
            yield
    except RetrieverUnavailableError as error:
        if _find_system_error(str(error)) in (None, errno.ENOENT, errno.ENOTDIR, errno.EEXIST):
            raise DataLossError(f"the lexical index in {folder} cannot be opened: {error}") from error
        raise


def _to_typed_error(error: Exception) -> QuarryError:
    message = str(error)
    if _find_system_error(message) in FULL_NUMBERS:
        return DiskFullError(f"the disk that holds the {ARM} index is full: {message}")
    return RetrieverUnavailableError(ARM, message)


def _find_system_error(message: str) -> int | None:
    found = _OS_ERROR.search(message)
    return int(found[1] or found[2] or found[3]) if found else None
