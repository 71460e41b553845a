"""What is warned of: documents that no query can find, and fields that nothing reads."""

import pytest

from quarry.documents.upsert_checker import UpsertChecker
from quarry.schema import DEFAULT_SCHEMA, Field, FieldType, Schema, UnknownFields
from quarry.types import Fields
from quarry.upsert_warnings import MAX_FIELDS_NAMED, MAX_IDS_NAMED, UpsertWarning, WarningKind

SILENT, UNKNOWN = WarningKind.NO_SEARCHED_TEXT, WarningKind.UNKNOWN_FIELDS
SCHEMA = Schema(
    (
        Field("name", FieldType.TEXT, is_title=True),
        Field("read", FieldType.TEXT, searchable=False),
        Field("matched", FieldType.TEXT, embedded=False),
        Field("kept", FieldType.TEXT, searchable=False, embedded=False),
        Field("brand", FieldType.KEYWORD),
    ),
    UnknownFields.STORE,
)


def find(
    *documents: Fields, schema: Schema = SCHEMA, encoded: bool = True
) -> dict[WarningKind, UpsertWarning]:
    named = [(f"d{number}", fields) for number, fields in enumerate(documents)]
    return {warning.kind: warning for warning in UpsertChecker(schema, encoded).find(named)}


def test_a_csv_of_other_columns_is_warned_of_twice() -> None:
    """The file of the first ten minutes: id, name, description, price."""
    row: Fields = {"name": "lamp", "description": "a red lamp", "price": "7"}
    found = find(row, row, schema=DEFAULT_SCHEMA)
    assert found[SILENT] == UpsertWarning(SILENT, 2, ("text", "title"), 2, ("d0", "d1"))
    assert found[UNKNOWN] == UpsertWarning(UNKNOWN, 2, ("description", "name", "price"), 3, ("d0", "d1"))


@pytest.mark.parametrize(
    ("fields", "encoded", "silent"),
    [
        ({"name": "lamp"}, True, False),
        ({"read": "lamp"}, True, False),
        ({"read": "lamp"}, False, True),
        ({"matched": "lamp"}, False, False),
        ({"kept": "lamp"}, True, True),
        ({"brand": "lamp"}, True, True),
        ({"name": " \n", "matched": ["", "\t"]}, True, True),
        ({"matched": ["", "lamp"]}, True, False),
        ({}, True, True),
    ],
)
def test_what_no_arm_reads_is_silent(fields: Fields, encoded: bool, silent: bool) -> None:
    assert (SILENT in find(fields, encoded=encoded)) == silent


def test_documents_that_are_right_are_not_warned_of() -> None:
    assert find({"name": "lamp", "brand": "x"}) == {}
    assert find() == {}


def test_names_and_ids_are_bounded_and_counted() -> None:
    many: Fields = {f"f{number:03}": "x" for number in range(100)}
    found = find(*[{"name": "lamp", **many}] * 50)[UNKNOWN]
    assert (found.documents, found.field_count) == (50, 100)
    assert (len(found.fields), len(found.sample_ids)) == (MAX_FIELDS_NAMED, MAX_IDS_NAMED)
    joined = found.join(found)
    assert (joined.documents, joined.field_count, joined.fields) == (100, 100, found.fields)
    assert len(joined.sample_ids) == MAX_IDS_NAMED
    assert len(str(joined)) < 4_000


def test_the_sentence_says_what_to_do() -> None:
    said = str(find({"price": 7}, schema=DEFAULT_SCHEMA)[SILENT])
    assert said.startswith("1 document has no text in a field that is searched: text, title (such as 'd0').")
    assert "No query can find it, by words or by meaning." in said
    keywords = Schema((Field("brand", FieldType.KEYWORD),))
    assert "there is none" in str(find({"brand": "x"}, schema=keywords)[SILENT])
