"""One SQLite file of what can be made again; one that cannot be read is set aside and begun anew."""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from quarry.errors import DiskFullError
from quarry.storage.disk import is_nearly_full
from quarry.storage.write_ahead import empty_log

logger = logging.getLogger(__name__)
T = TypeVar("T")
_UNREADABLE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT)


class CacheFile:
    """Callable from any thread, one call at a time. Blocks.

    Attributes:
        begun_anew: times that the file could not be read, and was moved aside for whoever wants to know why.

    Args:
        schema: statements that make what is not there.
        name: of what it holds, for messages.
    """

    def __init__(self, path: Path, schema: str, name: str) -> None:
        self._path, self._schema, self._name = path, schema, name
        self._lock = threading.Lock()
        self.begun_anew = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._connection = _connect(path, schema)
        except sqlite3.DatabaseError as error:
            if not _is_unreadable(error):
                raise
            self._connection = self._begin_anew(error)

    def run(self, call: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """Runs ``call``, and returns ``otherwise``, after a fresh start, if the file turns out to be
        unreadable.

        Raises DiskFullError.
        """
        with self._lock:
            try:
                return call(self._connection)
            except sqlite3.DatabaseError as error:
                if self._is_disk_full(error):
                    raise DiskFullError(f"no space for the {self._name} {self._path.name}") from error
                if not _is_unreadable(error):
                    raise
                self._connection.close()
                self._connection = self._begin_anew(error)
                return otherwise

    def _is_disk_full(self, error: sqlite3.DatabaseError) -> bool:
        """Tells whether the disk is full: where shared memory cannot grow, SQLite tells a full disk from
        no other failure."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_IOERR:
            return is_nearly_full(self._path.parent)
        return code == sqlite3.SQLITE_FULL

    def empty_log(self) -> None:
        """Cuts the write-ahead log if nobody else reads now. Raises DiskFullError."""
        self.run(empty_log, False)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _begin_anew(self, error: sqlite3.DatabaseError) -> sqlite3.Connection:
        self.begun_anew += 1
        logger.error("the %s %s cannot be read (%s): begun anew", self._name, self._path, error)
        for suffix in ("", "-wal", "-shm"):
            part = self._path.with_name(self._path.name + suffix)
            if part.exists():
                part.replace(part.with_name(f"{self._path.name}.damaged-{time.time_ns()}{suffix}"))
        return _connect(self._path, self._schema)


def write_all(connection: sqlite3.Connection, *writes: tuple[str, Sequence[tuple[Any, ...]]]) -> None:
    """Runs each statement once for each of its rows; all of it or nothing."""

    def write(connection: sqlite3.Connection) -> None:
        for statement, rows in writes:
            connection.executemany(statement, rows)

    write_whole(connection, write)


def write_whole(connection: sqlite3.Connection, write: Callable[[sqlite3.Connection], T]) -> T:
    """Does all that ``write`` does, or nothing, whatever it raises; returns what it returns."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        result = write(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite has already rolled back after some errors
            connection.execute("ROLLBACK")
        raise
    return result


def _connect(path: Path, schema: str) -> sqlite3.Connection:
    path.touch(mode=0o600)
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA secure_delete = ON")
        connection.executescript(schema)
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection


def _is_unreadable(error: sqlite3.DatabaseError) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _UNREADABLE
