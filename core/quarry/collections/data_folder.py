"""The data folder of a server: locked, private, and checked before anything in it is touched."""

import atexit
import contextlib
import logging
import shutil
import sqlite3
import stat
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import sqlalchemy as sa
from filelock import FileLock, Timeout

from quarry.documents.tables import open_database
from quarry.documents.writer import to_typed_error
from quarry.errors import FailedPreconditionError
from quarry.storage.marks import DatabaseInUse
from quarry.storage.private import make_private
from quarry.storage.quarantine import Quarantine
from quarry.storage.start_check import (
    COLLECTIONS,
    CONTENT,
    DOCUMENTS,
    MADE,
    StartState,
    examine,
    make_refusal,
)
from quarry.storage.trusted_clock import MARK, TrustedClock, read_wall_us

logger = logging.getLogger(__name__)
QUARANTINE_DAYS = 7.0
_DATABASE_FILES = ("", "-wal", "-shm")


class DataFolder:
    """The folder that holds everything of a server, locked while it is open. Its calls block.

    Attributes:
        path: the folder.
        clock: decides what is old enough to delete; there once the document log is open.

    Args:
        quarantine_days: how long things are kept that no database knows.
        accept_loss: the code of the contradictions that the operator accepts; empty: none.
    """

    clock: TrustedClock

    def __init__(self, path: Path, quarantine_days: float = QUARANTINE_DAYS, accept_loss: str = "") -> None:
        """Changes nothing in a folder that it refuses.

        Raises:
            FailedPreconditionError: another server uses the folder.
            DataLossError: its databases do not know what it holds, or one is damaged.
        """
        self.path = path
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = FileLock(path / "lock", thread_local=False)  # taken in one thread, released in another
        self._in_use: dict[str, DatabaseInUse] = {}
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise FailedPreconditionError(f"another server is using {path}", folder=str(path)) from None
        try:
            self.quarantine = Quarantine(path, quarantine_days)
            self._state = self._check(accept_loss)
            _close_to_others(path)
        except BaseException:
            self._lock.release()
            raise
        atexit.register(self.close)  # an end without close must not look like a copy without its log

    @property
    def documents(self) -> Path:
        return self.path / DOCUMENTS

    @property
    def collections(self) -> Path:
        return self.path / COLLECTIONS

    def locate(self, key: int) -> Path:
        """Locates everything of one collection, all generations."""
        return self.collections / str(key)

    def open_documents(self) -> sa.Engine:
        """Opens the document log, and with it the folder's clock. Raises as ``open_database``."""
        engine = self.open_database(DOCUMENTS, open_database)
        marks = self._in_use[DOCUMENTS]
        _keep_keys_above(engine, self._state.highest_key)
        marks.write({finding.mark: finding.message for finding in self._state.findings if finding.lasts})
        self.clock = TrustedClock(
            marks.read().get(MARK), self._state.newest_us, lambda value: marks.write({MARK: value})
        )
        return engine

    def open_database(self, name: str, open_engine: Callable[[Path], sa.Engine]) -> sa.Engine:
        """Opens one of the folder's databases, which says that it is in use until the folder is closed.

        The document log is opened first: it knows the folder's identity and which other databases there are.
        """
        path = self.path / name
        with _translate_errors():
            # An existing file is held before it is opened, so that nothing folds its log into it too early.
            held = DatabaseInUse(path) if path.exists() else None
            try:
                engine = open_engine(path)
            except BaseException:
                if held is not None:
                    held.end()
                raise
            self._in_use[name] = held = held or DatabaseInUse(path)
            held.begin(self._find_identity())
            if name != DOCUMENTS:
                self._in_use[DOCUMENTS].write({f"{MADE}{name}": "1"})
        return engine

    def remove_leftovers(self, needed: Mapping[int, Collection[str]], deleted: Collection[int]) -> None:
        """Removes the folders of deleted collections, and moves what nobody knows to quarantine.

        Args:
            needed: generations, by the collection's key.
            deleted: keys of the collections that were deleted on purpose.
        """
        for folder in filter(Path.is_dir, self.collections.glob("*")):
            key = int(folder.name) if folder.name.isdecimal() else 0  # no collection has the key 0
            if key in deleted:
                logger.info("removing %s, which is left of a deleted collection", folder)
                remove_folder(folder)
            elif key not in needed:
                self.take_away(folder, "no collection has this key")
            else:
                for generation in filter(Path.is_dir, folder.glob("*")):
                    if generation.name not in needed[key]:
                        self.take_away(generation, "its collection does not use this generation")

    def take_away(self, path: Path, reason: str) -> None:
        """Moves what no database knows to quarantine."""
        self.quarantine.take(path, reason, self.clock.now_us)

    def keep_house(self) -> None:
        """Lets the clock follow, and removes what has been in quarantine for long enough. Once an hour."""
        self.clock.follow_wall()
        self.quarantine.remove_old(self.clock.now_us)

    def empty_logs(self) -> None:
        """Empties the write-ahead logs of the databases, where others have written since the last time."""
        with _translate_errors():
            for held in list(self._in_use.values()):
                held.empty_log()

    def close(self) -> None:
        """Ends the use of all databases, whose engines are closed by now, and gives the lock back."""
        for held in reversed(list(self._in_use.values())):
            held.end()
        self._in_use.clear()
        self._lock.release()
        atexit.unregister(self.close)

    def leave_in_use(self) -> None:
        """Leaves everything as a kill does, for what may still commit to a database.

        The databases keep saying that they are in use, and the lock stays until the process ends.
        """
        atexit.unregister(self.close)

    def _find_identity(self) -> str:
        marks = self._in_use.get(DOCUMENTS)
        found = marks.read().get("identity") if marks is not None else self._state.identity
        return found or uuid.uuid4().hex

    def _check(self, accept_loss: str) -> StartState:
        with _translate_errors():
            state = examine(self.path)
        if not state.findings:
            return state
        if accept_loss != state.code:
            raise make_refusal(self.path, state)
        lost = {finding.lost for finding in state.findings} - {""}
        for finding in state.findings:
            logger.warning("going on as the operator has accepted: %s", finding.message)
        if DOCUMENTS in lost:
            lost = {DOCUMENTS, *CONTENT}
        for name in sorted(lost):
            for suffix in _DATABASE_FILES:
                self.quarantine.take(
                    self.path / f"{name}{suffix}", "the operator accepted its loss", read_wall_us()
                )
        return StartState() if DOCUMENTS in lost else state


@contextlib.contextmanager
def _translate_errors() -> Iterator[None]:
    """Turns what a database says of a full or damaged disk into an error that an operator can act on."""
    try:
        yield
    except (sqlite3.Error, sa.exc.SQLAlchemyError) as error:
        raise to_typed_error(error) from error


def remove_folder(folder: Path) -> None:
    """Deletes ``folder`` and what is in it; one that is not there is fine."""
    if folder.exists():
        shutil.rmtree(folder)


def _keep_keys_above(engine: sa.Engine, highest_key: int) -> None:
    """Keeps new collections from getting a key that something in the folder belongs to already."""
    raised = "UPDATE sqlite_sequence SET seq = MAX(seq, ?) WHERE name = 'collections'"
    with engine.begin() as connection:
        if highest_key and not connection.exec_driver_sql(raised, (highest_key,)).rowcount:
            connection.exec_driver_sql(
                "INSERT INTO sqlite_sequence VALUES ('collections', ?)", (highest_key,)
            )


def _close_to_others(path: Path) -> None:
    """Lets nobody but the server's user into the folder, nor at what an earlier server has left in it.

    In a folder that all users share it closes the databases alone: the rest may be theirs.
    """
    shared = bool(path.stat().st_mode & stat.S_ISVTX)
    if shared:
        logger.warning("%s is a folder that all users share: give Quarry one of its own", path)
    left_open = sum(make_private(part) for part in (path.glob("*.db*") if shared else [path]))
    if left_open:
        logger.warning("others may read %d parts of %s, which belong to another user", left_open, path)
