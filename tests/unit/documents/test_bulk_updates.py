"""Changes by filter: all that match, once each, beside other writes, and counted whole after a break."""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.unit.documents.database import new_collection

from quarry.documents import bulk_updates, log
from quarry.documents.bulk_updates import BulkProgress, Refusal
from quarry.documents.log import Upsert
from quarry.documents.store import Database, DocumentLog, RequestId
from quarry.documents.tables import open_database
from quarry.errors import OutOfRangeError, RequestIdReusedError
from quarry.filters import AllOf, EqualTo, Filter
from quarry.types import Fields

CHEAP = EqualTo("cheap", True)
ALL: Filter = AllOf(())
NO_ID = RequestId("", "update-by-filter", b"")


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_updates, "BATCH", 3)
    monkeypatch.setattr(bulk_updates, "SCANNED", 5)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(open_database(tmp_path / "documents.db"))
    yield database
    database.close()


@pytest.fixture
def documents(database: Database) -> DocumentLog:
    """Twenty documents, every second one cheap."""
    key = new_collection(database.engine)
    upserts = [Upsert(f"d{n:02}", {"cheap": n % 2 == 0, "n": n}) for n in range(20)]
    with database.engine.begin() as connection:
        log.upsert_documents(connection, key, upserts)
    return DocumentLog(database, key)


def sell(fields: Fields) -> Fields:
    return {**fields, "sold": True}


async def run(
    documents: DocumentLog, request: RequestId, filter: Filter = CHEAP, change: Any = sell, batches: int = 99
) -> BulkProgress:
    """Changes at most so many batches, from where the request was."""
    progress = documents.recall_update(request)
    for _ in range(batches):
        if progress.done:
            break
        progress = await documents.update_batch(filter, change, request, progress)
    return progress


def sold(documents: DocumentLog) -> list[str]:
    found, _ = documents.read_page("", 1_000, 2**30, EqualTo("sold", True))
    return [document.id for document in found]


async def test_all_that_match_are_changed_and_counted(documents: DocumentLog) -> None:
    done = await run(documents, NO_ID)
    assert (done.matched, done.updated, done.refused, done.done) == (10, 10, 0, True)
    assert sold(documents) == [f"d{n:02}" for n in range(0, 20, 2)]
    assert done.sequence == documents.read_last_sequence() == 30
    assert documents.count(30) == 20


async def test_what_would_not_change_is_not_written(documents: DocumentLog) -> None:
    await run(documents, NO_ID)
    again = await run(documents, NO_ID)
    assert (again.matched, again.updated, again.sequence) == (10, 0, 0)
    assert documents.read_last_sequence() == 30


async def test_a_change_that_ends_the_match_loses_none(documents: DocumentLog) -> None:
    done = await run(documents, NO_ID, change=lambda fields: {**fields, "cheap": False})
    assert done.updated == 10
    assert (await run(documents, NO_ID)).matched == 0


async def test_the_same_request_goes_on_and_counts_all(documents: DocumentLog) -> None:
    request = RequestId("r", "update-by-filter", b"request")
    first = await run(documents, request, batches=2)
    assert 0 < first.updated < 10
    assert not first.done
    done = await run(documents, request)
    assert (done.matched, done.updated, done.done) == (10, 10, True)
    assert documents.read_last_sequence() == 30, "no document was written twice"
    assert await run(documents, request) == done
    assert documents.read_last_sequence() == 30
    with pytest.raises(RequestIdReusedError):
        await run(documents, RequestId("r", "update-by-filter", b"another"))


async def test_two_calls_of_one_request_change_each_document_once(documents: DocumentLog) -> None:
    request = RequestId("r", "update-by-filter", b"request")
    behind = documents.recall_update(request)
    ahead = await run(documents, request, batches=1)
    assert await documents.update_batch(CHEAP, sell, request, behind) == ahead
    assert (await run(documents, request)).updated == 10


async def test_what_no_longer_matches_when_its_turn_comes_stays(
    documents: DocumentLog, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another write comes between the look and the change."""
    look = bulk_updates.find_matching

    def look_then_lose(connection: sa.Connection, key: int, *arguments: Any) -> Any:
        found = look(connection, key, *arguments)
        if "d00" in found.ids:
            with database.engine.begin() as other:
                log.upsert_documents(other, key, [Upsert("d00", {"cheap": False})])
                log.delete_documents(other, key, ["d02"])
        return found

    monkeypatch.setattr("quarry.documents.store.find_matching", look_then_lose)
    done = await run(documents, NO_ID)
    assert (done.matched, done.updated) == (8, 8)
    assert sold(documents)[:2] == ["d04", "d06"]


async def test_what_a_change_does_not_fit_stays_and_is_named(documents: DocumentLog) -> None:
    def change(fields: Fields) -> Fields:
        if fields["n"] == 4:
            raise OutOfRangeError("document.fields", "would be too large")
        return sell(fields)

    request = RequestId("r", "update-by-filter", b"request")
    await run(documents, request, change=change, batches=3)
    done = await run(documents, request, change=change)
    assert (done.matched, done.updated, done.refused) == (10, 9, 1)
    reason = "VALUE_OUT_OF_RANGE"
    assert done.refusals == (Refusal("d04", "document.fields", "would be too large", reason),)
    assert "d04" not in sold(documents)


async def test_refusals_are_counted_and_bounded(
    documents: DocumentLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(fields: Fields) -> Fields:
        raise OutOfRangeError("document.fields", "would be too large")

    monkeypatch.setattr(bulk_updates, "MAX_REFUSALS", 4)
    done = await run(documents, NO_ID, filter=ALL, change=change)
    assert (done.matched, done.updated, done.refused, len(done.refusals)) == (20, 0, 20, 4)


async def test_nothing_to_change_is_done_at_once(documents: DocumentLog) -> None:
    done = await run(documents, NO_ID, filter=EqualTo("cheap", "never"))
    assert (done.matched, done.updated, done.done) == (0, 0, True)


async def test_large_documents_are_changed_a_few_at_a_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory holds neither all that one batch may change nor all that follows in the log."""
    monkeypatch.setattr(bulk_updates, "BATCH", 200)
    monkeypatch.setattr(bulk_updates, "SCANNED", 5_000)
    monkeypatch.setattr(bulk_updates, "BATCH_BYTES", 2**20)
    key = new_collection(database.engine)
    for n in range(80):
        with database.engine.begin() as connection:
            log.upsert_documents(connection, key, [Upsert(f"d{n:02}", {"text": "x" * 2**20})])
    tracemalloc.start()
    try:
        done = await run(DocumentLog(database, key), NO_ID, filter=ALL)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (done.matched, done.updated, done.done) == (80, 80, True)
    assert peak_bytes < 40 * 2**20
