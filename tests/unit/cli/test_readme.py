"""The commands in README.md and in the pages of docs/ are commands of this command line."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from quarry_cli.inputs.schema_file import read_schema
from quarry_cli.main import app

ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "README.md").read_text()
QUICKSTART = re.findall(r"```console quickstart\n(.*?)```", README, re.DOTALL)
PAGES = [
    README,
    *(page.read_text() for page in sorted((ROOT / "docs").rglob("*.md")) if page.parent.name != "reference"),
]
COMMAND = re.compile(r"^quarry ([a-z][^&\n]*)|`quarry ([^`&]*)`", re.MULTILINE)
COMMANDS = [found for page in PAGES for found in COMMAND.findall(page)]


def test_there_is_one_quickstart():
    assert len(QUICKSTART) == 1


@pytest.mark.parametrize("command", sorted({a or b for a, b in COMMANDS}))
def test_a_command_of_the_readme_is_understood(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    # --help ends each command before it acts, and after its options have been read.
    result = CliRunner().invoke(app, [*shlex.split(command, comments=True), "--help"])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)]*)\)", README))
def test_a_link_of_the_readme_leads_somewhere(target):
    file, _, heading = target.partition("#")
    assert (ROOT / file).exists()
    assert not heading or heading in headings(ROOT / file)


def headings(file):
    """Of a page in Markdown, as links name them."""
    lines = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-") for line in lines}


def test_the_example_schema_is_one():
    assert [field.name for field in read_schema(ROOT / "examples/schema.toml").fields][:2] == [
        "title",
        "text",
    ]
