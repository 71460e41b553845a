from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.documents.database import new_collection

from quarry.documents import field_names
from quarry.documents.field_names import FieldNames
from quarry.documents.log import Upsert
from quarry.documents.store import Database, DocumentLog, RequestId
from quarry.documents.tables import open_database
from quarry.types import Change


class CountedLog(DocumentLog):
    """A log that says from which position it was read."""

    def __init__(self, database: Database, key: int) -> None:
        super().__init__(database, key)
        self.positions: list[int] = []

    def changes(self, after: int, max_rows: int, max_bytes: int) -> list[Change]:
        self.positions.append(after)
        return super().changes(after, max_rows, max_bytes)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[CountedLog]:
    database = Database(open_database(tmp_path / "documents.db"))
    yield CountedLog(database, new_collection(database.engine))
    database.close()


async def store(log: DocumentLog, **documents: dict[str, Any]) -> None:
    await log.upsert([Upsert(id, fields) for id, fields in documents.items()], RequestId("", "Upsert", b""))


async def test_a_name_is_missing_until_a_document_has_it(log: CountedLog) -> None:
    names = FieldNames(log)
    assert await names.find_missing({"author"}) == {"author"}
    await store(log, a={"author": "Ada"}, b={"year": 1843})
    assert await names.find_missing({"author", "year", "colour"}) == {"colour"}
    await log.delete(["a"], RequestId("", "Delete", b""))
    assert await names.find_missing({"author", "colour"}) == {"colour"}


async def test_no_document_is_read_twice_nor_more_than_needed(
    log: CountedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(field_names, "CHANGES", 2)
    await store(log, a={"x": 1}, b={"x": 1}, c={"y": 1}, d={"x": 1}, e={"z": 1})
    names = FieldNames(log)
    for wanted, positions in (({"x"}, [0]), ({"x"}, [0]), ({"y"}, [0, 2]), ({"w"}, [0, 2, 4, 5])):
        assert await names.find_missing(wanted) == wanted - {"x", "y"}
        assert log.positions == positions
