"""`quarry index --create` and `quarry schema suggest`: a schema that fits the file, shown first."""

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from quarry.v1 import collection_service_pb2 as pb
from quarry_cli.commands.index import format_rate
from quarry_cli.inputs.schema_file import read_schema

TABLE = """id,name,description,price,zip,notes
p1,Trail shoe,Light shoe with deep grip for mud,119,01234,
p2,Road shoe,Cushioned shoe for long runs,139.5,11234,
"""
TYPES = {
    "name": pb.SCHEMA_FIELD_TYPE_TEXT,
    "description": pb.SCHEMA_FIELD_TYPE_TEXT,
    "price": pb.SCHEMA_FIELD_TYPE_FLOAT,
    "zip": pb.SCHEMA_FIELD_TYPE_KEYWORD,
}


@pytest.fixture
def table(tmp_path):
    (tmp_path / "products.csv").write_text(TABLE)
    return tmp_path / "products.csv"


def test_a_collection_is_made_with_the_schema_that_was_shown_and_waited_for(quarry, cli, table):
    ended = cli("index", "shop", table, "--create", "--json")
    assert ended.status == 0, ended.err
    assert (ended.json["documents"], ended.json["failed"], ended.json["reached"]) == (2, 0, "searchable")
    made = quarry.collections["shop"].schema
    assert {field.name: field.type for field in made.fields} == TYPES
    assert [field.name for field in made.fields if field.is_title] == ["name"]
    assert made.unknown_fields == pb.UNKNOWN_FIELDS_REJECT
    assert quarry.documents["shop", "p1"].fields["zip"].string_value == "01234"
    assert quarry.documents["shop", "p2"].fields["price"].float_value == 139.5
    for said in (
        "cells between commas",
        "title, searched",
        "searched text",
        "2 of 2",
        "notes",
        "made the collection",
    ):
        assert said in ended.err


def test_a_collection_that_is_there_keeps_its_schema(quarry, cli, table):
    field = pb.SchemaField(name="name", type=pb.SCHEMA_FIELD_TYPE_TEXT)
    quarry.collections["shop"] = pb.Collection(name="shop", schema=pb.Schema(fields=[field]))
    ended = cli("index", "shop", table, "--create")
    assert ended.status == 0
    assert "its own schema holds" in ended.err
    assert [field.name for field in quarry.collections["shop"].schema.fields] == ["name"]
    refused = cli("index", "shop", table, "--create", "--title", "name")
    assert refused.status == 1
    assert "shop is there already" in refused.err


def test_wishes_for_a_schema_need_a_collection_to_be_made(quarry, cli, table):
    ended = cli("index", "shop", table, "--title", "name")
    assert ended.status == 2
    assert "add --create" in ended.err


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        ("", [], "hold no records"),
        ("id,price\n1,2\n", [], "no field looks like text"),
        (TABLE, ["--text", "desc"], "did you mean description"),
        (TABLE, ["--id-field", "sku"], "no record has a field 'sku'"),
        ("id,name\n1,caf\xe9 noir\n", [], "--encoding"),
    ],
)
def test_nothing_is_made_where_nothing_can_be_inferred(quarry, cli, tmp_path, content, options, said):
    (tmp_path / "c.csv").write_bytes(content.encode("latin-1"))
    ended = cli("index", "shop", tmp_path / "c.csv", "--create", *options)
    assert (ended.status, quarry.collections) == (1, {})
    assert said in ended.err
    assert "Traceback" not in ended.err


def test_what_does_not_fit_after_the_first_records_is_an_error_of_its_line(quarry, cli, tmp_path):
    rows = [f"p{n},Shoe with a number {n},{n + 1}" for n in range(1_000)]
    rows += [
        "x1,Boot,many",
        "x2,Boot,007",
        "x3,Boot",
        "x4,Boot,12345678901234567890",
        "x5,Boot,NaN",
        "x6,Boot,7",
    ]
    (tmp_path / "c.csv").write_text("\n".join(["id,name,count", *rows]))
    ended = cli("index", "shop", tmp_path / "c.csv", "--create", "--json")
    assert ended.status == 1
    assert (ended.json["documents"], ended.json["failed"], ended.json["not_numbers"]) == (1_002, 4, 1)
    found = {f["where"].rpartition(":")[2]: f["reason"] for f in ended.json["failures"]}
    assert found["1002"] == "count is 'many', not a whole number"
    assert found["1003"] == "count is '007', whose zeros in front a whole number would lose"
    assert "more or fewer cells" in found["1004"]
    assert "beyond 2^53" in found["1005"]
    assert "4 documents were not written" in ended.err
    assert "count" not in quarry.documents["shop", "x5"].fields


def test_a_file_that_cannot_be_read_to_its_end_says_what_was_written(quarry, cli, tmp_path):
    rows = [f"{n},Shoe with a number {n}" for n in range(6_000)]
    (tmp_path / "c.csv").write_bytes("\n".join(["id,name", *rows, "x,caf\xe9"]).encode("latin-1"))
    ended = cli("index", "shop", tmp_path / "c.csv", "--create", "--batch-bytes", 1_024)
    assert ended.status == 1
    assert "c.csv:6002: is not CSV in UTF-8: byte 0xe9" in ended.err
    said = re.search(r"at least ([\d,]+) documents were written", ended.err)
    assert said
    assert (
        5_000 < int(said[1].replace(",", "")) <= len(quarry.documents)
    )  # batches on their way are not counted


def test_standard_input_is_read_once_whole_with_its_format_named(quarry, cli):
    rows = "".join(json.dumps({"id": n, "text": f"some words on {n}"}) + "\n" for n in range(1_500))
    ended = cli("index", "notes", "-", "--create", "--format", "jsonl", "--json", input=rows)
    assert ended.status == 0, ended.err
    assert ended.json["documents"] == len(quarry.documents) == 1_500
    unnamed = cli("index", "notes", "-", input=rows)
    assert unnamed.status == 1
    assert "--format" in unnamed.err


def test_a_file_that_is_not_there_is_a_mistake_of_usage(quarry, cli, tmp_path):
    for path in (tmp_path / "nothing.csv", tmp_path):
        ended = cli("index", "shop", path)
        assert ended.status == 2
        assert "isnofilethatcanberead" in "".join(ended.err.replace("│", "").split())


def test_the_name_of_a_file_cannot_colour_the_terminal(quarry, cli, tmp_path):
    ended = cli("index", "shop", tmp_path / "\x1b[31m[red].csv")
    assert ended.status == 2
    assert "\x1b[31m" not in ended.err
    assert "[red].csv" in "".join(ended.err.replace("│", "").split())


def test_ids_that_occur_twice_are_counted_and_said(quarry, cli, tmp_path):
    (tmp_path / "c.csv").write_text("id,name\n1,a b\n2,c d\n1,e f\n")
    ended = cli("index", "shop", tmp_path / "c.csv", "--create")
    assert ended.status == 0
    assert "records with the id of an earlier one, which they replaced: 1 (1 at" in ended.err
    assert "c.csv:4" in ended.err
    assert quarry.documents["shop", "1"].fields["name"].string_value == "e f"


def test_hashed_ids_are_said_and_the_same_file_writes_the_same_documents(quarry, cli, tmp_path):
    (tmp_path / "c.csv").write_text("name;price\nRed shoe;1\nBlue shoe;2\n")
    for options in (["--create"], []):
        ended = cli("index", "shop", tmp_path / "c.csv", *options)
        assert ended.status == 0, ended.err
        assert len(quarry.documents) == 2
        assert "a hash of the content, as no field is called like an id" in ended.err
        assert "becomes another document" in ended.err
        assert "semicolons" in ended.err


def test_lists_maps_and_delimiters_are_read_as_asked(quarry, cli, tmp_path):
    (tmp_path / "c.txt").write_text("Art~Titel~Farben~secret\n7~Ein roter Schuh~rot/blau~x\n8~Hut~~x\n")
    options = ["--format", "csv", "--delimiter", "~", "--list-separator", "/"]
    options += ["--map", "Art=id", "--map", "Titel=title", "--map", "secret="]
    ended = cli("index", "shop", tmp_path / "c.txt", "--create", *options)
    assert ended.status == 0, ended.err
    fields = quarry.documents["shop", "7"].fields
    assert set(fields) == {"title", "Farben"}
    assert [value.string_value for value in fields["Farben"].list_value.values] == ["rot", "blau"]
    assert "keyword, list" in ended.err


def test_a_name_of_a_mapping_that_no_record_has_is_said(quarry, cli, table):
    said = "no record has the field 'notse' that --map names; did you mean notes?"
    for arguments in (
        ("index", "shop", table, "--create"),
        ("index", "shop", table),
        ("schema", "suggest", table),
    ):
        ended = cli(*arguments, "--map", "notse=")
        assert ended.status == 0, ended.err
        assert ended.err.count(said) == 1
        assert said not in cli(*arguments, "--map", "notes=").err


def test_an_underscored_id_beside_the_one_that_was_named_needs_a_name(quarry, cli, tmp_path):
    (tmp_path / "c.csv").write_text("_id,sku,name\na,1,Red shoes for rain\nb,2,Blue hats for sun\n")
    command = ("index", "shop", tmp_path / "c.csv", "--create", "--id-field", "sku")
    ended = cli(*command)
    assert (ended.status, quarry.collections) == (1, {})
    assert "'_id' is no name of a field, unless it is the id -- --map '_id=NAME'" in ended.err
    assert cli(*command, "--map", "_id=row").status == 0
    assert quarry.documents["shop", "1"].fields["row"].string_value == "a"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--map", "a"),
        ("--map", "=b"),
        ("--delimiter", "::"),
        ("--encoding", "latin-17"),
        ("--encoding", "hex"),
        ("--encoding", "rot13"),
        ("--format", "xml"),
    ],
)
def test_options_that_say_nothing_are_mistakes_of_usage(quarry, cli, table, option, value):
    ended = cli("index", "shop", table, "--create", option, value)
    assert ended.status == 2
    assert "Traceback" not in ended.err


def test_the_suggested_schema_is_one_that_a_collection_is_made_of(quarry, cli, table, tmp_path):
    ended = cli("schema", "suggest", table, "--out", tmp_path / "shop.toml")
    assert (ended.status, ended.out) == (0, ""), ended.err
    assert {field.name: field.type for field in read_schema(tmp_path / "shop.toml").fields} == TYPES
    assert cli("collection", "create", "shop", "--schema", tmp_path / "shop.toml").status == 0
    assert cli("index", "shop", table).status == 0
    printed = cli("schema", "suggest", table, "--id-field", "zip", "--map", "notes=")
    assert printed.status == 0
    assert printed.out.startswith(
        "# quarry collection create NAME --schema SCHEMA.toml\n# quarry index NAME "
    )
    assert "--id-field zip --map notes=\n" in printed.out
    assert "zip" not in printed.out.partition("fields = [")[2]


def test_nothing_is_made_of_records_that_no_field_can_hold(quarry, cli, tmp_path):
    deep = "[" * 700 + "1" + "]" * 700
    (tmp_path / "c.json").write_text(f'[{{"id": 1, "text": "some words to search", "shape": {deep}}}]')
    for command in (
        ("index", "shop", tmp_path / "c.json", "--create"),
        ("schema", "suggest", tmp_path / "c.json"),
    ):
        ended = cli(*command)
        assert (ended.status, quarry.collections) == (1, {})
        assert "c.json:1: shape is a list in a list" in ended.err
        assert "--map 'shape=' leaves it out" in ended.err


def test_binary_columns_are_left_out_of_preview_and_documents_and_named(quarry, cli, tmp_path):
    rows = {
        "id": ["a", "b"],
        "text": [b"some words to search", b"others to find here"],  # text without its type
        "picture": [b"\x89PNG\xff", b"\0\1"],
    }
    pq.write_table(pa.table(rows), tmp_path / "c.parquet")
    said = "picture holds 2 binary values, which no field can have: left out"
    suggested = cli("schema", "suggest", tmp_path / "c.parquet")
    assert suggested.status == 0
    assert suggested.err.count(said) == 1
    assert "no record has a value" not in suggested.err
    assert "picture" not in suggested.out
    for options in (["--create"], []):
        ended = cli("index", "shop", tmp_path / "c.parquet", *options)
        assert (ended.status, len(quarry.documents)) == (0, 2), ended.err
        assert said in ended.err
    assert list(quarry.documents["shop", "a"].fields) == ["text"]


def test_a_suggested_schema_overwrites_a_file_only_when_asked(cli, table, tmp_path):
    file = tmp_path / "shop.toml"
    file.write_text("# changed by hand")
    refused = cli("schema", "suggest", table, "--out", file)
    assert (refused.status, file.read_text()) == (1, "# changed by hand")
    assert "shop.toml is there already -- --force overwrites it" in refused.err
    assert cli("schema", "suggest", table, "--out", file, "--force").status == 0
    assert read_schema(file).fields


def test_counts_of_one_are_in_the_singular(quarry, cli, tmp_path):
    (tmp_path / "c.jsonl").write_text('{"id": "a", "text": "some words to search", "n": 1.5}\n')
    ended = cli("index", "shop", tmp_path / "c.jsonl", "--create")
    assert "the schema of the first 1 record:" in ended.err
    (tmp_path / "d.jsonl").write_text('{"id": "b", "text": "words", "n": "NaN"}\n{"text": "no id"}\n')
    ended = cli("index", "shop", tmp_path / "d.jsonl")
    assert "1 value is NaN, and was left out" in ended.err
    assert "1 document was not written:" in ended.err


@pytest.mark.parametrize(
    ("rate", "said"), [(0, "0/s"), (0.412, "0.41/s"), (2.5, "2.5/s"), (12.4, "12/s"), (1_234.5, "1,234/s")]
)
def test_a_slow_rate_has_two_digits(rate, said):
    assert format_rate(rate) == said


def test_a_schema_that_cannot_be_written_is_an_error_that_names_the_file(cli, table, tmp_path):
    ended = cli("schema", "suggest", table, "--out", tmp_path / "nowhere" / "shop.toml")
    assert ended.status == 1
    assert "shop.toml: No such file" in ended.err


def test_what_cannot_be_suggested_is_an_error(cli, tmp_path):
    (tmp_path / "c.jsonl").write_text("?\n")
    ended = cli("schema", "suggest", tmp_path / "c.jsonl")
    assert ended.status == 1
    assert "c.jsonl:1: is not JSON" in ended.err
