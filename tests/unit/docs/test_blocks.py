"""Every code block of README and docs is one that some test runs, or reads as what it says it is.

Shell and Python blocks run in tests/e2e: README and the tutorial in test_quickstart.py and
test_python_blocks.py, the how-to pages in test_how_to.py. Files are read here.
"""

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from quarry.config import Settings
from quarry_cli.inputs.schema_file import to_schema_message

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md"]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
BLOCKS = [
    (str(page.relative_to(ROOT)), language, text)
    for page in PAGES
    for language, text in re.findall(r"^```([^\n]*)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
]
RUN = re.compile(r"docs/how-to/|docs/tutorial/|README\.md")
"""Pages whose shell and Python blocks run in tests/e2e."""
NOT_RUN = {
    ("README.md", "grpcurl"): "grpcurl is another program",
    ("CONTRIBUTING.md", "make setup"): "it makes the environment that the tests run in",
    ("docs/explanation/benchmarks.md", "cd benchmarks/learning && python "): "it takes an hour",
    ("docs/explanation/flywheel.md", "make bench-flywheel"): "it takes hours",
    ("docs/explanation/flywheel.md", "cd benchmarks/learning && python "): "it takes hours",
    ("docs/explanation/mining.md", "cd benchmarks/learning && python "): "it takes hours",
    ("docs/reference/cli.md", "$ "): "it shows the form of each command",
}
"""Shell blocks that no test runs: page, how they begin, and why."""
DRAWINGS = {"README.md", "ARCHITECTURE.md"}
"""Pages with a drawing in a block without a language."""


def choose(language: str) -> list[tuple[str, str]]:
    return [(page, text) for page, found, text in BLOCKS if found == language]


def test_each_block_has_a_language_that_a_test_knows() -> None:
    known = {
        "console",
        "console quickstart",
        "console own-file",
        "console tutorial",
        "python",
        "json",
        "toml",
        "text",
        "",
    }
    assert {language for _, language, _ in BLOCKS} <= known
    assert {page for page, _ in choose("")} == DRAWINGS


def test_shell_and_python_blocks_run_or_have_a_reason() -> None:
    left = [
        (page, text[:60])
        for page, language, text in BLOCKS
        if language.startswith(("console", "python"))
        and not any(page == where and text.startswith(start) for where, start in NOT_RUN)
        and not RUN.match(page)
    ]
    assert not left


def test_each_reason_is_that_of_a_block() -> None:
    blocks = [(page, text) for page, _, text in BLOCKS]
    assert all(any(page == p and text.startswith(start) for p, text in blocks) for page, start in NOT_RUN)


@pytest.mark.parametrize(("page", "text"), choose("console") + choose("console tutorial"))
def test_a_shell_block_is_a_shell_script(page: str, text: str) -> None:
    script = "" if page == "docs/reference/cli.md" else text
    subprocess.run(["bash", "-n"], input=script, check=True, text=True)


@pytest.mark.parametrize(("page", "text"), choose("json"))
def test_a_json_block_has_an_object_a_line(page: str, text: str) -> None:
    assert all(isinstance(json.loads(line), dict) for line in text.splitlines())


@pytest.mark.parametrize(("page", "text"), choose("toml"))
def test_a_toml_block_is_a_schema_or_settings_of_a_server(page: str, text: str) -> None:
    content = tomllib.loads(text)
    if "fields" in content:
        assert to_schema_message(content).fields
    else:
        assert Settings(**content)
