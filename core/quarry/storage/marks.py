"""What a database says about itself: which data folder it belongs to, and whether a server is using it.

A database file is not always the whole database: while a server uses it, the newest commits lie in the
write-ahead log beside it. Therefore the file itself says that it is in use, from before the first commit
until the last commit is part of the file. A copy of the file without its log gives itself away by that mark.
"""

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

logger = logging.getLogger(__name__)
TABLE = "marks"
IDENTITY, IN_USE = "identity", "in_use"
_BUSY_S = 30.0
_WRITE = (
    "INSERT INTO marks (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)


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
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = sqlite3.connect(
            path, check_same_thread=False, isolation_level=None, timeout=_BUSY_S
        )
        self._connection.execute("PRAGMA synchronous = FULL")

    def begin(self, identity: str) -> None:
        """Marks the database, in the file itself, as being in use and as part of the folder ``identity``."""
        self.write({IDENTITY: identity, IN_USE: "1"})
        self._run("PRAGMA wal_checkpoint(TRUNCATE)")

    def write(self, marks: Mapping[str, str]) -> None:
        """Stores marks and returns when they are synced."""
        with self._lock:
            if self._connection is not None:
                with _transaction(self._connection):
                    self._connection.executemany(_WRITE, list(marks.items()))

    def read(self) -> dict[str, str]:
        with self._lock:
            return {} if self._connection is None else read_marks(self._connection)

    def end(self) -> None:
        """Folds the log into the file, which then says that it is whole. All other connections are closed."""
        try:
            self.write({IN_USE: "0"})
            self._run("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:  # a full disk, or no table of marks since a migration failed
            logger.error("%s keeps the mark that it is in use: %s", self.path, error)
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _run(self, statement: str) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.execute(statement).fetchall()


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
