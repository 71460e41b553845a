"""The feedback log in docs/reference/file-formats.md has lines that the importer takes."""

import re
from pathlib import Path

from quarry.feedback.importing.quarry_lines import parse_line
from quarry.feedback.types import Event, Impression

DOCS = Path(__file__).parents[3] / "docs" / "reference" / "file-formats.md"


def test_the_documented_lines_are_read() -> None:
    (block,) = re.findall(r"```json\n(\{\"impression.*?)```", DOCS.read_text(), re.DOTALL)
    kinds = [type(parse_line(line.encode(), 0)) for line in block.splitlines()]
    assert kinds == [Impression, Event, Event]
