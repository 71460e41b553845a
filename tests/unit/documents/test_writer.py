import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.unit.documents.database import new_collection, new_database, upsert

from quarry.documents import log
from quarry.documents.writer import MAX_GROUP, GroupCommitWriter, to_typed_error
from quarry.errors import DiskFullError, DocumentNotFoundError, UnavailableError

PATIENCE_S = 30.0


class Log:
    """A log, its writer, and how many commits there were."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.key = new_collection(engine)
        self.commits = 0
        sa.event.listen(engine, "commit", self._commit)
        self.writer = GroupCommitWriter(engine)
        self._held = threading.Event()

    def _commit(self, _connection: sa.Connection) -> None:
        self.commits += 1

    def upsert(self, id: str) -> Callable[[sa.Connection], int]:
        return lambda connection: log.upsert_documents(connection, self.key, [upsert(id)])[0].version

    def hold(self) -> "Future[None]":
        """Occupies the writer, so that what is submitted next is one group."""
        entered = threading.Event()

        def stay(_connection: sa.Connection) -> None:
            entered.set()
            self._held.wait(PATIENCE_S)

        future = self.writer.submit(stay)
        assert entered.wait(PATIENCE_S)
        return future

    def release(self) -> None:
        self._held.set()

    def ids(self) -> list[str]:
        with self.engine.connect() as connection:
            return [document.id for document, _ in log.scan_documents(connection, self.key)]


@pytest.fixture
def documents(tmp_path: Path) -> Iterator[Log]:
    with new_database(tmp_path / "documents.db") as engine:
        opened = Log(engine)
        yield opened
        opened.release()
        opened.writer.close()


def test_writes_that_wait_together_are_synced_together_in_their_order(documents: Log) -> None:
    documents.hold()
    futures = [documents.writer.submit(documents.upsert(f"{n:02}")) for n in range(20)]
    before = documents.commits
    documents.release()
    assert [future.result(PATIENCE_S) for future in futures] == list(range(1, 21))
    assert documents.commits == before + 2  # the one that held the writer, and the group
    assert len(documents.ids()) == 20


def test_a_group_has_a_limit(documents: Log) -> None:
    documents.hold()
    futures = [documents.writer.submit(documents.upsert(f"{n}")) for n in range(MAX_GROUP + 1)]
    before = documents.commits
    documents.release()
    wait(futures, PATIENCE_S)
    assert documents.commits == before + 3


def test_a_write_that_fails_is_undone_alone(documents: Log) -> None:
    def fails_half_way(connection: sa.Connection) -> None:
        documents.upsert("half")(connection)
        raise DocumentNotFoundError("half")

    documents.hold()
    before = documents.writer.submit(documents.upsert("before"))
    failing = documents.writer.submit(fails_half_way)
    after = documents.writer.submit(documents.upsert("after"))
    documents.release()
    assert (before.result(PATIENCE_S), after.result(PATIENCE_S)) == (1, 2)
    with pytest.raises(DocumentNotFoundError):
        failing.result(PATIENCE_S)
    assert documents.ids() == ["after", "before"]


def test_a_write_is_answered_only_when_others_can_read_it(documents: Log) -> None:
    for n in range(20):
        documents.writer.submit(documents.upsert(f"{n:02}")).result(PATIENCE_S)
        assert len(documents.ids()) == n + 1


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("database or disk is full", DiskFullError),
        ("disk I/O error", DiskFullError),
        ("database disk image is malformed", UnavailableError),
    ],
)
def test_when_the_database_fails_every_write_of_the_group_does_and_later_ones_go_on(
    documents: Log, message: str, kind: type[Exception]
) -> None:
    failing = True

    def fail(_connection: sa.Connection) -> None:
        if failing:
            raise sqlite3.OperationalError(message)

    documents.hold().add_done_callback(lambda _: sa.event.listen(documents.engine, "commit", fail))
    futures = [documents.writer.submit(documents.upsert(id)) for id in "ab"]
    documents.release()
    for future in futures:
        with pytest.raises(kind):
            future.result(PATIENCE_S)
    assert documents.ids() == []
    failing = False
    assert documents.writer.submit(documents.upsert("c")).result(PATIENCE_S) == 1
    assert documents.ids() == ["c"]


def test_a_full_disk_is_told_from_what_followed_it() -> None:
    """SQLite may have rolled back by itself, so that the rollback is what fails in the end."""
    try:
        try:
            raise sqlite3.OperationalError("database or disk is full")
        except sqlite3.OperationalError:
            raise sqlite3.OperationalError("no such savepoint: sa_savepoint_1")  # noqa: B904
    except sqlite3.OperationalError as error:
        assert isinstance(to_typed_error(error), DiskFullError)


def test_a_cancelled_write_is_not_begun(documents: Log) -> None:
    documents.hold()
    future = documents.writer.submit(documents.upsert("a"))
    assert future.cancel()
    documents.release()
    documents.writer.submit(documents.upsert("b")).result(PATIENCE_S)
    assert documents.ids() == ["b"]


def test_what_is_queued_when_the_writer_closes_is_written_and_later_writes_are_refused(
    documents: Log,
) -> None:
    documents.hold()
    future = documents.writer.submit(documents.upsert("a"))
    documents.release()
    documents.writer.close()
    assert future.result(PATIENCE_S) == 1
    with pytest.raises(UnavailableError, match="shutting down"):
        documents.writer.submit(documents.upsert("b")).result(PATIENCE_S)
