"""Keeps what encoding cost: a document's cut and vectors by what was encoded and how, in one SQLite file.

It is a cache. A value that does not match its checksum is a miss, and a file that SQLite cannot read is set
aside and begun anew; nothing is lost but time.
"""

import hashlib
import logging
import sqlite3
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from quarry.documents.passages import Cut, SourceText
from quarry.errors import DiskFullError

logger = logging.getLogger(__name__)
T = TypeVar("T")

KEY_BYTES = 16
HEADER = struct.Struct("<IIII")  # CRC-32 of key and the rest, title_end, passages, dimension
SPAN = struct.Struct("<II")
LENGTH = struct.Struct("<Q")
FLOAT = np.dtype("<f4")
QUERY_KEYS = 500
UNREADABLE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT)
SCHEMA = """
CREATE TABLE IF NOT EXISTS vector (id INTEGER PRIMARY KEY, key BLOB NOT NULL, value BLOB NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS vector_key ON vector (key);
"""


@dataclass(frozen=True, slots=True, eq=False)
class CachedVectors:
    """What one document was encoded to.

    Attributes:
        cut: its passages.
        vectors: float32, shape ``(passages, dimension)``.
    """

    cut: Cut
    vectors: NDArray[np.float32]


def vector_key(scope: str, source: SourceText) -> bytes:
    """Names what is encoded and how; ``scope`` is a ``PassageCutter``'s."""
    parts: list[bytes] = []
    for part in (scope, source.language, source.title, source.text):
        encoded = part.encode("utf-8", "surrogatepass")
        parts += (LENGTH.pack(len(encoded)), encoded)
    return hashlib.blake2b(b"".join(parts), digest_size=KEY_BYTES).digest()


class VectorCache:
    """One file; callable from any thread, one call at a time. Blocks.

    Attributes:
        damaged: values that did not match their checksum, and files that could not be read, so far.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.damaged = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._connection = _connect(path)
        except sqlite3.DatabaseError as error:
            if not _is_unreadable(error):
                raise
            self._connection = self._begin_anew(error)

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, CachedVectors]:
        """What is known of ``keys``."""
        return {key: _decoded(value) for key, value in self._intact(keys)}

    def get_vectors(self, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        """Vectors alone of what is known of ``keys``: half the time, for who needs no cut."""
        return {key: _vectors(value) for key, value in self._intact(keys)}

    def _intact(self, keys: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values that are as they were written."""
        for start in range(0, len(keys), QUERY_KEYS):
            some = keys[start : start + QUERY_KEYS]
            with self._lock:
                rows: list[tuple[bytes, bytes]] = self._guarded(partial(_select, some), [])
                intact = [row for row in rows if _is_intact(*row)]
                self.damaged += len(rows) - len(intact)
            if len(intact) < len(rows):
                logger.warning("values of the vector cache are damaged, and will be made again")
            yield from intact

    def put_many(self, values: Mapping[bytes, CachedVectors]) -> None:
        """Keeps values, in place of what was there. Raises DiskFullError."""
        rows = [(key, _encoded(key, value)) for key, value in values.items()]
        statement = "INSERT OR REPLACE INTO vector (key, value) VALUES (?, ?)"
        with self._lock:
            self._guarded(partial(_write, statement, rows), None)

    def delete_many(self, keys: Iterable[bytes]) -> None:
        """Forgets values."""
        rows = [(key,) for key in keys]
        with self._lock:
            self._guarded(partial(_write, "DELETE FROM vector WHERE key = ?", rows), None)

    def count(self) -> int:
        """How many values are kept."""
        with self._lock:
            return self._guarded(lambda c: int(c.execute("SELECT count(*) FROM vector").fetchone()[0]), 0)

    def backup(self, target: Path) -> None:
        """Writes a consistent copy to a new file. Raises DiskFullError."""
        with self._lock:
            self._guarded(partial(_copy, target), None)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _guarded(self, call: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """What ``call`` gives; ``otherwise``, after a fresh start, if the file turns out to be unreadable."""
        try:
            return call(self._connection)
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
                raise DiskFullError(f"no space for the vector cache {self._path.name}") from error
            if not _is_unreadable(error):
                raise
            self._connection.close()
            self._connection = self._begin_anew(error)
            return otherwise

    def _begin_anew(self, error: sqlite3.DatabaseError) -> sqlite3.Connection:
        """Moves the file aside, for whoever wants to know why, and opens an empty one."""
        self.damaged += 1
        logger.error("the vector cache %s cannot be read (%s): begun anew", self._path, error)
        for suffix in ("", "-wal", "-shm"):
            part = self._path.with_name(self._path.name + suffix)
            if part.exists():
                part.replace(part.with_name(f"{self._path.name}.damaged-{time.time_ns()}{suffix}"))
        return _connect(self._path)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(SCHEMA)
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection


def _is_unreadable(error: sqlite3.DatabaseError) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in UNREADABLE


def _write(statement: str, rows: Sequence[tuple[Any, ...]], connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.executemany(statement, rows)
        connection.execute("COMMIT")
    except sqlite3.Error:
        if connection.in_transaction:  # SQLite has already rolled back after some errors
            connection.execute("ROLLBACK")
        raise


def _copy(target: Path, connection: sqlite3.Connection) -> None:
    connection.execute("VACUUM INTO ?", (str(target),))


def _select(keys: Sequence[bytes], connection: sqlite3.Connection) -> list[tuple[bytes, bytes]]:
    marks = ", ".join("?" * len(keys))
    return connection.execute(f"SELECT key, value FROM vector WHERE key IN ({marks})", keys).fetchall()  # noqa: S608


def _encoded(key: bytes, value: CachedVectors) -> bytes:
    passages, dimension = value.vectors.shape
    if passages != len(value.cut.spans):
        raise ValueError(f"there are {passages} vectors for {len(value.cut.spans)} passages")
    spans = np.array(value.cut.spans, "<u4").tobytes()
    body = spans + np.ascontiguousarray(value.vectors, "<f4").tobytes()
    header = HEADER.pack(0, value.cut.title_end, passages, dimension)[4:]
    return zlib.crc32(key + header + body).to_bytes(4, "little") + header + body


def _is_intact(key: bytes, value: bytes) -> bool:
    """Whether the bytes are those that were written under this key."""
    if len(value) < HEADER.size:
        return False
    checksum, _, passages, dimension = HEADER.unpack_from(value)
    whole: int = HEADER.size + passages * (SPAN.size + dimension * FLOAT.itemsize)
    return len(value) == whole and zlib.crc32(value[4:], zlib.crc32(key)) == int(checksum)


def _vectors(value: bytes) -> NDArray[np.float32]:
    _, _, passages, dimension = HEADER.unpack_from(value)
    return np.ndarray((passages, dimension), FLOAT, value, HEADER.size + passages * SPAN.size)


def _decoded(value: bytes) -> CachedVectors:
    _, title_end, passages, _ = HEADER.unpack_from(value)
    spans = SPAN.iter_unpack(memoryview(value)[HEADER.size : HEADER.size + passages * SPAN.size])
    return CachedVectors(Cut(title_end, tuple(spans)), _vectors(value))
