"""The benchmarks' targets and scripts say so when something fails."""

import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "benchmarks" / "results"


@pytest.mark.parametrize("target", ["bench", "bench-learning"])
def test_a_benchmark_that_fails_fails_its_target_and_ends_it(target: str, tmp_path: Path) -> None:
    """What it prints goes through a pipe, whose last command succeeds."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\n[ "$1" = -m ] && exit 0\necho "{\\"ran\\": \\"$1\\"}"\nexit 3\n')
    python.chmod(0o755)
    (tmp_path / ".venv" / "installed").touch()
    done = subprocess.run(["make", target], cwd=tmp_path, capture_output=True, text=True, check=False)
    lines = [line for file in (tmp_path / "build").glob("*.jsonl") for line in file.read_text().splitlines()]
    assert done.returncode != 0
    assert len(lines) == 1, "the first one failed, so no other one is run"


@pytest.fixture
def learning(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Imports scripts of benchmarks/learning by name."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "learning"))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if name in ("turns", "flywheel", "flywheel_table", "judged_sets", "shared_trainings"):
            del sys.modules[name]


@pytest.fixture
def turns(learning: Callable[[str], ModuleType]) -> ModuleType:
    return learning("turns")


def test_a_turn_that_makes_no_model_is_written_down_and_the_last(
    turns: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, ...]] = []

    class BadData(turns.Turns):  # type: ignore[name-defined,misc]
        """Turns whose training finds nothing to learn from."""

        def __init__(self, name: str, work: Path, address: str) -> None:
            self._work, self._queries = work, "queries.jsonl"
            self._asked = self._judged = self._test = work / "some.tsv"

        def _quarry(self, *arguments: str) -> dict[str, Any]:
            asked.append(arguments)
            if arguments[0] == "mine":
                rows = pa.table({"label": [0], "s_qd": [0.5]})
                parquet.write_table(rows, self._work / "turn-1.parquet")
                return {"verdict": "BAD_EXAMPLES"}
            return {
                "model_version": "",
                "verdict": "BAD_DATA",
                "cautions": [],
                "metrics": [],
                "advice": ["no row is left"],
            }

    @contextmanager
    def serve(work: Path) -> Iterator[str]:
        yield "127.0.0.1:0"

    monkeypatch.setattr(turns, "Turns", BadData)
    monkeypatch.setattr(turns, "run_server", serve)
    folders = ["--data", str(tmp_path / "data"), "--work", str(tmp_path / "work")]
    (tmp_path / "data" / "medquad" / "data").mkdir(parents=True)
    monkeypatch.setattr(sys, "argv", ["turns.py", *folders, "--set", "medquad"])
    with pytest.raises(SystemExit, match="turn 1: BAD_DATA and no model: no row is left"):
        turns.main()
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert (found["verdict"], found["version"], found["advice"]) == ("BAD_DATA", "", ["no row is left"])
    assert {arguments[0] for arguments in asked} == {"mine", "train"}, "the empty version is not evaluated"


@pytest.mark.parametrize("there", ["work", ""])
def test_turns_begin_with_the_data_of_flywheel_and_with_nothing_that_other_turns_have_left(
    turns: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: str
) -> None:
    def serve(work: Path) -> Iterator[str]:
        pytest.fail(f"a server was started in {work}")

    monkeypatch.setattr(turns, "run_server", serve)
    if there:
        (tmp_path / "data" / "medquad" / "data").mkdir(parents=True)
        (tmp_path / there / "medquad").mkdir(parents=True)
    folders = ["--data", str(tmp_path / "data"), "--work", str(tmp_path / "work")]
    monkeypatch.setattr(sys, "argv", ["turns.py", *folders, "--set", "medquad"])
    for _ in range(2):  # what fails leaves nothing that a second try would take for a start
        with pytest.raises(SystemExit, match="work/medquad is there" if there else "data is not there"):
            turns.main()


@pytest.mark.parametrize(
    ("options", "file"),
    [(("--development",), "flywheel.jsonl"), ((), "flywheel_development.jsonl")],
)
def test_figures_of_test_and_of_development_queries_are_not_written_into_one_file(
    learning: Callable[[str], ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    file: str,
) -> None:
    flywheel = learning("flywheel")
    monkeypatch.setattr(flywheel, "write_paraphrase", lambda _: pytest.fail("the run began"))
    folders = ["--data", str(tmp_path), "--out", str(RESULTS / file)]
    monkeypatch.setattr(sys, "argv", ["flywheel.py", *folders, *options])
    with pytest.raises(SystemExit, match="name another --out"):
        flywheel.main()
