"""The process of a job: ``python -m quarry_trainer.job``, then ``train``, ``evaluate``, ``tune`` or ``loop``,
then a folder.

The folder holds the spec, and gets the results. It lies in the data folder of a server.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from quarry.jobs.child import FolderJob, Progress, job_main, read_spec
from quarry.jobs.files import write_model
from quarry.jobs.folders import SPEC
from quarry.training.folders import EVALUATION, RESULT
from quarry.training.loop_spec import LoopSpec
from quarry.training.spec import EvaluationSpec, TrainingResult, TrainingSpec, TuningSpec


def train(folder: Path, progress: Progress) -> None:
    spec = read_spec(folder / SPEC, TrainingSpec)
    write_model(folder / RESULT, _TRAININGS[spec.what](spec, folder, progress))


def evaluate(folder: Path, progress: Progress) -> None:
    spec = read_spec(folder / SPEC, EvaluationSpec)
    from quarry_trainer.evaluation.evaluation import evaluate_models

    write_model(folder / EVALUATION, evaluate_models(spec, folder, progress))


def tune(folder: Path, progress: Progress) -> None:
    spec = read_spec(folder / SPEC, TuningSpec)
    from quarry_trainer.tuning.job import tune_ranking

    write_model(folder / RESULT, tune_ranking(spec, folder, progress))


def loop(folder: Path, progress: Progress) -> None:
    spec = read_spec(folder / SPEC, LoopSpec)
    from quarry_trainer.cycle.cycle import make_turn

    make_turn(spec, folder, progress)


# What these import takes longer than reading a broken spec.


def _reranker(spec: TrainingSpec, folder: Path, progress: Progress) -> TrainingResult:
    if spec.bootstrap is not None:
        from quarry_trainer.trainings.bootstrap import bootstrap_reranker

        return bootstrap_reranker(spec, folder, progress)
    from quarry_trainer.trainings.reranker import RerankerRecipe
    from quarry_trainer.trainings.training import train as run_training

    return run_training(spec, folder, progress, RerankerRecipe)


def _encoder(spec: TrainingSpec, folder: Path, progress: Progress) -> TrainingResult:
    from quarry_trainer.trainings.encoder import EncoderRecipe
    from quarry_trainer.trainings.training import train as run_training

    return run_training(spec, folder, progress, EncoderRecipe)


_TRAININGS: Mapping[str, Callable[[TrainingSpec, Path, Progress], TrainingResult]] = {
    "reranker": _reranker,
    "encoder": _encoder,
}
JOBS: Mapping[str, FolderJob] = {
    "train": train,
    "evaluate": evaluate,
    "tune": tune,
    "loop": loop,
}


def main(arguments: list[str]) -> int:
    return job_main("quarry_trainer.job", JOBS, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
