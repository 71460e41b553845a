"""Stands in for ``quarry_miner.job`` and ``quarry_trainer.job``: ends as ``QUARRY_TEST_LOOP`` says.

A verdict on the model; or ``TOO_EASY``, the mining set's; or ``stop``: training is not done until the job is
killed and begun again.
"""

import os
import shutil
import sys
import time
from pathlib import Path

from quarry.jobs.child import ProgressReporter, read_spec, run_as_job
from quarry.jobs.files import write_model
from quarry.jobs.folders import SPEC
from quarry.mining.sets import EXAMPLES, PAGE, REPORT, SUMMARY
from quarry.mining.spec import MiningSpec, MiningSummary
from quarry.training.folders import MODEL, RESULT, find_work
from quarry.training.spec import EvaluationReport, Metric, ModelVerdict, TrainingResult, TrainingSpec

WANTED = os.environ.get("QUARRY_TEST_LOOP", "IMPROVED")
VERDICTS: tuple[ModelVerdict, ...] = ("REGRESSED", "NO_IMPROVEMENT", "IMPROVED", "INSUFFICIENT_DATA")


def mine(folder: Path, progress: ProgressReporter) -> None:
    spec = read_spec(folder / SPEC, MiningSpec)
    progress("candidates", 0.5)
    for name in (EXAMPLES, REPORT, PAGE):
        (folder / name).write_text("{}")
    easy = WANTED == "TOO_EASY"
    summary = MiningSummary(
        name=spec.name, collection=spec.collection, collection_key=spec.collection_key, preset=spec.preset,
        create_time_us=spec.create_time_us, verdict="TOO_EASY" if easy else "GOOD",
        advice=("ask for harder ones",) if easy else (), pairs=4, coverage=1.0, rows=20, false_negatives=None,
        false_negatives_lower=None, false_negatives_upper=None, rungs={}, members=(), simulated=False,
        data_hash="h", feedback_start_us=0, feedback_end_us=spec.create_time_us,
    )  # fmt: skip
    write_model(folder / SUMMARY, summary)


def train(folder: Path, progress: ProgressReporter) -> None:
    spec = read_spec(folder / SPEC, TrainingSpec)
    begun = find_work(folder, spec) / "begun"
    times = len(begun.read_text()) if begun.exists() else 0
    begun.write_text("x" * (times + 1))
    progress("training", 0.2, {"step": 1, "steps": 10})
    while WANTED == "stop" and not times:
        time.sleep(0.02)
    shutil.copytree(spec.base.folder, folder / MODEL)
    metric = Metric(
        measure="nDCG@10", slice="all", subject="difference", value=0.1, lower=0.05, upper=0.15, queries=9
    )
    report = EvaluationReport(
        verdict=WANTED if WANTED in VERDICTS else "NO_IMPROVEMENT",  # type: ignore[arg-type]
        advice=("an advice",), metrics=(metric,), source="judgments",
        compared_with=spec.serving.name if spec.serving else "",
    )  # fmt: skip
    result = TrainingResult(
        evaluation=report, kind=spec.kind, base=spec.base.name, examples=spec.examples_name,
        data_hash=f"begun {times + 1}", loss=spec.loss, steps=10, seed=spec.seed, joint_layers=0,
        max_tokens=spec.max_tokens, train_s=1.5, simulated=False,
    )  # fmt: skip
    write_model(folder / RESULT, result)


if __name__ == "__main__":
    jobs = {"mine": mine, "train": train}
    sys.exit(run_as_job(lambda progress: jobs[sys.argv[1]](Path(sys.argv[2]), progress)))
