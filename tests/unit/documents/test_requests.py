from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.unit.documents.database import new_collection, new_database, upsert

from quarry.documents import log, requests
from quarry.documents.catalog import delete_collection, read_now_us
from quarry.documents.log import WriteOutcome
from quarry.documents.outcomes import dump_outcomes, load_outcomes
from quarry.documents.requests import LIFETIME_US, check_request_id, run_once
from quarry.documents.store import Database, DocumentLog, RequestId
from quarry.documents.tables import marks
from quarry.errors import ConflictError, DocumentNotFoundError, InvalidArgumentError
from quarry.storage.trusted_clock import MARK


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    with new_database(tmp_path / "documents.db") as engine:
        yield engine


class Counter:
    """A write that says how often it was done."""

    def __init__(self) -> None:
        self.done = 0

    def __call__(self, connection: sa.Connection) -> int:
        self.done += 1
        return self.done


def sent(
    engine: sa.Engine, write: Counter, id: str, request: bytes = b"body", scope: str = "1/upsert"
) -> int:
    with engine.begin() as connection:
        return run_once(connection, scope, id, request, write, dump=lambda n: b"%d" % n, load=int)


def test_a_repeated_request_is_answered_as_the_first_time_and_does_nothing(engine: sa.Engine) -> None:
    write = Counter()
    assert [sent(engine, write, "id") for _ in range(3)] == [1, 1, 1]
    assert write.done == 1


def test_another_request_under_the_same_id_is_refused(engine: sa.Engine) -> None:
    write = Counter()
    sent(engine, write, "id")
    with pytest.raises(InvalidArgumentError, match="request_id: was used before"):
        sent(engine, write, "id", b"another body")
    assert write.done == 1


def test_ids_of_other_methods_and_collections_are_other_ids(engine: sa.Engine) -> None:
    write = Counter()
    assert [sent(engine, write, "id", scope=scope) for scope in ("1/upsert", "1/delete", "2/upsert")] == [
        1,
        2,
        3,
    ]


def test_a_request_without_an_id_is_done_every_time(engine: sa.Engine) -> None:
    write = Counter()
    assert [sent(engine, write, "") for _ in range(2)] == [1, 2]


def test_an_id_whose_write_failed_can_be_used_again(engine: sa.Engine) -> None:
    def fail(connection: sa.Connection) -> int:
        raise DocumentNotFoundError("a")

    with pytest.raises(DocumentNotFoundError), engine.begin() as connection:
        run_once(connection, "1/update", "id", b"body", fail, dump=lambda n: b"", load=int)
    assert sent(engine, Counter(), "id", scope="1/update") == 1


def test_an_id_is_forgotten_after_a_day(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    write, now = Counter(), 1_700_000_000_000_000
    for moment, answer in ((0, 1), (LIFETIME_US, 1), (LIFETIME_US + 1, 2), (LIFETIME_US + 2, 2)):
        monkeypatch.setattr(requests, "read_now_us", lambda moment=moment: now + moment)
        assert sent(engine, write, "id") == answer


def test_a_clock_that_jumps_ahead_does_not_let_a_retry_write_twice(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, now = Counter(), read_now_us()
    assert sent(engine, write, "id") == 1
    with engine.begin() as connection:
        connection.execute(sa.insert(marks).values(name=MARK, value=f"{now},{now}"))
    monkeypatch.setattr(requests, "read_now_us", lambda: now + 365 * LIFETIME_US)
    assert sent(engine, write, "id") == 1
    assert write.done == 1


@pytest.mark.parametrize("id", ["x" * 37, "tab\t", "é", " ", "\x00"])
def test_an_id_that_cannot_be_one_is_refused(id: str) -> None:
    with pytest.raises(InvalidArgumentError):
        check_request_id(id)


def test_outcomes_are_remembered_with_their_errors() -> None:
    outcomes = [
        WriteOutcome("a", 7),
        WriteOutcome("b", error=DocumentNotFoundError("b")),
        WriteOutcome("c", error=ConflictError("the document 'c' has changed", document_id="c")),
    ]
    for before, after in zip(outcomes, load_outcomes(dump_outcomes(outcomes)), strict=True):
        assert (after.id, after.version) == (before.id, before.version)
        assert type(after.error) is type(before.error)
        assert str(after.error) == str(before.error)


async def test_a_repeated_write_is_not_undone_by_what_came_between(engine: sa.Engine) -> None:
    key = new_collection(engine)
    database = Database(engine)
    documents = DocumentLog(database, key)
    request = RequestId("id", "upsert", b"a is 1")
    first = await documents.upsert([upsert("a", 1)], request)
    await documents.upsert([upsert("a", 2)], RequestId("", "upsert", b""))
    assert await documents.upsert([upsert("a", 1)], request) == first
    with engine.connect() as connection:
        found = log.get_document(connection, key, "a")
        assert found is not None and found.fields == {"number": 2}
    database.writer.close()


def test_a_deleted_collection_takes_its_requests_along_and_no_others_and_reads_no_others(
    engine: sa.Engine,
) -> None:
    assert new_collection(engine) == 1
    for scope in ("1/upsert", "10/upsert", "1", "2/upsert", "create-collection"):
        sent(engine, Counter(), "id", scope=scope)
    plans: list[str] = []

    def explain(
        connection: sa.Connection, _: object, statement: str, parameters: tuple[str], *__: object
    ) -> None:
        if statement.startswith("DELETE FROM requests"):
            (step,) = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.append(step[-1])

    with engine.begin() as connection:
        sa.event.listen(connection, "before_cursor_execute", explain)
        delete_collection(connection, "things", None)
        left = connection.execute(sa.select(requests.requests.c.scope)).scalars().all()
    assert sorted(left) == ["1", "10/upsert", "2/upsert", "create-collection"]
    assert [plan.partition(" (")[0] for plan in plans] == [
        "SEARCH requests USING INDEX sqlite_autoindex_requests_1"
    ]
