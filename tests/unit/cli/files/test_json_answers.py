"""One JSON object: what an API answers with holds records, and a document is one itself."""

from pathlib import Path

import pytest

from quarry_cli.files.reading import ReadOptions, read_files
from quarry_cli.files.records import Row
from quarry_cli.files.source import Layout
from quarry_cli.views.schema import show_layouts

RECORDS = '[{"id": "a"}, {"id": "b"}]'


def read(folder: Path, text: str) -> tuple[list[str], Layout]:
    layouts: list[Layout] = []
    (folder / "c.json").write_text(text)
    rows = list(read_files([folder / "c.json"], ReadOptions(), layouts.append))
    (layout,) = layouts
    return [str(row.content.get("id")) for row in rows if isinstance(row, Row)], layout


@pytest.mark.parametrize(
    "beside", ['"status": "ok"', '"meta": {"count": 2}', '"meta": {"a": {"b": [1, 2]}}, "errors": []']
)
def test_the_only_array_of_objects_is_the_records_whatever_object_is_beside_it(
    tmp_path: Path, beside: str
) -> None:
    found, layout = read(tmp_path, f'{{{beside}, "results": {RECORDS}}}')
    assert found == ["a", "b"]
    assert (layout.unusual, layout.warning) == (True, "")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (f'{{"id": "x", "results": {RECORDS}}}', "results"),
        (f'{{"data": {{"items": {RECORDS}}}}}', "data.items"),
        (f'{{"a": {RECORDS}, "b": {RECORDS}}}', "a"),
        (f'{{"all items": {{"n-1": {RECORDS}}}}}', '"all items"."n-1"'),
        (f'{{"tags": ["new"], "variants": {RECORDS}}}', "variants"),
    ],
)
def test_a_document_that_holds_several_objects_is_named_with_what_to_do(
    tmp_path: Path, text: str, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, layout = read(tmp_path, text)
    assert len(found) == 1
    show_layouts([layout], all=False)
    said = capsys.readouterr().err
    assert f"c.json: is read as one document, though its {path} are 2 objects" in said
    assert f"jq -c '.{path}[]' FILE" in said


@pytest.mark.parametrize(
    "text", ['{"id": "x", "parts": [{"n": 1}], "tags": ["a", "b"]}', '{"a": {"b": [1]}}']
)
def test_a_document_that_holds_none_or_one_gets_no_warning(tmp_path: Path, text: str) -> None:
    found, layout = read(tmp_path, text)
    assert (len(found), layout.warning) == (1, "")
