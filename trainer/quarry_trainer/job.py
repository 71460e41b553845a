"""The process of a job: ``python -m quarry_trainer.job``, then ``train``, ``evaluate``, ``tune`` or ``loop``,
then a folder.

The folder holds the spec, and gets the results. It lies in the data folder of a server.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from quarry.jobs.child import FolderJob, ProgressReporter, read_spec, run_job
from quarry.jobs.files import write_model
from quarry.jobs.folders import SPEC
from quarry.training.folders import EVALUATION, RESULT
from quarry.training.loop_spec import LoopSpec
from quarry.training.spec import EvaluationSpec, TrainingResult, TrainingSpec, TuningSpec


def train(folder: Path, progress: ProgressReporter) -> None:
    spec = read_spec(folder / SPEC, TrainingSpec)
    write_model(folder / RESULT, _TRAININGS[spec.kind](spec, folder, progress))


def evaluate(folder: Path, progress: ProgressReporter) -> None:
    spec = read_spec(folder / SPEC, EvaluationSpec)
    from quarry_trainer.evaluation.model_evaluation import evaluate_models

    write_model(folder / EVALUATION, evaluate_models(spec, folder, progress))


def tune(folder: Path, progress: ProgressReporter) -> None:
    spec = read_spec(folder / SPEC, TuningSpec)
    from quarry_trainer.tuning.tuning_job import tune_ranking

    write_model(folder / RESULT, tune_ranking(spec, folder, progress))


def run_loop(folder: Path, progress: ProgressReporter) -> None:
    spec = read_spec(folder / SPEC, LoopSpec)
    from quarry_trainer.loop.loop_run import run_once

    run_once(spec, folder, progress)


# What these import takes longer than reading a broken spec.


def _train_reranker(spec: TrainingSpec, folder: Path, progress: ProgressReporter) -> TrainingResult:
    if spec.document_pretraining is not None:
        from quarry_trainer.trainings.document_pretraining import pretrain_reranker

        return pretrain_reranker(spec, folder, progress)
    from quarry_trainer.trainings.reranker import RerankerRecipe
    from quarry_trainer.trainings.training_run import train as run_training

    return run_training(spec, folder, progress, RerankerRecipe)


def _train_encoder(spec: TrainingSpec, folder: Path, progress: ProgressReporter) -> TrainingResult:
    from quarry_trainer.trainings.encoder import EncoderRecipe
    from quarry_trainer.trainings.training_run import train as run_training

    return run_training(spec, folder, progress, EncoderRecipe)


_TRAININGS: Mapping[str, Callable[[TrainingSpec, Path, ProgressReporter], TrainingResult]] = {
    "reranker": _train_reranker,
    "encoder": _train_encoder,
}
JOBS: Mapping[str, FolderJob] = {
    "train": train,
    "evaluate": evaluate,
    "tune": tune,
    "loop": run_loop,
}


def main(arguments: list[str]) -> int:
    return run_job("quarry_trainer.job", JOBS, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
