"""From rows to documents: names, nested objects, ids, and records that are there twice."""

from decimal import Decimal
from typing import Any

import pytest

from quarry_cli.failures import CliError
from quarry_cli.files.ids import hash_content
from quarry_cli.files.record_reader import SAMPLE_RECORDS, RecordReader
from quarry_cli.files.records import BadRecord, Record, Row
from quarry_cli.files.shaping import Shaper, to_field_name


def make_reader(
    *contents: dict[str, Any], id_field: str | None = None, whole: bool = True, **mapping: str
) -> RecordReader:
    rows = [Row(f"f:{number}", content, number) for number, content in enumerate(contents, 1)]
    return RecordReader(rows, Shaper(mapping), id_field, whole)


def read(reader: RecordReader) -> list[tuple[str, Any]]:
    return [(r.id, r.fields) if isinstance(r, Record) else (r.where, r.problem) for r in reader]


def test_objects_become_fields_with_dots_and_lists_of_objects_become_lists() -> None:
    content = {
        "id": 1,
        "a": {"b": {"c": 1}, "d": {}},
        "l": [{"n": "x"}, {"n": "y", "m": [1]}],
        "e": [],
        "t": ["u"],
    }
    assert read(make_reader(content)) == [("1", {"a.b.c": 1, "l.n": ["x", "y"], "l.m": [1], "t": ["u"]})]


def test_null_nan_and_what_is_empty_are_no_values_and_nan_is_counted() -> None:
    nan = float("nan")
    reader = make_reader({"id": "a", "x": None, "y": nan, "z": [1.5, None, nan], "w": [nan], "v": ""})
    assert read(reader) == [("a", {"z": [1.5], "v": ""})]
    assert reader.shaper.not_numbers == 3


def test_decimals_become_numbers_and_bytes_text() -> None:
    content = {"id": "a", "d": Decimal("19.90"), "w": Decimal("1E+3"), "b": b"caf\xc3\xa9"}
    assert read(make_reader(content)) == [("a", {"d": 19.9, "w": 1_000, "b": "café"})]


def test_an_object_that_is_too_deep_or_says_a_field_twice_is_a_bad_record() -> None:
    deep: dict[str, Any] = {"a": 1}
    for _ in range(3_000):
        deep = {"a": deep}
    (first, second) = make_reader({"id": 1, "x": {"y": 1}, "x.y": 2}, deep)
    assert isinstance(first, BadRecord)
    assert first.problem == "has two values for x.y"
    assert isinstance(second, BadRecord)
    assert "deep" in second.problem


def test_a_list_in_which_no_scalars_are_makes_a_bad_record_however_deep_it_is() -> None:
    deep: Any = [1]
    for _ in range(3_000):
        deep = [deep]
    lists, objects, plain = make_reader({"id": 1, "a": deep}, {"id": 2, "b": [1, {"c": 1}]}, {"id": 3})
    assert isinstance(lists, BadRecord)
    assert lists.problem == "a is a list in a list, which no field can have; --map 'a=' leaves it out"
    assert isinstance(objects, BadRecord)
    assert objects.problem.startswith("b is an object in a list")
    assert isinstance(plain, Record)
    assert read(make_reader({"id": 1, "a": deep, "b": [[]]}, a="")) == [("1", {})]


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("price", "price"), ("Product Name", "Product_Name"), ("Größe (cm)", "Grosse_cm"), ("prix €", "prix"),
        ("2019", "f_2019"), ("a.b-c", "a.b_c"), ("_score", "score"), ("Año", "Ano"), ("标题", ""), (".", ""),
    ],
)  # fmt: skip
def test_a_name_that_no_field_can_have_is_made_one(name: str, made: str) -> None:
    assert to_field_name(name) == made


def test_names_that_cannot_be_made_one_and_names_that_meet_are_errors_with_what_to_type() -> None:
    with pytest.raises(CliError, match="标题") as caught:
        make_reader({"id": 1, "标题": "x"})
    assert "--map '标题=NAME'" in caught.value.hint
    with pytest.raises(CliError, match="'a b' and 'a-b' are both the field a_b"):
        make_reader({"id": 1, "a b": 1, "a-b": 2})
    assert read(make_reader({"id": 1, "标题": "x"}, 标题="title")) == [("1", {"title": "x"})]


def test_fields_are_renamed_and_left_out_as_asked() -> None:
    reader = make_reader({"sku": 1, "x": 2, "secret": 3}, sku="id", x="y", secret="")
    assert read(reader) == [("1", {"y": 2})]
    assert reader.shaper.new_names == {}


def test_ids_are_the_usual_ones_of_each_record() -> None:
    reader = make_reader({"_id": "a", "id": 5}, {"id": 7}, {"x": 1}, {"id": 8.0}, {"id": True})
    assert read(reader) == [
        ("a", {"id": 5}), ("7", {}), ("f:3", "has no _id"), ("8", {}), ("f:5", "id is True, not a string"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["ID", "sku", "product_id", "productId", "url", "uuid"])
def test_a_field_that_is_called_like_an_id_and_always_another_is_the_id_and_that_is_said(name: str) -> None:
    reader = make_reader({"x": "p", name: "a"}, {"x": "q", name: "b"})
    assert read(reader) == [("a", {"x": "p"}), ("b", {"x": "q"})]
    assert reader.ids.reason.startswith(f"{name}, which is another one in each of 2 records")


@pytest.mark.parametrize(
    ("second", "why"),
    [
        ({"sku": "a"}, "sku is 'a' more than once"),
        ({}, "sku is missing in 1 of 2"),
        ({"sku": [1]}, "not always"),
    ],
)
def test_without_an_id_a_hash_of_the_content_is_and_why_is_said(second: dict[str, Any], why: str) -> None:
    first = {"sku": "a", "name": "x"}
    reader = make_reader(first, second)
    (one, two) = reader
    assert isinstance(one, Record)
    assert isinstance(two, Record)
    assert (one.id, one.fields) == (hash_content({"name": "x", "sku": "a"}), first)
    assert one.id != two.id
    assert why in reader.ids.reason


def test_hashes_stay_the_same_from_version_to_version() -> None:
    assert hash_content({"name": "x", "n": 10**30, "s": "\ud800"}) == "ec9223bf498ab966e5061080cd1a9a31"


def test_the_id_that_is_named_has_to_be_there() -> None:
    assert read(make_reader({"Part No": 7, "x": 1}, id_field="Part No")) == [("7", {"x": 1})]
    with pytest.raises(CliError, match="no record has a field 'skv'; did you mean sku"):
        make_reader({"sku": 1}, id_field="skv")


def test_ids_that_occur_twice_are_counted_with_their_places() -> None:
    reader = make_reader({"id": "a"}, {"id": "b"}, {"id": "a"}, {"id": "a"})
    assert len(read(reader)) == 4
    assert (reader.repeats.count, reader.repeats.first) == (2, [("a", "f:3"), ("a", "f:4")])


def test_no_more_is_read_ahead_than_is_needed() -> None:
    taken = []

    def count(content: dict[str, Any]) -> Any:
        for number in range(2 * SAMPLE_RECORDS):
            taken.append(number)
            yield Row("f", content, 0)

    RecordReader(count({"id": 1}), Shaper(), None, whole_sample=False)
    assert len(taken) == 1
    RecordReader(count({"id": 1}), Shaper(), None, whole_sample=True)
    assert len(taken) == 1 + SAMPLE_RECORDS
    RecordReader(count({"id": "x" * 2**20}), Shaper(), None, whole_sample=True)
    assert len(taken) < 2 * SAMPLE_RECORDS
