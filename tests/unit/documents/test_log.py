from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.documents.database import new_collection, new_database, upsert, writing

from quarry.documents import catalog, log
from quarry.documents.tables import open_database
from quarry.errors import CollectionNotFoundError, ConflictError, DocumentNotFoundError
from quarry.filters import EqualTo
from quarry.schema import DEFAULT_SCHEMA
from quarry.types import Change

ALL = 2**31


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    with new_database(tmp_path / "documents.db") as engine:
        yield engine


@pytest.fixture
def key(engine: sa.Engine) -> int:
    return new_collection(engine)


def changes(connection: sa.Connection, key: int, after: int = 0) -> list[Change]:
    return log.read_changes(connection, key, after, ALL, ALL)


def document_count(connection: sa.Connection) -> int:
    return catalog.get_collection(connection, "things").document_count


# order


def test_a_writer_gets_no_sequence_number_while_another_has_not_committed(
    engine: sa.Engine, key: int, tmp_path: Path
) -> None:
    """Else the later number could be committed first, and a follower that has read it skip the earlier."""
    other = open_database(tmp_path / "documents.db")
    with engine.connect() as first, other.connect() as second:
        log.upsert_documents(first, key, [upsert("a")])
        second.exec_driver_sql("PRAGMA busy_timeout = 0")
        with pytest.raises(sa.exc.OperationalError, match="locked"):
            log.upsert_documents(second, key, [upsert("b")])
        second.rollback()
        assert changes(second, key) == []
        second.rollback()
        first.commit()
        (outcome,) = log.upsert_documents(second, key, [upsert("b")])
        assert outcome.version == 2
        second.commit()
        assert [change.version for change in changes(first, key)] == [1, 2]
    other.dispose()


@pytest.mark.parametrize("kind", ["upsert", "delete", "delete_by_filter", "update"])
def test_every_write_begins_by_locking_its_collections_row(engine: sa.Engine, key: int, kind: str) -> None:
    """On a database with row locks nothing but this keeps commits in the order of their numbers."""
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    with engine.begin() as connection:
        log.upsert_documents(connection, key, [upsert("a")])
        sa.event.listen(engine, "before_cursor_execute", note)
        match kind:
            case "upsert":
                log.upsert_documents(connection, key, [upsert("a")])
            case "delete":
                log.delete_documents(connection, key, ["a"])
            case "delete_by_filter":
                log.delete_by_filter(connection, key, EqualTo("number", 0))
            case "update":
                log.update_document(connection, key, "a", lambda fields: fields, None, allow_missing=False)
    assert statements[0].startswith("UPDATE collections SET last_sequence=")
    assert statements[0].endswith("RETURNING last_sequence")


def test_a_document_written_again_moves_to_the_end_of_the_log(engine: sa.Engine, key: int) -> None:
    with engine.begin() as connection:
        log.upsert_documents(connection, key, [upsert("a", 1), upsert("b", 2)])
        log.upsert_documents(connection, key, [upsert("a", 3)])
        assert [(c.version, c.fields) for c in changes(connection, key)] == [
            (2, {"number": 2}),
            (3, {"number": 3}),
        ]


def test_of_two_documents_with_one_id_in_a_batch_the_later_wins(engine: sa.Engine, key: int) -> None:
    with engine.begin() as connection:
        outcomes = log.upsert_documents(connection, key, [upsert("a", 1), upsert("b", 0), upsert("a", 2)])
        assert [outcome.version for outcome in outcomes] == [1, 2, 3]
        assert [(c.version, c.fields) for c in changes(connection, key)] == [
            (2, {"number": 0}),
            (3, {"number": 2}),
        ]
        assert document_count(connection) == 2


def test_numbers_that_refused_writes_had_reserved_are_used_by_the_next(engine: sa.Engine, key: int) -> None:
    with engine.begin() as connection:
        refused, written = log.upsert_documents(connection, key, [upsert("a", if_version=9), upsert("b")])
        assert isinstance(refused.error, ConflictError)
        assert written.version == 1
        assert log.read_last_sequence(connection, key) == 1


# deletion


def test_a_deleted_document_stays_as_a_row_without_content(engine: sa.Engine, key: int) -> None:
    with engine.begin() as connection:
        log.upsert_documents(connection, key, [upsert("a", 1)])
        (before,) = changes(connection, key)
        log.delete_documents(connection, key, ["a"])
        assert changes(connection, key) == [Change(before.docno, 2, None)]
        assert log.get_document(connection, key, "a") is None
        assert list(log.read_versions(connection, key)) == [(before.docno, "a", 2, True)]
        assert log.read_documents(connection, [before.docno]) == {}
        assert document_count(connection) == 0


def test_the_first_deletion_is_found_without_reading_the_documents_before_it(
    engine: sa.Engine, key: int
) -> None:
    with engine.begin() as connection:
        log.upsert_documents(connection, key, [upsert(id) for id in "abc"])
        log.delete_documents(connection, key, ["b"])
        first = connection.scalar(sa.text("SELECT update_time_us FROM documents WHERE id = 'b'"))
        log.delete_documents(connection, key, ["a"])
    asked: list[tuple[str, Any]] = []
    with engine.connect() as connection:

        def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            asked.append((statement, parameters))

        sa.event.listen(connection, "before_cursor_execute", note)
        assert log.find_deletion(connection, key, 0, 5) == first
        assert log.find_deletion(connection, key, 0, 3) is log.find_deletion(connection, key, 5, 9) is None
        statement, parameters = asked[-1]
        (step,) = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
    assert "USING INDEX documents_deleted (collection_id=? AND version>? AND version<?)" in step[-1]


def test_a_document_born_again_keeps_its_docno_and_counts_once(engine: sa.Engine, key: int) -> None:
    with engine.begin() as connection:
        log.upsert_documents(connection, key, [upsert("a", 1)])
        (first,) = changes(connection, key)
        log.delete_documents(connection, key, ["a"])
        (born,) = log.upsert_documents(connection, key, [upsert("a", 2, if_version=0)])
        assert born.error is None
        assert changes(connection, key) == [Change(first.docno, 3, {"number": 2})]
        assert document_count(connection) == 1


def test_documents_are_found_by_id_in_their_collection_if_they_exist(engine: sa.Engine, key: int) -> None:
    with engine.begin() as connection:
        log.upsert_documents(connection, key, [upsert("a"), upsert("gone"), upsert("b")])
        log.delete_documents(connection, key, ["gone"])
        (a, version), (b, _) = (log.find_docnos(connection, key, ["b", "a", "gone", "z"])[id] for id in "ab")
        assert log.find_docnos(connection, key, ["gone", "z"]) == {}
        assert log.read_ids(connection, [a, b])[a] == ("a", version)
        assert log.find_docnos(connection, key + 1, ["a"]) == {}


def test_deleting_what_is_not_there_is_an_error_of_that_document_alone(engine: sa.Engine, key: int) -> None:
    with engine.begin() as connection:
        log.upsert_documents(connection, key, [upsert("a")])
        outcomes = log.delete_documents(connection, key, ["a", "b", "a"])
        assert [type(outcome.error) for outcome in outcomes] == [
            type(None),
            DocumentNotFoundError,
            DocumentNotFoundError,
        ]
        assert log.read_last_sequence(connection, key) == 2


def test_an_update_keeps_what_it_does_not_name(engine: sa.Engine, key: int) -> None:
    with engine.begin() as connection:
        log.upsert_documents(connection, key, [upsert("a", 1)])
        written = log.update_document(
            connection, key, "a", lambda fields: {**fields, "colour": "red"}, 1, allow_missing=False
        )
        assert (written.fields, written.version) == ({"number": 1, "colour": "red"}, 2)
        with pytest.raises(ConflictError):
            log.update_document(connection, key, "a", lambda fields: fields, 1, allow_missing=False)
        with pytest.raises(DocumentNotFoundError):
            log.update_document(connection, key, "b", lambda fields: fields, None, allow_missing=False)


def test_a_collection_that_is_gone_takes_no_writes(engine: sa.Engine, key: int) -> None:
    with engine.begin() as connection:
        catalog.delete_collection(connection, "things", None)
        with pytest.raises(CollectionNotFoundError):
            log.upsert_documents(connection, key, [upsert("a")])


def test_collections_do_not_see_each_others_documents(engine: sa.Engine, key: int) -> None:
    other = new_collection(engine, "others")
    with engine.begin() as connection:
        log.upsert_documents(connection, key, [upsert("a")])
        log.upsert_documents(connection, other, [upsert("a"), upsert("b")])
        assert [change.version for change in changes(connection, key)] == [1]
        assert [change.version for change in changes(connection, other)] == [1, 2]
        log.delete_by_filter(connection, other, EqualTo("number", 0))
        assert document_count(connection) == 1


# reading on


def test_a_reading_ends_after_the_change_that_fills_it(engine: sa.Engine, key: int) -> None:
    size = len(b'{"number":0}')
    with engine.begin() as connection:
        log.upsert_documents(connection, key, [upsert(f"{n}") for n in range(10)])

        def versions(after: int, rows: int, size: int) -> list[int]:
            return [change.version for change in log.read_changes(connection, key, after, rows, size)]

        assert versions(0, 10, 1) == [1]  # always one, however large
        assert versions(0, 10, 2 * size) == [1, 2]
        assert versions(0, 10, 2 * size + 1) == [1, 2, 3]
        assert versions(4, 3, ALL) == [5, 6, 7]
        assert versions(10, 10, ALL) == []


ids = st.sampled_from("abcde")
writes = st.lists(
    st.one_of(
        st.tuples(st.just("upsert"), st.lists(ids, min_size=1, max_size=4)),
        st.tuples(st.just("delete"), st.lists(ids, min_size=1, max_size=4)),
        st.tuples(st.just("delete where odd"), st.just([])),
    ),
    max_size=15,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(history=writes, rows=st.integers(1, 4))
def test_whoever_applies_the_changes_has_what_the_log_has(
    engine: sa.Engine, history: list[tuple[str, list[str]]], rows: int
) -> None:
    """However the reading is cut, and wherever between the writes it begins."""
    with writing(engine).connect() as connection, connection.begin():
        catalog.create_collection(
            connection, catalog.CollectionSettings("model", DEFAULT_SCHEMA, catalog.NO_ENCODER)
        )
        key = catalog.get_collection(connection, "model").key
        index: dict[int, dict[str, Any]] = {}
        truth: dict[str, int] = {}
        read = number = 0
        for kind, named in history:
            if kind == "upsert":
                number += 1
                log.upsert_documents(connection, key, [upsert(id, number) for id in named])
                truth |= dict.fromkeys(named, number)
            elif kind == "delete":
                log.delete_documents(connection, key, named)
                truth = {id: n for id, n in truth.items() if id not in named}
            else:
                log.delete_by_filter(connection, key, EqualTo("number", 1))
                truth = {id: n for id, n in truth.items() if n != 1}
            for change in log.read_changes(connection, key, read, rows, ALL):
                read = follow(index, change, read)
        while some := log.read_changes(connection, key, read, rows, ALL):
            for change in some:
                read = follow(index, change, read)
        assert read == log.read_last_sequence(connection, key)
        assert sorted(fields["number"] for fields in index.values()) == sorted(truth.values())
        assert catalog.get_collection(connection, "model").document_count == len(truth)
        names = {
            id: index[docno]["number"]
            for docno, id, _, gone in log.read_versions(connection, key)
            if not gone
        }
        assert names == truth
        catalog.delete_collection(connection, "model", None)


def follow(index: dict[int, dict[str, Any]], change: Change, read: int) -> int:
    assert change.version > read
    if change.fields is None:
        index.pop(change.docno, None)
    else:
        index[change.docno] = change.fields
    return change.version
