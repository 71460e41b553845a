"""Hints at columns that a person would clean or split: they are said, and nothing else gets one."""

from typing import Any

import pytest

from quarry_cli.files.inference import SchemaWishes, infer_schema
from quarry_cli.views.schema import show_schema

NUMBERS, DATES = "numbers with a currency sign or a comma", "dates that are not ISO 8601"


def find(name: str, values: list[Any], **wishes: Any) -> str:
    records = [{"text": "words that people search for", name: value} for value in values]
    found = infer_schema(records, SchemaWishes(texts=("text",), **wishes)).fields
    return next(field.hint for field in found if field.name == name)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["$19.99", "$5"], NUMBERS),
        (["$1,200.00", "$950.00"], NUMBERS),
        (["139,00", "1.119,50"], NUMBERS),
        (["12 €", "13,50 €"], NUMBERS),
        (["EUR 12.00", "EUR 1 200.50"], NUMBERS),
        (["-1'200.00 CHF", "99.– CHF", *["1.50 CHF"] * 18], NUMBERS),
        (["£5,-", ".50"], NUMBERS),
        (["1,200", "950"], NUMBERS),
        (["31/12/2024", "1/2/2024"], DATES),
        (["31.12.2024 10:30", "01.02.24"], DATES),
        (["2024/12/31", "2024/1/2"], DATES),
        (["31 Dec 2024", "1 February 2024"], DATES),
        (["Dec 31, 2024", "Mai 1, 2024"], DATES),
        (["a|b|c", "a"], "--list-separator '|' would make it a list"),
        (["1; 2", "3"], "--list-separator ';' would make it a list"),
    ],
)
def test_values_as_people_write_them_get_a_hint(values: list[Any], said: str) -> None:
    assert said in find("column", values)
    assert find("column", values).startswith("column ")


@pytest.mark.parametrize(
    "values",
    [
        ["19.99", "5"],
        ["01234", "11234"],
        ["2024-12-31", "2024-01-01"],
        ["red", "blue"],
        ["10.0.0.1", "10.0.0.2"],
        ["1.2.3", "1.10.2"],
        ["$", "-"],
        ["ABC", "USD"],
        ["A1,2", "B2"],
        ["$5", "by agreement", "on request"],
        ["a|b", *["c"] * 9],
        ["a|", "b|"],
        ["Rings loudly; fits any handlebar that we know of", "For wet roads; it lasts for a long time"],
        [True, False],
    ],
)
def test_other_values_get_none(values: list[Any]) -> None:
    assert find("column", values) == ""


def test_a_separator_that_was_given_needs_no_hint() -> None:
    assert find("tags", ["a|b", "c|d"])
    assert find("tags", ["a|b", "c|d"], list_separator="|") == ""


def test_a_title_is_text_whatever_it_looks_like() -> None:
    (field,) = infer_schema([{"name": "31/12/2024"}], SchemaWishes(title="name")).fields
    assert field.hint == ""


def test_the_preview_warns_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    show_schema(infer_schema([{"text": "a b", "price": "$5"}], SchemaWishes()), "id", {})
    assert f"warning: price looks like {NUMBERS}" in capsys.readouterr().err
