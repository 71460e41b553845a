"""The marks of a database: the data folder it belongs to, and whether a server is using it.

A database file is not always the whole database: while a server uses it, the newest commits lie in the
write-ahead log beside it. Therefore the file itself says that it is in use, from before the first commit
until the last commit is part of the file. That mark shows that a copy was made without the log.
"""

import ctypes
import logging
import sqlite3
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from quarry.storage.cache_file import write_all
from quarry.storage.write_ahead import empty_log

logger = logging.getLogger(__name__)
TABLE = "marks"
IDENTITY, IN_USE = "identity", "in_use"
_BUSY_S = 30.0
_FOLD_TRIES, _FOLD_PAUSE_S = 20, 0.05
_WRITE = "INSERT OR REPLACE INTO marks (name, value) VALUES (?, ?)"
"""It replaces the row: SQLite leaves out an update that changes nothing, which takes no space in the log."""


def read_marks(connection: sqlite3.Connection) -> dict[str, str]:
    """Reads all marks of a database that has the table of them."""
    return dict(connection.execute("SELECT name, value FROM marks"))


class DatabaseInUse:
    """One connection that stays open as long as a server uses a database. Callable from any thread.

    As long as it is open, no other program that closes the database removes its write-ahead log.
    """

    def __init__(self, path: Path) -> None:
        """Connects to the database at ``path``, which must exist, and changes nothing."""
        self.path = path
        self._lock = threading.RLock()
        self._emptied: int | None = None
        self._connection: sqlite3.Connection | None = sqlite3.connect(
            path, check_same_thread=False, isolation_level=None, timeout=_BUSY_S
        )
        self._connection.execute("PRAGMA synchronous = FULL")

    def begin(self, identity: str) -> None:
        """Marks the database, in the file itself, as being in use and as part of the folder ``identity``.

        The log keeps its space on the disk, so that a full disk does not keep ``end`` from its own mark.
        """
        self.write({IDENTITY: identity, IN_USE: "1"})
        self._fold_log("PASSIVE")

    def empty_log(self) -> None:
        """Empties the log, which holds older copies of what was deleted, if others have written meanwhile.

        It keeps a little space on the disk, as ``begin`` says. Whoever reads an older state holds it back
        until the next time.
        """
        with self._lock:  # to the end: the mark that this writes must not follow that of ``end``
            if self._connection is None:
                return
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
            if version == self._emptied or not empty_log(self._connection):
                return
            self.write({IN_USE: "1"})
            self._fold_log("PASSIVE")
            self._emptied = version

    def write(self, marks: Mapping[str, str]) -> None:
        """Stores marks and returns when they are synced."""
        with self._lock:
            if self._connection is not None:
                write_all(self._connection, (_WRITE, list(marks.items())))

    def read(self) -> dict[str, str]:
        with self._lock:
            return {} if self._connection is None else read_marks(self._connection)

    def end(self) -> None:
        """Folds the log into the file, which then says that it is whole. All other connections are closed.

        Where the mark cannot be written, the log stays beside the file, as it does after a kill.
        """
        with self._lock:  # nothing else is written between the last mark and the end
            try:
                if TABLE in self._read_tables():  # there is none if the migration failed
                    self.write({IN_USE: "0"})
                    self._fold_log("TRUNCATE")
            except sqlite3.Error as error:
                logger.error("%s keeps the mark that it is in use, and its log: %s", self.path, error)
                self.abandon()
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def abandon(self) -> None:
        """Leaves everything as a kill would leave it: SQLite must not remove the log at the process's end."""
        with self._lock:
            if self._connection is not None:
                # One reference that nobody gives back: not even the end of the interpreter closes it.
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))
                self._connection = None

    def _read_tables(self) -> frozenset[str]:
        with self._lock:
            if self._connection is None:
                return frozenset()
            query = "SELECT name FROM sqlite_master WHERE type = 'table'"
            return frozenset(name for (name,) in self._connection.execute(query))

    def _fold_log(self, how: str) -> None:
        """Moves the log's commits into the file; waits a moment for readers of an older state."""
        for _ in range(_FOLD_TRIES):
            with self._lock:
                if self._connection is None:
                    return
                row = self._connection.execute(f"PRAGMA wal_checkpoint({how})").fetchone()
            busy, in_log, folded = row
            if not busy and in_log == folded:
                return
            time.sleep(_FOLD_PAUSE_S)
        logger.warning("the log of %s is not part of the file yet: somebody is reading it", self.path)
