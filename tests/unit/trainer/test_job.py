"""The trainer's process: what it is asked, and how it fails."""

import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from tests.unit.training.samples import evaluation_spec, report, result, spec

from quarry.jobs.child import USAGE, ProgressReporter
from quarry.jobs.files import read_answer, write_model
from quarry.training.folders import EVALUATION, RESULT, TrainingFolders
from quarry.training.spec import EvaluationReport, TrainingResult
from quarry_trainer import job


def test_what_is_trained_decides_who_trains_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def train(spec: object, folder: Path, progress: ProgressReporter) -> TrainingResult:
        progress("training", 0.5)
        asked.append(folder.name)
        return result(kind=folder.name)

    monkeypatch.setattr(job, "_TRAININGS", {"reranker": train, "encoder": train})
    folders, lines = TrainingFolders(tmp_path), list[bytes]()
    for kind in ("reranker", "encoder"):
        folder = folders.create(spec(name=kind, kind=kind))
        job.train(folder, ProgressReporter(lines.append))
        assert read_answer(folder / RESULT, TrainingResult).kind == kind
    assert asked == ["reranker", "encoder"]
    assert lines


def test_an_evaluation_leaves_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "quarry_trainer.evaluation.model_evaluation.evaluate_models", lambda *_: report("REGRESSED")
    )
    folder = TrainingFolders(tmp_path).create(evaluation_spec())
    job.evaluate(folder, ProgressReporter(lambda _line: None))
    assert read_answer(folder / EVALUATION, EvaluationReport).verdict == "REGRESSED"


def test_a_broken_spec_is_a_typed_error(tmp_path: Path) -> None:
    for content, kind in [(None, "NotFoundError"), ("{", "InvalidArgumentError")]:
        folder = tmp_path / kind
        folder.mkdir()
        if content is not None:
            (folder / "spec.json").write_text(content)
        command = [sys.executable, "-m", "quarry_trainer.job", "train", str(folder)]
        ended = subprocess.run(command, capture_output=True, check=False)
        assert ended.returncode == 1
        assert orjson.loads(ended.stdout.splitlines()[-1])["error"]["kind"] == kind


@pytest.mark.parametrize("arguments", [[], ["train"], ["mine", "x"], ["train", "x", "y"]])
def test_wrong_arguments_say_how_it_is_used(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert job.main(arguments) == USAGE
    assert "train|evaluate|tune|loop FOLDER" in capsys.readouterr().err


def test_a_spec_survives_being_written_down(tmp_path: Path) -> None:
    asked = spec(judgments=({"id": "1", "text": "é", "judgments": {"a": 2}},), learning_rate=0.001)
    write_model(tmp_path / "spec.json", asked)
    assert read_answer(tmp_path / "spec.json", type(asked)) == asked
