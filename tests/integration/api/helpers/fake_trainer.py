"""Stands in for ``quarry_trainer.job``: ends as the description of the training says.

``stop``: not until the job is killed and begun again. ``hold``: not until ``go`` lies in its folder.
``full``: no space. ``bad``: no model. ``few unseen``: with a caution. Else a model, the base's copy, with the
verdict that the description names. It counts in its work how often it was begun.
"""

import shutil
import sys
import time
from pathlib import Path

from quarry.errors import DiskFullError
from quarry.jobs.child import ProgressReporter, read_spec, run_as_job
from quarry.jobs.files import write_model
from quarry.jobs.folders import SPEC
from quarry.models.blend import Blend
from quarry.training.folders import EVALUATION, MODEL, RESULT, find_work
from quarry.training.spec import (
    EvaluationReport,
    EvaluationSpec,
    Metric,
    ModelVerdict,
    TrainingResult,
    TrainingSpec,
)

VERDICTS: tuple[ModelVerdict, ...] = ("REGRESSED", "NO_IMPROVEMENT", "IMPROVED", "INSUFFICIENT_DATA")


def report(verdict: ModelVerdict, compared_with: str, source: str) -> EvaluationReport:
    metric = Metric(
        measure="nDCG@10", slice="all", subject="difference", value=0.1, lower=0.05, upper=0.15, queries=9
    )
    return EvaluationReport(
        verdict=verdict, advice=("an advice",), metrics=(metric,), source=source, compared_with=compared_with
    )


def train(folder: Path, progress: ProgressReporter) -> None:
    spec = read_spec(folder / SPEC, TrainingSpec)
    begun = find_work(folder, spec) / "begun"
    times = len(begun.read_text()) if begun.exists() else 0
    begun.write_text("x" * (times + 1))
    progress("training", 0.2, {"step": 1, "steps": 10, "loss": 0.5, "learning_rate": 1e-4})
    progress("evaluating", 0.6, {"step": 2, "development_ndcg": 0.25, "eta_s": 2.5})
    while "stop" in spec.description and not times:
        time.sleep(0.02)
    while "hold" in spec.description and not (folder / "go").exists():
        time.sleep(0.02)
    if spec.description == "full":
        raise DiskFullError("no space")
    bad = spec.description == "bad"
    if not bad:
        shutil.copytree(spec.base.folder, folder / MODEL)
    verdict = next((one for one in VERDICTS if one in spec.description), "NO_IMPROVEMENT")
    source = "judgments" if spec.judgments else "clicks"
    result = TrainingResult(
        evaluation=report("BAD_DATA" if bad else verdict, spec.serving.name if spec.serving else "", source),
        kind=spec.kind, base=spec.base.name, examples=spec.examples_name, data_hash=f"begun {times + 1}",
        loss=spec.loss, steps=10, seed=spec.seed, joint_layers=0, max_tokens=spec.max_tokens, train_s=1.5,
        simulated=False, blend=Blend(rerank=0.5, fused=0.5), has_model=not bad,
    )  # fmt: skip
    if "few unseen" in spec.description:
        found = result.evaluation.model_copy(update={"cautions": ("FEW_UNSEEN",)})
        result = result.model_copy(update={"evaluation": found})
    write_model(folder / RESULT, result)


def evaluate(folder: Path, progress: ProgressReporter) -> None:
    spec = read_spec(folder / SPEC, EvaluationSpec)
    progress("evaluating", 0.5)
    compared_with = spec.serving.name if spec.serving else ""
    write_model(folder / EVALUATION, report("REGRESSED", compared_with, "judgments"))


if __name__ == "__main__":
    jobs = {"train": train, "evaluate": evaluate}
    sys.exit(run_as_job(lambda progress: jobs[sys.argv[1]](Path(sys.argv[2]), progress)))
