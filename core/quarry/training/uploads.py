"""Uploaded files of examples: named by their bytes, kept once, removed when nobody uses them."""

import contextlib
import hashlib
import os
import re
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quarry.errors import LimitExceededError, MalformedError, NotFoundError, OutOfRangeError, RequiredError
from quarry.jobs.process import check_installed
from quarry.quoting import quote, quote_error
from quarry.storage.disk import make_write_error
from quarry.training.examples_limits import ExamplesLimits
from quarry.training.folders import FOLDER, UPLOADS

if TYPE_CHECKING:
    import pyarrow as pa

FIELD = "parquet"
"""The request's field that what is wrong with a file is told of."""
LIFETIME_S = 7 * 24 * 3_600.0
MAX_FOOTER_BYTES = 16 * 2**20
"""It takes some 20 times this memory once it is read."""
DEFAULT_LIMITS = ExamplesLimits()
HASH_BYTES = 16
_NAME = re.compile(r"[0-9a-f]{32}")
_UNFINISHED = ".part"
_MAGIC = b"PAR1"
_READING_FOOTERS = threading.Semaphore(1)
"""Footers take up to 20 times their bytes while they are read: one at a time."""


class Uploads:
    """The files of one data folder. Blocks.

    Attributes:
        limits: of one file.
    """

    def __init__(self, data: Path, limits: ExamplesLimits = DEFAULT_LIMITS) -> None:
        self._folder, self.limits = data / FOLDER / UPLOADS, limits

    def begin(self) -> "Upload":
        """Raises DiskFullError, or FailedPreconditionError if files cannot be checked on this server."""
        check_installed("trainer", ["pyarrow"])
        return Upload(self._folder, self.limits)

    def locate(self, name: str) -> Path:
        """Locates the file called ``name``, which counts as used now. Raises NotFoundError."""
        path = self._folder / f"{name}.parquet"
        if not _NAME.fullmatch(name) or not path.exists():
            raise NotFoundError(
                f"no uploaded file is called {name[:80]!r}: upload it again", examples=name[:80]
            )
        os.utime(path)
        return path

    def remove_unused(self, now_us: int) -> None:
        """Removes at the start files that nothing has used for a week, and those that did not arrive whole.

        Args:
            now_us: microseconds since 1970, of a clock that never jumps ahead.
        """
        for file in self._folder.glob("*"):
            unused_s = now_us / 1e6 - file.stat().st_mtime
            if file.suffix == _UNFINISHED or unused_s > LIFETIME_S:
                file.unlink(missing_ok=True)


class Upload:
    """One file that is arriving. Ended by ``finish`` or ``drop``."""

    def __init__(self, folder: Path, limits: ExamplesLimits) -> None:
        self._folder, self._limits = folder, limits
        self._hash = hashlib.blake2b(digest_size=HASH_BYTES)
        self.size = 0
        self._partial = folder / f"{uuid.uuid4().hex}{_UNFINISHED}"

        def open_file() -> Any:
            folder.mkdir(parents=True, exist_ok=True)
            return self._partial.open("wb")

        self._file = _write_or_refuse(open_file)

    def add(self, piece: bytes) -> None:
        """Raises LimitExceededError or DiskFullError."""
        self.size += len(piece)
        if self.size > self._limits.bytes:
            raise LimitExceededError(
                f"the file has over {self._limits.bytes:,} bytes: train on fewer examples"
            )
        self._hash.update(piece)
        _write_or_refuse(lambda: self._file.write(piece))

    def finish(self) -> tuple[str, int]:
        """Keeps the file; returns its name, and how many rows it has.

        Raises:
            InvalidArgumentError: it is no Parquet file of examples.
            LimitExceededError: it says that it holds too much.
        """

        def sync_file() -> None:
            self._file.flush()
            os.fsync(self._file.fileno())

        _write_or_refuse(sync_file)
        self._file.close()
        rows = check_examples(self._partial, self._limits)
        name = self._hash.hexdigest()
        self._partial.replace(self._folder / f"{name}.parquet")
        return name, rows

    def drop(self) -> None:
        """Leaves nothing of a file that was not finished."""
        with contextlib.suppress(OSError):  # what is not written yet need not be
            self._file.close()
        self._partial.unlink(missing_ok=True)


def _write_or_refuse(write: Callable[[], Any]) -> Any:
    try:
        return write()
    except OSError as error:
        raise make_write_error("the file cannot be kept", error) from error


def has_changed(path: Path, digest: str) -> bool:
    """Tells whether ``path`` is an uploaded file whose bytes, of which ``digest`` is the hash, did not
    name it."""
    return _NAME.fullmatch(path.stem) is not None and path.stem != digest


def check_examples(path: Path, limits: ExamplesLimits = DEFAULT_LIMITS) -> int:
    """Checks a file of examples and counts its rows. Only its footer is read: rows are the job's to judge.

    Raises:
        InvalidArgumentError: it is no Parquet, or lacks a column that training reads, of its type.
        LimitExceededError: it says that it holds more than ``limits`` allow.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    _check_frame(path)
    try:
        with _READING_FOOTERS, pq.ParquetFile(path) as file:
            schema, metadata = file.schema_arrow, file.metadata
            rows = int(metadata.num_rows)
            size = sum(metadata.row_group(n).total_byte_size for n in range(metadata.num_row_groups))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise MalformedError(FIELD, f"is no Parquet file: {quote_error(error)}") from None
    if rows > limits.rows:
        raise LimitExceededError(f"the file has over {limits.rows:,} rows: train on fewer examples")
    if size > limits.bytes:
        raise LimitExceededError(
            f"the file has over {limits.bytes:,} bytes once it is decompressed: train on fewer examples"
        )
    _check_columns(schema, typed=rows > 0)
    return rows


def _check_frame(path: Path) -> None:
    """Refuses what is no Parquet file, or has a footer that would take too much memory to read."""
    with path.open("rb") as file:
        first = file.read(len(_MAGIC))
        file.seek(max(0, path.stat().st_size - 2 * len(_MAGIC)))
        end = file.read()
    if first != _MAGIC:  # which the reader does not look at
        raise MalformedError(FIELD, "is no Parquet file") if first else RequiredError(FIELD, "is empty")
    if int.from_bytes(end[: len(_MAGIC)], "little") > MAX_FOOTER_BYTES:
        raise OutOfRangeError(FIELD, f"has a footer of over {MAX_FOOTER_BYTES} bytes")


def _check_columns(schema: "pa.Schema", typed: bool) -> None:
    """Checks columns; ``typed``: where there are rows; without any, writers give columns no type."""
    from pyarrow import types

    def is_text(kind: "pa.DataType") -> bool:
        return bool(types.is_string(kind) or types.is_large_string(kind))

    def is_number(kind: "pa.DataType") -> bool:
        return bool(types.is_floating(kind) or types.is_integer(kind))

    texts = dict.fromkeys(("query_id", "query", "positive_id", "negative_id"), (is_text, "text"))
    needed = texts | {"label": (types.is_integer, "whole numbers"), "weight": (is_number, "numbers")}
    lacking = [name for name in needed if name not in schema.names]
    if lacking:
        raise MalformedError(
            FIELD, f"lacks the columns {', '.join(lacking)}, which docs/reference/file-formats.md describes"
        )
    for name, (fits, what) in needed.items():
        if schema.names.count(name) > 1:
            raise MalformedError(FIELD, f"has the column {name} twice")
        if typed and not fits(schema.field(name).type):
            raise MalformedError(
                FIELD, f"has {quote(schema.field(name).type)[1:-1]} in the column {name}, not {what}"
            )
