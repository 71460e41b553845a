"""What a cache writes is there as a whole, or not at all."""

import sqlite3
from pathlib import Path

import pytest

from quarry.storage.cache_file import CacheFile, write_whole

SCHEMA = "CREATE TABLE IF NOT EXISTS word (text TEXT)"


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError, sqlite3.IntegrityError])
def test_a_write_that_anything_ends_is_undone_and_keeps_no_later_one_from_its_work(
    tmp_path: Path, failure: type[BaseException]
) -> None:
    def put(word: str, raised: BaseException | None = None) -> None:
        def write(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO word VALUES (?)", (word,))
            if raised is not None:
                raise raised

        file.run(lambda connection: write_whole(connection, write), None)

    file = CacheFile(tmp_path / "words.db", SCHEMA, "cache of words")
    with pytest.raises(failure):
        put("half", failure())
    put("whole")
    assert file.run(lambda c: c.execute("SELECT text FROM word").fetchall(), []) == [("whole",)]
    file.close()
