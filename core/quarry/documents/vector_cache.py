"""Keeps what encoding cost: a document's cut and vectors by what was encoded and how, in one SQLite file.

It knows which documents use a value; with the last of them the value goes, and is overwritten on the disk.
What no document ever used, such as what mining has made, goes after some days.

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
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quarry.documents.passages import Cut, SourceText
from quarry.storage.cache_file import CacheFile, write_all, write_whole
from quarry.types import Docno

logger = logging.getLogger(__name__)

KEY_BYTES = 16
HEADER = struct.Struct("<IIII")  # CRC-32 of key and the rest, title_end, passages, dimension
SPAN = struct.Struct("<II")
LENGTH = struct.Struct("<Q")
FLOAT = np.dtype("<f4")
QUERY_KEYS = 500
ERASED_ROWS = 500
"""Rows of one transaction that erases: others write in between."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS vector (id INTEGER PRIMARY KEY, key BLOB NOT NULL, value BLOB NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS vector_key ON vector (key);
CREATE TABLE IF NOT EXISTS made (key BLOB PRIMARY KEY, time_us INTEGER NOT NULL, texts BLOB NOT NULL)
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS used (docno INTEGER, owner TEXT, key BLOB NOT NULL, PRIMARY KEY (docno, owner))
    WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS used_key ON used (key);
CREATE INDEX IF NOT EXISTS used_owner ON used (owner);
CREATE TABLE IF NOT EXISTS gone (id INTEGER PRIMARY KEY, texts BLOB NOT NULL);
"""
_PUT = "INSERT OR REPLACE INTO vector (key, value) VALUES (?, ?)"
_NOTE_MADE = "INSERT OR REPLACE INTO made (key, time_us, texts) VALUES (?, ?, ?)"
_USE = "INSERT OR REPLACE INTO used (docno, owner, key) VALUES (?, ?, ?)"
_LEAVE = "DELETE FROM used WHERE docno = ? AND (owner = ? OR ? IS NULL)"
_FIND_USED = "SELECT key FROM used WHERE docno = ? AND (owner = ? OR ? IS NULL)"
_IS_USED = "SELECT 1 FROM used WHERE key = ? LIMIT 1"
_NOTE_GONE = "INSERT INTO gone (texts) SELECT texts FROM made WHERE key = ? AND texts != x''"
_FIND_USES = "SELECT docno, key FROM used WHERE owner = ? LIMIT ?"
_FORGET_USE = "DELETE FROM used WHERE docno = ? AND owner = ?"
_FIND_UNUSED = """
SELECT key, time_us < ? AND NOT EXISTS (SELECT 1 FROM used WHERE used.key = made.key)
FROM made WHERE key > ? ORDER BY key LIMIT ?
"""


@dataclass(frozen=True, slots=True, eq=False)
class CachedVectors:
    """The vectors that one document was encoded to.

    Attributes:
        cut: its passages.
        vectors: float32, shape ``(passages, dimension)``.
        texts: digests of its passages, one after the other; only given, never returned.
    """

    cut: Cut
    vectors: NDArray[np.float32]
    texts: bytes = b""


def make_vector_key(scope: str, source: SourceText) -> bytes:
    """Names what is encoded and how; ``scope`` is a ``PassageCutter``'s."""
    parts: list[bytes] = []
    for part in (scope, source.language, source.title, source.text):
        encoded = part.encode("utf-8", "surrogatepass")
        parts += (LENGTH.pack(len(encoded)), encoded)
    return hashlib.blake2b(b"".join(parts), digest_size=KEY_BYTES).digest()


class VectorCache:
    """One file; callable from any thread, one call at a time. Blocks."""

    def __init__(self, path: Path) -> None:
        self._file = CacheFile(path, SCHEMA, "vector cache")
        self._lock = threading.Lock()
        self._damaged = 0

    @property
    def damaged(self) -> int:
        """Values that did not match their checksum, and files that could not be read, so far."""
        return self._damaged + self._file.begun_anew

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, CachedVectors]:
        """Returns what is known of ``keys``."""
        return {key: _decode(value) for key, value in self._find_intact(keys)}

    def get_vectors(self, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        """Returns vectors alone of what is known of ``keys``: half the time, for who needs no cut."""
        return {key: _decode_vectors(value) for key, value in self._find_intact(keys)}

    def _find_intact(self, keys: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """Yields keys and values that are as they were written."""
        for start in range(0, len(keys), QUERY_KEYS):
            some = keys[start : start + QUERY_KEYS]
            rows: list[tuple[bytes, bytes]] = self._file.run(partial(_select, some), [])
            intact = [row for row in rows if _is_intact(*row)]
            with self._lock:
                self._damaged += len(rows) - len(intact)
            if len(intact) < len(rows):
                logger.warning("values of the vector cache are damaged, and will be made again")
            yield from intact

    def put_many(self, values: Mapping[bytes, CachedVectors]) -> None:
        """Keeps values, in place of what was there. Raises DiskFullError."""
        rows = [(key, _encode(key, value)) for key, value in values.items()]
        made = [(key, time.time_ns() // 1_000, value.texts) for key, value in values.items()]
        self._file.run(lambda connection: write_all(connection, (_PUT, rows), (_NOTE_MADE, made)), None)

    def note_uses(self, owner: str, keys: Mapping[Docno, bytes | None]) -> None:
        """Notes which value each document uses from now on, in the index ``owner``.

        None for one that is deleted: no index uses anything of it. What nothing uses any more is deleted.
        Raises DiskFullError.
        """
        if keys:
            self._file.run(lambda connection: write_whole(connection, partial(_note_uses, owner, keys)), None)

    def read_owners(self) -> set[str]:
        """Reads the names of the indexes that use anything."""
        select = "SELECT DISTINCT owner FROM used"
        rows: list[tuple[str]] = self._file.run(lambda c: c.execute(select).fetchall(), [])
        return {owner for (owner,) in rows}

    def find_document(self, owner: str) -> Docno | None:
        """Finds a document that uses anything in this index: the oldest one; None if there is none."""
        select = "SELECT MIN(docno) FROM used WHERE owner = ?"
        (docno,) = self._file.run(lambda c: c.execute(select, (owner,)).fetchone(), (None,))
        return None if docno is None else Docno(docno)

    def forget_some(self, owner: str) -> bool:
        """Forgets ``ERASED_ROWS`` documents of this index and deletes what only they use; tells whether there
        may be more.

        Raises DiskFullError.
        """
        return self._file.run(lambda c: write_whole(c, partial(_forget_some, owner)), False)

    def delete_unused(self, before_us: int, after: bytes = b"") -> bytes | None:
        """Deletes what was made before that time and nothing uses: looks at the ``ERASED_ROWS`` keys after
        ``after``.

        Returns the last of these keys, to go on after it; None at the end. Raises DiskFullError.
        """
        return self._file.run(lambda c: write_whole(c, partial(_delete_unused, before_us, after)), None)

    def read_gone_texts(self) -> dict[int, bytes]:
        """Reads the digests of passages whose vectors were deleted, until ``forget_gone_texts``."""
        return self._file.run(lambda c: dict(c.execute("SELECT id, texts FROM gone")), {})

    def forget_gone_texts(self, ids: Collection[int]) -> None:
        """Forgets some of what ``read_gone_texts`` gives: all else that was made of them has gone, too."""
        rows = [(id,) for id in ids]
        self._file.run(lambda c: write_all(c, ("DELETE FROM gone WHERE id = ?", rows)), None)

    def empty_log(self) -> None:
        """Cuts the file's log, as ``CacheFile.empty_log`` does."""
        self._file.empty_log()

    def delete_many(self, keys: Iterable[bytes]) -> None:
        """Forgets values."""
        rows = [(key,) for key in keys]
        statement = "DELETE FROM vector WHERE key = ?"
        self._file.run(lambda connection: write_all(connection, (statement, rows)), None)

    def count(self) -> int:
        """Counts how many values are kept."""
        return self._file.run(lambda c: int(c.execute("SELECT count(*) FROM vector").fetchone()[0]), 0)

    def close(self) -> None:
        self._file.close()


def _select(keys: Sequence[bytes], connection: sqlite3.Connection) -> list[tuple[bytes, bytes]]:
    marks = ", ".join("?" * len(keys))
    return connection.execute(f"SELECT key, value FROM vector WHERE key IN ({marks})", keys).fetchall()  # noqa: S608


def _note_uses(owner: str, keys: Mapping[Docno, bytes | None], connection: sqlite3.Connection) -> None:
    left: set[bytes] = set()
    for docno, key in keys.items():
        whose = None if key is None else owner
        before = {old for (old,) in connection.execute(_FIND_USED, (docno, whose, whose))}
        if before == {key}:
            continue
        left |= before
        if before:
            connection.execute(_LEAVE, (docno, whose, whose))
        if key is not None:
            connection.execute(_USE, (docno, owner, key))
    _delete_unless_used(connection, left)


def _forget_some(owner: str, connection: sqlite3.Connection) -> bool:
    uses = connection.execute(_FIND_USES, (owner, ERASED_ROWS)).fetchall()
    connection.executemany(_FORGET_USE, [(docno, owner) for docno, _ in uses])
    _delete_unless_used(connection, {key for _, key in uses})
    return len(uses) == ERASED_ROWS


def _delete_unused(before_us: int, after: bytes, connection: sqlite3.Connection) -> bytes | None:
    rows = connection.execute(_FIND_UNUSED, (before_us, after, ERASED_ROWS)).fetchall()
    _delete_keys(connection, {key for key, is_unused in rows if is_unused})
    return rows[-1][0] if len(rows) == ERASED_ROWS else None


def _delete_unless_used(connection: sqlite3.Connection, keys: Collection[bytes]) -> None:
    _delete_keys(connection, {key for key in keys if not connection.execute(_IS_USED, (key,)).fetchone()})


def _delete_keys(connection: sqlite3.Connection, keys: Collection[bytes]) -> None:
    """Deletes values, and notes of which texts they were."""
    rows = [(key,) for key in keys]
    connection.executemany(_NOTE_GONE, rows)
    connection.executemany("DELETE FROM made WHERE key = ?", rows)
    connection.executemany("DELETE FROM vector WHERE key = ?", rows)


def _encode(key: bytes, value: CachedVectors) -> bytes:
    passages, dimension = value.vectors.shape
    if passages != len(value.cut.spans):
        raise ValueError(f"there are {passages} vectors for {len(value.cut.spans)} passages")
    spans = np.array(value.cut.spans, "<u4").tobytes()
    body = spans + np.ascontiguousarray(value.vectors, "<f4").tobytes()
    header = HEADER.pack(0, value.cut.title_end, passages, dimension)[4:]
    return zlib.crc32(key + header + body).to_bytes(4, "little") + header + body


def _is_intact(key: bytes, value: bytes) -> bool:
    """Tells whether the bytes are those that were written under this key."""
    if len(value) < HEADER.size:
        return False
    checksum, _, passages, dimension = HEADER.unpack_from(value)
    whole: int = HEADER.size + passages * (SPAN.size + dimension * FLOAT.itemsize)
    return len(value) == whole and zlib.crc32(value[4:], zlib.crc32(key)) == int(checksum)


def _decode_vectors(value: bytes) -> NDArray[np.float32]:
    _, _, passages, dimension = HEADER.unpack_from(value)
    return np.ndarray((passages, dimension), FLOAT, value, HEADER.size + passages * SPAN.size)


def _decode(value: bytes) -> CachedVectors:
    _, title_end, passages, _ = HEADER.unpack_from(value)
    spans = SPAN.iter_unpack(memoryview(value)[HEADER.size : HEADER.size + passages * SPAN.size])
    return CachedVectors(Cut(title_end, tuple(spans)), _decode_vectors(value))
