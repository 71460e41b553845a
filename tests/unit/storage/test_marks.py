"""A database's file says by itself whether it is in use, so that a copy without the log is noticed."""

import shutil
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from tests.unit.documents.database import new_collection, new_database

from quarry.storage.marks import IDENTITY, IN_USE, DatabaseInUse, read_marks


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "documents.db"
    with new_database(path) as engine:
        new_collection(engine)
    yield path


def copy_without_log(path: Path) -> dict[str, str]:
    """The marks of a copy of the file alone."""
    copy = path.parent / "copy" / path.name
    copy.parent.mkdir(exist_ok=True)
    shutil.copyfile(path, copy)
    with closing(sqlite3.connect(copy)) as connection:
        return read_marks(connection)


def test_a_copy_of_the_file_alone_says_that_a_server_was_using_it(path: Path) -> None:
    use = DatabaseInUse(path)
    use.begin("this folder")
    assert copy_without_log(path) == {IDENTITY: "this folder", IN_USE: "1"}
    use.write({"clock": "7,7"})
    assert "clock" not in copy_without_log(path), "the log holds what is newest"
    use.end()
    assert copy_without_log(path) == {IDENTITY: "this folder", IN_USE: "0", "clock": "7,7"}


def test_a_use_that_is_abandoned_leaves_the_file_in_use_and_its_log(path: Path) -> None:
    use = DatabaseInUse(path)
    use.begin("this folder")
    use.write({"clock": "7,7"})
    use.abandon()
    assert use.read() == {}
    assert copy_without_log(path)[IN_USE] == "1"
    with closing(sqlite3.connect(path)) as connection:
        assert read_marks(connection)["clock"] == "7,7"


BUSY, FREE = {IN_USE: "1"}, {IN_USE: "0"}
TURN_S = 0.3
"""How long each of two threads waits for the other to come in between."""


class SlowlyWritten(DatabaseInUse):
    """Lets another thread write its mark before this one does, and after, if that may."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.emptying, self.ended, self.emptied = threading.Event(), threading.Event(), threading.Event()

    def write(self, marks: Mapping[str, str]) -> None:
        if marks == BUSY:
            self.emptying.set()
            self.ended.wait(TURN_S)
        super().write(marks)
        if marks == BUSY:
            self.emptied.set()
        if marks == FREE:
            self.ended.set()
            self.emptied.wait(TURN_S)


def test_an_end_while_the_log_is_emptied_leaves_a_file_that_says_that_it_is_whole(path: Path) -> None:
    use = SlowlyWritten(path)
    use.begin("this folder")
    change(path)
    with ThreadPoolExecutor(1) as threads:
        emptying = threads.submit(use.empty_log)
        assert use.emptying.wait(20.0)
        use.end()
        emptying.result()
    assert copy_without_log(path)[IN_USE] == "0"


def change(path: Path) -> None:
    """Writes as the server's other connections do."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO marks VALUES ('other', '1') ON CONFLICT DO UPDATE SET value = value")
        connection.commit()


def test_an_emptying_whose_mark_fails_is_done_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(marks: Mapping[str, str]) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    use = DatabaseInUse(path)
    use.begin("this folder")
    log = path.with_name(f"{path.name}-wal")
    change(path)
    with monkeypatch.context() as full:
        full.setattr(use, "write", fail)
        with pytest.raises(sqlite3.OperationalError, match="full"):
            use.empty_log()
    assert log.stat().st_size == 0
    use.empty_log()
    assert log.stat().st_size > 0, "the log keeps a little space on the disk"
    use.end()
