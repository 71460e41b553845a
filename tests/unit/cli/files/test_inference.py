"""A schema of the first records: careful types, and nothing that a value would lose."""

from datetime import date
from typing import Any

import pytest

from quarry.schema import MAX_INTEGER, FieldType
from quarry_cli.failures import CliError
from quarry_cli.files.inference import InferredField, SchemaWishes, infer_schema
from quarry_cli.files.shaping import to_field_name
from quarry_cli.files.value_kinds import find_type
from quarry_cli.views.schema import show_schema

SENTENCES = [f"Shoe number {n} has a light sole and a deep grip for wet rock" for n in range(30)]


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("a", [True, False], "boolean"),
        ("a", ["true", "FALSE"], "boolean"),
        ("a", ["yes", "no"], "keyword"),
        ("a", ["0", "1"], "integer"),
        ("a", [1, "2"], "integer"),
        ("a", ["12", " 13 "], "integer"),
        ("price", ["119", "139"], "float"),  # amounts have fractions sooner or later
        ("unitPrice", [119, 139], "float"),
        ("a", ["1", "2.5"], "float"),
        ("a", [1, 2.5], "float"),
        ("a", ["1.5e+05", "-.5"], "float"),
        ("a", ["1", "NaN", "2"], "integer"),
        ("a", ["1.5", "nan"], "float"),
        ("a", ["nan", "nan"], "keyword"),
        ("zip", ["01234", "11234"], "keyword"),  # a number would lose the zero
        ("a", ["007.5", "1.5"], "keyword"),
        ("a", ["1e5", "2e7"], "keyword"),  # as likely the beginnings of hashes
        ("a", ["1", "n/a"], "keyword"),
        ("a", [1, "x", 2.5, True], "keyword"),
        ("a", [MAX_INTEGER], "integer"),
        ("a", [MAX_INTEGER + 1, 1], "keyword"),
        ("a", [str(MAX_INTEGER + 1)], "keyword"),
        ("a", ["123456789012345678901234567890"], "keyword"),
        ("a", [float("inf"), 1.0], "keyword"),
        ("a", ["2024-01-31", "2024-01-31T10:00:00Z", "2024-01-31 10:00:00.5+02:00"], "timestamp"),
        ("a", [date(2024, 1, 31)], "timestamp"),
        ("a", ["20240131", "20240201"], "integer"),
        ("a", ["31/01/2024"], "keyword"),
        ("a", ["2024-13-01"], "keyword"),
        ("a", ["2024-01-31", "unknown"], "keyword"),
        ("a", ["https://a.example/x y".replace(" ", "-"), "http://b.example"], "keyword"),
        ("a", ["ann@example.org", "bo@example.org"], "keyword"),
        ("a", SENTENCES, "text"),
        ("a", ["x" * 1_025], "text"),
        ("a", ["Trail running shoe", "Hiking boot", "Rain jacket"], "text"),
        ("a", ["red", "green", "blue"], "keyword"),
        ("a", ["dark blue", "dark red"] * 20, "keyword"),
        ("category", ["Men's shoes", "Women's shoes", "Socks"], "keyword"),
        ("description", ["waterproof", "warm"], "text"),
        ("a", ["備份資料庫的方法", "還原資料庫的步驟", "刪除使用者帳號"], "text"),
        ("a", ["\ud800 half a pair"], "text"),
    ],
)
def test_the_type_is_the_narrowest_that_loses_nothing(name: str, values: list[Any], kind: str) -> None:
    assert find_type(name, values) == FieldType(kind)


def infer(*records: dict[str, Any], **wishes: Any) -> dict[str, InferredField]:
    return {field.name: field for field in infer_schema(records, SchemaWishes(**wishes)).fields}


def test_the_title_is_found_by_its_name_the_best_one_first() -> None:
    assert infer({"name": "a b", "title": "c"})["title"].is_title
    assert not infer({"name": "a b", "title": "c"})["name"].is_title
    assert infer({"Headline": "a b"})["Headline"].is_title
    assert not any(field.is_title for field in infer({"text": "a b", "filename": "c"}).values())
    assert not any(field.is_title for field in infer({"text": "a b", "name": 7}).values())


@pytest.mark.parametrize(
    "name", ["Título", "TITRE", "Titel", "titolo", "título", "Nombre", "nom", "Nome", "Name"]
)
def test_a_title_in_another_language_is_searched(name: str) -> None:
    for field in (name, to_field_name(name)):
        found = infer(*({field: word, "text": "a b"} for word in ("Uno", "Due")))[field]
        assert (found.is_title, found.searched) == (True, True)


def test_a_preview_without_a_title_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    for record, said in (({"text": "a b"}, True), ({"text": "a b", "nom": "c"}, False)):
        show_schema(infer_schema([record], SchemaWishes()), "id", {})
        assert ("no field is named like a title; --title FIELD" in capsys.readouterr().err) is said


def test_a_subject_with_few_values_is_a_label_and_no_title() -> None:
    records = [{"subject": ("maths", "physics")[n % 2], "text": SENTENCES[n]} for n in range(30)]
    subject = infer(*records)["subject"]
    assert (subject.is_title, subject.type) == (False, FieldType.KEYWORD)


def test_texts_that_are_named_are_searched_beside_the_title_and_no_others_are() -> None:
    record = {"name": "a b", "brand": "x", "notes": "several words of prose", "long": "word " * 300}
    found = infer(record, texts=("brand",))
    assert {name: (field.type.value, field.searched) for name, field in found.items()} == {
        "name": ("text", True), "brand": ("text", True), "notes": ("keyword", False), "long": ("text", False),
    }  # fmt: skip
    message = found["long"].to_message()
    assert (message.searchable, message.embedded) == (False, False)


def test_a_field_called_title_is_not_the_title_if_another_one_was_named() -> None:
    found = infer({"title": "Dr. of medicine", "label": "a b"}, title="label")
    assert found["label"].to_message().is_title
    assert found["title"].to_message().HasField("is_title")
    assert not found["title"].to_message().is_title


def test_a_field_that_is_named_has_to_be_there() -> None:
    with pytest.raises(CliError, match=r"'desciption'.* did you mean description"):
        infer({"description": "a b"}, texts=("desciption",))
    assert infer({"Product_Name": "a"}, title="Product Name")["Product_Name"].is_title


def test_a_file_without_text_is_refused_with_what_there_is() -> None:
    with pytest.raises(CliError, match=r"no field looks like text .*brand, price") as caught:
        infer({"brand": "x", "price": 3})
    assert "--text" in caught.value.hint


def test_cells_are_split_in_fields_that_are_no_text() -> None:
    records = [
        {"tags": "new|sale", "sizes": "1|2", "text": "a | b and more words to read here now"},
        {"tags": "x"},
    ]
    found = infer(*records, list_separator="|")
    assert {name: (field.type.value, field.is_list) for name, field in found.items()} == {
        "tags": ("keyword", True), "sizes": ("integer", True), "text": ("text", False),
    }  # fmt: skip


def test_fields_without_a_value_are_named_and_not_in_the_schema() -> None:
    names = ["text", "tags", "notes", "", "author"]
    found = infer_schema([{"text": "a b", "tags": [], "author.name": "x"}], SchemaWishes(), names)
    assert [field.name for field in found.fields] == ["text", "author.name"]
    assert found.empty == ("tags", "notes")
