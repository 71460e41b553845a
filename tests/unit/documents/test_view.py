"""Documents read by a schema that came after them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.documents.database import new_collection, new_database

from quarry.documents import log
from quarry.documents.log import Upsert
from quarry.documents.view import DocumentView, as_stored, check_readable, find_changed_fields, make_view
from quarry.errors import InvalidArgumentError
from quarry.schema import MAX_INTEGER, Field, FieldType, Schema, UnknownFields, check_value

ANY = st.one_of(
    st.text(max_size=20),
    st.booleans(),
    st.integers(-MAX_INTEGER, MAX_INTEGER),
    st.floats(allow_nan=False, allow_infinity=False),
)
TYPES = [kind for kind in FieldType if kind is not FieldType.TIMESTAMP]


def schema(unknown: UnknownFields = UnknownFields.REJECT, **types: FieldType) -> Schema:
    fields = [Field("text", FieldType.TEXT), *(Field(name, kind) for name, kind in types.items())]
    return Schema(tuple(fields), unknown)


def read(kind: FieldType, value: Any) -> Any:
    """``value`` as a field of this type reads it; None if it is left out."""
    return DocumentView(schema(a=kind), frozenset("a"))({"a": value}).get("a")


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (FieldType.INTEGER, "42", 42),
        (FieldType.INTEGER, "-7", -7),
        (FieldType.INTEGER, 3.0, 3),
        (FieldType.INTEGER, "007", None),
        (FieldType.INTEGER, "4 items", None),
        (FieldType.INTEGER, "9007199254740993", None),
        (FieldType.INTEGER, 3.5, None),
        (FieldType.INTEGER, True, None),
        (FieldType.FLOAT, 3, 3.0),
        (FieldType.FLOAT, "1e3", 1_000.0),
        (FieldType.FLOAT, "nan", None),
        (FieldType.FLOAT, "1e999", None),
        (FieldType.FLOAT, "١", None),
        (FieldType.BOOLEAN, "true", True),
        (FieldType.BOOLEAN, "yes", None),
        (FieldType.BOOLEAN, 1, None),
        (FieldType.KEYWORD, 7, "7"),
        (FieldType.KEYWORD, 7.0, "7"),
        (FieldType.KEYWORD, 0.5, "0.5"),
        (FieldType.KEYWORD, False, "false"),
        (FieldType.KEYWORD, "x" * 1_025, None),
        (FieldType.TEXT, ["a", "b"], ["a", "b"]),
        (FieldType.KEYWORD, [1, 2], ["1", "2"]),
        (FieldType.INTEGER, ["1", "two"], None),
    ],
)
def test_a_value_is_converted_where_it_says_one_thing(kind: FieldType, value: Any, expected: Any) -> None:
    assert read(kind, value) == expected
    assert type(read(kind, value)) is type(expected)


@given(kind=st.sampled_from(TYPES), value=ANY)
def test_what_is_read_is_valid_and_reads_the_same_again(kind: FieldType, value: Any) -> None:
    found = read(kind, value)
    if found is not None:
        assert check_value(found, kind) == found
        assert read(kind, found) == found


@given(value=ANY)
def test_a_value_that_is_made_a_keyword_comes_back(value: Any) -> None:
    kind = {str: FieldType.KEYWORD, bool: FieldType.BOOLEAN, int: FieldType.INTEGER, float: FieldType.FLOAT}
    assert read(kind[type(value)], read(FieldType.KEYWORD, value)) == value


def test_only_changed_fields_are_looked_at() -> None:
    view = DocumentView(schema(a=FieldType.INTEGER, b=FieldType.INTEGER), frozenset("a"))
    assert view({"a": "1", "b": "1", "text": "t"}) == {"a": 1, "b": "1", "text": "t"}


def test_removed_fields_are_hidden_or_kept_as_unknown_ones() -> None:
    fields = {"text": "t", "gone": "x", "never": "y"}
    assert DocumentView(schema(), frozenset({"gone"}))(fields) == {"text": "t"}
    assert DocumentView(schema(UnknownFields.STORE), frozenset({"gone"}))(fields) == fields


def test_a_schema_that_never_changed_costs_nothing() -> None:
    assert make_view(schema(), None) is as_stored


def test_changed_fields_are_those_of_another_type() -> None:
    old, new = schema(a=FieldType.INTEGER, b=FieldType.KEYWORD), schema(a=FieldType.FLOAT, c=FieldType.TEXT)
    assert find_changed_fields(old, new) == {"a", "b", "c"}
    boosted = Schema((Field("text", FieldType.TEXT, boost=3.0, language="de"),))
    assert find_changed_fields(schema(), boosted) == set()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (FieldType.INTEGER, FieldType.TIMESTAMP),
        (FieldType.TIMESTAMP, FieldType.INTEGER),
        (None, FieldType.TIMESTAMP),
    ],
)
def test_a_number_never_becomes_a_moment(old: FieldType | None, new: FieldType) -> None:
    before = schema(UnknownFields.STORE, **({} if old is None else {"a": old}))
    view = DocumentView(schema(a=new), frozenset("a"))
    view.check({"text": "no value"}, before)
    with pytest.raises(InvalidArgumentError, match="a: has a value"):
        view.check({"a": 5}, before)


def test_a_moment_does_not_become_an_unknown_number() -> None:
    with pytest.raises(InvalidArgumentError):
        check_readable(schema(a=FieldType.TIMESTAMP), schema(UnknownFields.STORE))
    check_readable(schema(a=FieldType.TIMESTAMP), schema())


def test_what_a_schema_has_hidden_comes_back_only_where_it_came_from() -> None:
    view = DocumentView(schema(a=FieldType.INTEGER), frozenset("a"))
    with pytest.raises(InvalidArgumentError, match="before this field was removed"):
        view.check({"a": 1_700_000_000_000_000}, schema())
    view.check({"a": 1_700_000_000_000_000}, schema(), returning=True)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    with new_database(tmp_path / "documents.db") as engine:
        yield engine


def test_the_first_document_that_does_not_fit_is_named(engine: sa.Engine) -> None:
    key, other = new_collection(engine), new_collection(engine, "others")
    view = DocumentView(schema(a=FieldType.INTEGER), frozenset("a"))

    def check(fields: Any) -> None:
        view.check(fields, schema(a=FieldType.KEYWORD))

    with engine.begin() as connection:
        log.upsert_documents(connection, other, [Upsert("stranger", {"a": "no"})])
        log.upsert_documents(connection, key, [Upsert(id, {"a": id}) for id in ("1", "two", "3", "four")])
        until, problem = log.find_first_unfit(connection, key, 0, check)
        assert (until, problem and problem.metadata) == (0, {"document_id": "two", "field": "a"})
        log.delete_documents(connection, key, ["two"])
        log.upsert_documents(connection, key, [Upsert("four", {"a": "4"})])
        assert log.find_first_unfit(connection, key, 0, check) == (6, None)
        log.upsert_documents(connection, key, [Upsert("new", {"a": "x"})])
        assert log.find_first_unfit(connection, key, 6, check)[1] is not None


def test_a_sample_is_spread_over_the_log(engine: sa.Engine) -> None:
    key = new_collection(engine)
    with engine.begin() as connection:
        assert log.sample_documents(connection, key, 4) == []
        log.upsert_documents(connection, key, [Upsert(f"{n}", {"n": n}) for n in range(100)])
        assert [fields["n"] for fields in log.sample_documents(connection, key, 4)] == [0, 25, 50, 75]
        log.delete_documents(connection, key, [f"{n}" for n in range(10, 100)])
        assert len(log.sample_documents(connection, key, 4)) <= 4
        assert len(log.sample_documents(connection, key, 1_000)) == 10
