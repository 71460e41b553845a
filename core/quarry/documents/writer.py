"""One thread through which every write of a database goes, many to a commit."""

import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import sqlalchemy as sa

from quarry.documents.tables import UNREADABLE
from quarry.errors import DataLossError, DiskFullError, QuarryError, UnavailableError
from quarry.storage.disk import is_disk_full, list_causes
from quarry.storage.faults import reach

T = TypeVar("T")
Write = Callable[[sa.Connection], T]
"""Work done in a transaction: it may raise to undo what itself has done, and that alone."""

MAX_GROUP = 64
_IO_ERROR = "disk I/O error"
"""What SQLite says where a full disk, or one that fails, keeps it from its shared memory."""


class GroupCommitWriter:
    """Runs writes in one thread, and syncs once for all that wait: a write is done when its commit is.

    A write that raises is rolled back to its savepoint; its neighbours in the group are not touched. If
    the database itself fails, every write of the group fails, since SQLite may have undone them all. On
    PostgreSQL the same class gives one writer per server process; sequence numbers are locked by the row
    that holds them, not by this thread.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")
        self._queue: queue.Queue[tuple[Write[Any], Future[Any]] | None] = queue.Queue()
        self._closed = False
        self._closing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def submit(self, write: Write[T]) -> "Future[T]":
        """Queues ``write``; the future's result is there once it is synced.

        Raises (through the future) what ``write`` raises, DiskFullError, or UnavailableError.
        """
        future: Future[T] = Future()
        with self._closing:  # what is queued behind the end would wait for ever
            if not self._closed:
                self._queue.put((write, future))
                return future
        future.set_exception(UnavailableError("the server is shutting down"))
        return future

    def close(self) -> None:
        """Finishes what is queued, then ends the thread."""
        with self._closing:
            self._closed = True
            self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            group = [item]
            while len(group) < MAX_GROUP:
                try:
                    more = self._queue.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    self._queue.put(None)
                    break
                group.append(more)
            self._commit([(write, f) for write, f in group if f.set_running_or_notify_cancel()])

    def _commit(self, group: list[tuple[Write[Any], Future[Any]]]) -> None:
        done: list[tuple[Future[Any], Any]] = []
        failed: list[tuple[Future[Any], BaseException]] = []
        try:
            with self._engine.begin() as connection:
                for write, future in group:
                    try:
                        with connection.begin_nested():
                            done.append((future, write(connection)))
                    except sa.exc.SQLAlchemyError:
                        raise
                    except Exception as error:  # noqa: BLE001  the caller's error, handed to the caller
                        failed.append((future, error))
                reach("log-written")
            reach("log-committed")
        except (sa.exc.SQLAlchemyError, sqlite3.Error) as error:
            failed = [(future, to_typed_error(error)) for _, future in group]
            done = []
        for future, result in done:
            future.set_result(result)
        for future, problem in failed:
            future.set_exception(problem)


def to_typed_error(error: Exception) -> QuarryError:
    """Turns a failure of a database into what a caller can act on, whether it was reading or writing."""
    # A full disk can make the rollback fail too, so that the last error does not say it.
    if is_disk_full(error) or any(_IO_ERROR in str(cause) for cause in list_causes(error)):
        return DiskFullError("the disk that holds the databases is full or failing; nothing was written")
    damaged = [c for c in list_causes(error) if getattr(c, "sqlite_errorcode", 0) & 0xFF in UNREADABLE]
    if damaged:
        return DataLossError(
            f"a database of the data folder cannot be read ({damaged[-1]}): stop the server, and restore the "
            "folder from a backup"
        )
    return UnavailableError(f"a database of the data folder cannot be used now: {type(error).__name__}")
