"""A database's file says by itself whether it is in use, so that a copy without the log is noticed."""

import shutil
import sqlite3
from collections.abc import Iterator
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
