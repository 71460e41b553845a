"""`quarry feedback` against a real server."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.api.feedback.test_feedback_imports import LINES
from tests.integration.api.helpers.served import Api
from typer.testing import CliRunner, Result

from quarry_cli.main import app


@pytest.fixture
def cli(api: Api, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("QUARRY_SERVER", api.address)
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments: object, input: str | None = None) -> Result:
        result = CliRunner().invoke(app, ["feedback", *map(str, arguments)], input=input)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    path = tmp_path / "log.jsonl.gz"
    path.write_bytes(gzip.compress(LINES))
    return path


def test_a_gzipped_log_is_imported_and_bad_lines_are_told(
    cli: Callable[..., Result], lexical: str, log_file: Path
) -> None:
    ended = cli("import", lexical, log_file, log_file, "--simulated")
    assert ended.exit_code == 0
    assert "6 lines: 1 impressions and 1 events are new, 2 were there, 2 were rejected" in ended.stdout
    assert "line 3: is not JSON" in ended.stderr
    shown = cli("stats", lexical).stdout
    assert "1, 1 of them simulated" in shown
    assert "100.0%" in shown


def test_a_file_without_a_line_that_can_be_read_is_a_failure(
    cli: Callable[..., Result], lexical: str, tmp_path: Path
) -> None:
    (tmp_path / "log.jsonl").write_text("not json\n{}\n")
    ended = cli("import", lexical, tmp_path / "log.jsonl")
    assert ended.exit_code == 1
    assert "2 were rejected" in ended.stdout


def test_figures_are_json_for_scripts(cli: Callable[..., Result], lexical: str, log_file: Path) -> None:
    found: Any = json.loads(cli("import", lexical, log_file, "--json").stdout)
    assert (found["impressions"], found["events"], found["rejected"]) == ("1", "1", "1")
    found = json.loads(cli("stats", lexical, "--json").stdout)
    assert found["impressions"] == "1"
    assert found["events"] == [{"type": "EVENT_TYPE_CLICK", "mark": "EVENT_MARK_UNSPECIFIED", "count": "1"}]


def test_feedback_is_deleted_by_time_once_confirmed(
    cli: Callable[..., Result], lexical: str, log_file: Path
) -> None:
    cli("import", lexical, log_file)
    assert cli("purge", lexical, "--before", "2025-06-01", input="n\n").exit_code == 1
    kept = cli("purge", lexical, "--before", "2025-01-01", "--yes", "--json").stdout
    assert json.loads(kept)["impressions"] == "0"
    ended = cli("purge", lexical, "--before", "2025-06-01", "--after", "2025-01-01T10:00:00Z", "--yes")
    assert ended.stdout == "deleted 1 impressions, 1 events and 0 texts\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["purge", "x", "--yes"], "nothing is chosen"),
        (["purge", "x", "--before", "noon"], "is not a time such as"),
        (["purge", "x", "--before", "2025-01-01", "--after", "2025-01-01"], "is not after"),
        (["import", "x", "/no/such/file"], "does not exist"),
    ],
)
def test_mistakes_of_usage_are_named(cli: Callable[..., Result], arguments: list[str], said: str) -> None:
    ended = cli(*arguments)
    assert ended.exit_code == 2
    assert said in " ".join(ended.stderr.replace("│", " ").split())


def test_a_collection_that_is_not_there_is_one_line(cli: Callable[..., Result], log_file: Path) -> None:
    for command in (["stats", "no-such"], ["import", "no-such", log_file]):
        ended = cli(*command)
        assert ended.exit_code == 1
        assert "NOT_FOUND" in ended.stderr
