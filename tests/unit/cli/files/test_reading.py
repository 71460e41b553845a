"""Files as people have them: formats, delimiters, encodings, packed files, and where they are wrong."""

import bz2
import gzip
import json
import lzma
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from quarry_cli.failures import CliError
from quarry_cli.files.delimited import find_delimiter, take_first
from quarry_cli.files.reading import FileFormat, ReadOptions, read_files
from quarry_cli.files.records import BadRecord, Row
from quarry_cli.files.source import Layout

TABLE = 'id,name,price\na,"one, two",1\nb,three,\n'
CONTENTS = [{"id": "a", "name": "one, two", "price": "1"}, {"id": "b", "name": "three", "price": None}]


def read(path: Path, **options: Any) -> tuple[list[Row | BadRecord], list[Layout]]:
    layouts: list[Layout] = []
    return list(read_files([path], ReadOptions(**options), layouts.append)), layouts


def read_contents(path: Path, **options: Any) -> list[dict[str, Any]]:
    rows, _ = read(path, **options)
    assert all(isinstance(row, Row) for row in rows), rows
    return [row.content for row in rows if isinstance(row, Row)]


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def pack_zstandard(content: bytes) -> bytes:
    packed: bytes = pa.compress(content, "zstd", asbytes=True)
    return packed


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": pack_zstandard,
}  # fmt: skip


@pytest.mark.parametrize("suffix", PACKERS)
def test_packed_files_are_unpacked_by_what_they_are(tmp_path: Path, suffix: str) -> None:
    packed = PACKERS[suffix](TABLE.encode())
    assert read_contents(write(tmp_path, f"c.csv.{suffix}", packed)) == CONTENTS
    assert read_contents(write(tmp_path, "c.csv", packed)) == CONTENTS


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_packed_file_that_is_cut_short_is_an_error(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(CliError, match=f"c.csv.{suffix}"):
        read(write(tmp_path, f"c.csv.{suffix}", PACKERS[suffix](TABLE.encode())[:-6]))


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_of_csv_is_found_and_said(tmp_path: Path, delimiter: str) -> None:
    rows = [["id", "name", "price"], ["a", f"one{delimiter} two", "1,5"], ["b", "say, what; now", "2"]]
    lines = "".join(delimiter.join(f'"{cell}"' for cell in row) + "\r\n" for row in rows)
    (first, second), (layout,) = read(write(tmp_path, "c.csv", lines))
    assert isinstance(first, Row)
    assert isinstance(second, Row)
    assert first.content == dict(zip(rows[0], rows[1], strict=True))
    assert second.content == dict(zip(rows[0], rows[2], strict=True))
    assert layout.unusual == (delimiter != ",")


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("name\na; b\nc; d\n", ","),  # one column: the header holds no delimiter
        ("id;name;price\n1;Shoe;1,5\n2;Boot;2,5\n", ";"),
        ("id,name,size|weight\n1,a,10|20\n2,b,1|2\n3,c\n" + "4,d,1|2\n" * 20, ","),  # a row is short
        ("id;name, first\n1;Ann, Bo\n2;Cy, Di\n", ","),  # both fit: the usual one
        ("", ","),
    ],
)
def test_a_delimiter_has_to_make_a_table(text: str, delimiter: str) -> None:
    assert find_delimiter(text.splitlines(keepends=True)) == delimiter


def test_excels_first_line_names_the_delimiter(tmp_path: Path) -> None:
    assert read_contents(write(tmp_path, "c.csv", "sep=;\r\nid;a,b\r\n1;x,y\r\n")) == [
        {"id": "1", "a,b": "x,y"}
    ]


def test_marks_line_ends_and_quoted_lines_are_read_and_rows_have_their_first_line(tmp_path: Path) -> None:
    text = '\ufeffid,name\r\n1,"two\r\nlines"\r\n\r\n2,b\r\n3\r\n'
    rows, _ = read(write(tmp_path, "c.csv", text))
    assert [row.where.rpartition(":")[2] for row in rows] == ["2", "5", "6"]
    assert isinstance(rows[0], Row)
    assert rows[0].content == {"id": "1", "name": "two\r\nlines"}
    assert isinstance(rows[2], BadRecord)
    assert rows[2].problem == "has more or fewer cells than the header: 1, not 2"


def test_columns_without_a_name_are_called_by_their_place_and_no_two_have_one_name(tmp_path: Path) -> None:
    assert read_contents(write(tmp_path, "c.csv", ",name\n0,a\n")) == [{"column1": "0", "name": "a"}]
    with pytest.raises(CliError, match="names 'a' twice") as caught:
        read(write(tmp_path, "d.csv", "a,a\n1,2\n"))
    assert "rename" in caught.value.hint


@pytest.mark.parametrize("rows_before", [0, 5_000])
@pytest.mark.parametrize(("name", "head"), [("c.csv", "id,name\n"), ("c.json", "[\n")])
def test_a_byte_that_is_no_utf_8_is_named_with_its_line_and_what_to_do(
    tmp_path: Path, rows_before: int, name: str, head: str
) -> None:
    content = head + "1,plain\n" * rows_before + "2,café\n"
    with pytest.raises(CliError, match=f":{rows_before + 2}: is not .* in UTF-8: byte 0xe9") as caught:
        read(write(tmp_path, name, content.encode("latin-1")))
    assert "--encoding" in caught.value.hint


def test_other_encodings_are_read_as_named_and_utf_16_by_its_mark(tmp_path: Path) -> None:
    latin = write(tmp_path, "c.csv", "id,name\n1,café\n".encode("latin-1"))
    assert read_contents(latin, encoding="cp1252") == [{"id": "1", "name": "café"}]
    wide = write(tmp_path, "d.csv", "id\tname\n1,5\tcafé\n".encode("utf-16"))
    assert read_contents(wide) == [{"id": "1,5", "name": "café"}]
    lines = write(tmp_path, "e.jsonl", '{"id": "é"}\n{"id": "ü"}\n'.encode("utf-16"))
    assert read_contents(lines) == [{"id": "é"}, {"id": "ü"}]
    with pytest.raises(CliError, match="zero bytes"):
        read(write(tmp_path, "f.csv", "id,name\n1,x\n".encode("utf-16-le")))


@pytest.mark.parametrize("name", ["c.csv", "c.json", "c.jsonl"])
def test_utf_16_without_its_mark_is_an_error_with_what_to_type(tmp_path: Path, name: str) -> None:
    with pytest.raises(CliError, match=f"{name}: is not .* in UTF-16: it has no byte order mark") as caught:
        read(write(tmp_path, name, '{"id": 1}\n'), encoding="utf-16")
    assert "utf-16-le" in caught.value.hint


def test_a_bad_line_of_json_is_one_bad_record_with_its_line(tmp_path: Path) -> None:
    lines = [b'{"id": 1}', b"", b'{"id": "\xe9"}', b"[1]", b'{"id": 1', b"[" * 5_000, b'{"id": 2}']
    rows, _ = read(write(tmp_path, "c.jsonl", b"\n".join(lines)))
    assert [(row.where.rpartition(":")[2], type(row)) for row in rows] == [
        ("1", Row), ("3", BadRecord), ("4", BadRecord), ("5", BadRecord), ("6", BadRecord), ("7", Row),
    ]  # fmt: skip
    assert isinstance(rows[1], BadRecord)
    assert "--encoding" in rows[1].problem


@pytest.mark.parametrize("name", ["c.jsonl", "c.json"])
def test_integers_of_any_size_are_exact_and_nan_is_read(tmp_path: Path, name: str) -> None:
    text = '{"id": "a", "big": 123456789012345678901234567890, "rate": NaN}'
    (found,) = read_contents(write(tmp_path, name, text))
    assert found["big"] == 123456789012345678901234567890
    assert found["rate"] != found["rate"]


@pytest.mark.parametrize(
    "text",
    [
        '[{"id": 1, "n": {"a": [1]}},\n {"id": 2}]',
        '  {"id": 1, "n": {"a": [1]}}\n{"id": 2}\n',
        '{"id": 1,\n "n": {"a": [1]}}\n\n{\n"id": 2}',
        '{"total": 2, "products": [{"id": 1, "n": {"a": [1]}}, {"id": 2}]}',
        '\ufeff[{"id": 1, "n": {"a": [1]}}, {"id": 2}]  ',
    ],
)
def test_json_is_an_array_objects_in_a_row_or_the_array_of_an_object(tmp_path: Path, text: str) -> None:
    assert read_contents(write(tmp_path, "c.json", text)) == [{"id": 1, "n": {"a": [1]}}, {"id": 2}]


@pytest.mark.parametrize("text", ['[{"id": 1}]', '[\n  {\n "id": 1}]', '{"id": 1}\n{"id": 2}', "[]\n"])
def test_json_that_is_called_csv_is_an_error_that_says_so(tmp_path: Path, text: str) -> None:
    with pytest.raises(CliError, match=r"c\.csv: looks like JSON") as caught:
        read(write(tmp_path, "c.csv", text))
    assert "--format json" in caught.value.hint
    assert read_contents(write(tmp_path, "c.csv", "[id],{n}\n1,2\n")) == [{"[id]": "1", "{n}": "2"}]


def test_one_object_is_one_record(tmp_path: Path) -> None:
    document = {"id": 1, "parts": [{"a": 1}, {"a": 2}]}
    assert read_contents(write(tmp_path, "c.json", json.dumps(document, indent=1))) == [document]


def test_records_of_an_array_have_the_line_that_they_begin_in(tmp_path: Path) -> None:
    rows, _ = read(write(tmp_path, "c.json", '[\n{"id": 1},\n\n{"id":\n2}, 3]'))
    assert [row.where.rpartition(":")[2] for row in rows] == ["2", "4", "5"]
    assert isinstance(rows[2], BadRecord)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[{"id": 1}\n{"id": 2}]', 2),
        ('[{"id": 1},\n', 2),
        ('[{"id": 1}]\n\nx', 3),
        ('[{"id": 1},\n{id: 2}]', 2),
    ],
)
def test_json_that_is_wrong_is_an_error_with_its_line(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(CliError, match=f"c.json:{line}: is not JSON"):
        read(write(tmp_path, "c.json", text))


@pytest.mark.parametrize(
    ("value", "said"),
    [("[" * 100_000, "it is nested too deeply"), ("9" * 5_000, "a number has too many digits")],
)
def test_json_that_python_cannot_hold_is_said_in_plain_words(tmp_path: Path, value: str, said: str) -> None:
    with pytest.raises(CliError, match=f"c.json:2: is not JSON: {said}$") as caught:
        read(write(tmp_path, "c.json", f'[{{"id": 1}},\n{{"id": 2, "x": {value}}}]'))
    assert caught.value.hint == ""


@pytest.mark.parametrize(
    ("name", "head"),
    [("c.csv", "id,name\n1,"), ("c.csv", 'id,name\n1,"'), ("c.jsonl", '{"id": 1}\n{"id": "')],
)
def test_a_line_that_no_memory_takes_is_an_error_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, head: str
) -> None:
    monkeypatch.setattr("quarry_cli.files.text.MAX_LINE", 2**16)
    packed = gzip.compress(head.encode() + b"a" * 2**24)
    tracemalloc.start()
    with pytest.raises(CliError, match=f"{name}:2: is a line of 65,536 characters or more"):
        read(write(tmp_path, name, packed))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**22


def test_one_json_text_that_no_memory_takes_is_an_error_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quarry_cli.files.text.MAX_WHOLE_BYTES", 20)
    assert read_contents(write(tmp_path, "c.json", '[{"id": 1}, {"i":2}]'))[1] == {"i": 2}
    with pytest.raises(CliError, match=r"c\.json: has over 20 bytes in one text") as caught:
        read(write(tmp_path, "c.json", gzip.compress(b'[{"id": 1}, {"i": 2}]')))
    assert "jq" in caught.value.hint


def test_a_delimiter_is_found_without_reading_more_than_a_cell_may_have(tmp_path: Path) -> None:
    lines = iter(['id,"name\n', *["x" * 2**20] * 9])
    assert len(list(take_first(lines))) == 2


def test_a_format_that_is_named_overrules_the_files_name(tmp_path: Path) -> None:
    assert read_contents(write(tmp_path, "export.txt", TABLE), format=FileFormat.CSV) == CONTENTS
    with pytest.raises(CliError, match=r"ends in none of \.jsonl") as caught:
        read(tmp_path / "export.txt")
    assert "--format" in caught.value.hint


def test_positions_go_on_from_file_to_file(tmp_path: Path) -> None:
    files = [write(tmp_path, "a.jsonl", '{"id": 1}\n'), write(tmp_path, "b.jsonl", '{"id": 2}\n')]
    rows = list(read_files(files, ReadOptions(), print))
    assert [row.position for row in rows if isinstance(row, Row)] == [10, 20]


def test_a_file_that_is_gone_when_its_turn_comes_is_an_error(tmp_path: Path) -> None:
    files = [write(tmp_path, "a.jsonl", '{"id": 1}\n'), write(tmp_path, "b.jsonl", '{"id": 2}\n')]
    rows = read_files(files, ReadOptions(), print)
    next(rows)
    files[1].unlink()
    with pytest.raises(CliError, match=r"b\.jsonl: No such file"):
        list(rows)


def test_columns_of_parquet_are_read_with_their_types(tmp_path: Path) -> None:
    table = pa.table({"id": ["a", "b"], "price": [1.5, None], "size": [{"w": 1}, {"w": 2}]})
    pq.write_table(table, tmp_path / "c.parquet")
    assert read_contents(tmp_path / "c.parquet") == [
        {"id": "a", "price": 1.5, "size": {"w": 1}},
        {"id": "b", "price": None, "size": {"w": 2}},
    ]
    with pytest.raises(CliError, match=r"d\.parquet"):
        read(write(tmp_path, "d.parquet", "no"))
