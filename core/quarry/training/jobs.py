"""Runs training jobs: one at a time, each in a process of its own, which the trainer provides."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import TypeVar

from quarry.errors import QuarryError
from quarry.jobs.files import read_answer
from quarry.jobs.process import OnDetails, OnProgress, RunProcess, check_installed, run_process
from quarry.jobs.runner import JobRunner, ReadDeleted
from quarry.jobs.waited_for import EndOperation
from quarry.training.examples_limits import ExamplesLimits
from quarry.training.folders import EVALUATION, MODEL, RESULT, AnySpec, TrainingFolders
from quarry.training.spec import (
    EvaluationReport,
    EvaluationSpec,
    TrainingResult,
    TrainingSpec,
    TuningResult,
    TuningSpec,
)
from quarry.training.uploads import Uploads
from quarry.waiting import finish_undisturbed

T = TypeVar("T")

MODULE = "quarry_trainer.job"
NEEDED = ("quarry_trainer", "accelerate", "pyarrow", "scipy")

Take = Callable[[TrainingSpec, TrainingResult, Path], Awaitable[T]]
"""Gets what was asked for, what a training gave, and the folder of its model, which goes when the call has
ended."""
TakeTuning = Callable[[TuningSpec, TuningResult], Awaitable[T]]


class TrainingJobs:
    """Queues, runs and ends jobs of one data folder. Lives on one event loop.

    Args:
        end_operation: ends what a job was waiting for when it did not come to its end.
    """

    def __init__(
        self,
        data: Path,
        end_operation: EndOperation,
        run: RunProcess = run_process,
        limits: ExamplesLimits | None = None,
    ) -> None:
        self.folders, self.uploads = TrainingFolders(data), Uploads(data, limits or ExamplesLimits())
        self._run = run
        self._runner: JobRunner[AnySpec] = JobRunner(self.folders, end_operation)
        self._training, self._evaluating = asyncio.Lock(), asyncio.Lock()

    @staticmethod
    def check_installed() -> None:
        """Raises FailedPreconditionError if the trainer, or what it needs, is not installed."""
        check_installed("trainer", NEEDED)

    async def train(
        self, spec: TrainingSpec, on_progress: OnProgress, on_details: OnDetails, take: Take[T]
    ) -> tuple[TrainingResult, T]:
        """Trains, and returns the result and what ``take`` makes of it. Other trainings go first.

        Nothing cancels ``take`` once it has begun. Unless it ends well, the job's work stays, and the same
        request goes on where it was.

        Raises:
            QuarryError: the one that the job reported, or ``take`` raised.
            Cancelled: what it is made from was deleted meanwhile.
        """

        async def fill(folder: Path) -> tuple[TrainingResult, T]:
            await self._run(MODULE, ["train", str(folder)], on_progress, on_details)
            result = await asyncio.to_thread(_read_result, folder)
            taken = await finish_undisturbed(take(spec, result, folder / MODEL))
            await asyncio.to_thread(self.folders.remove_work, spec)
            return result, taken

        return await self._runner.run(spec, self._training, on_progress, fill)

    async def evaluate(
        self, spec: EvaluationSpec, on_progress: OnProgress, on_details: OnDetails
    ) -> EvaluationReport:
        """Compares two models. Other evaluations go first. Raises as ``train``."""

        async def compare(folder: Path) -> EvaluationReport:
            await self._run(MODULE, ["evaluate", str(folder)], on_progress, on_details)
            return await asyncio.to_thread(read_answer, folder / EVALUATION, EvaluationReport)

        return await self._runner.run(spec, self._evaluating, on_progress, compare)

    async def tune(
        self, spec: TuningSpec, on_progress: OnProgress, on_details: OnDetails, take: TakeTuning[T]
    ) -> tuple[TuningResult, T]:
        """Tunes, and returns the result and what ``take`` makes of it; nothing cancels that. Evaluations go
        first.

        Raises as ``train``.
        """

        async def fit(folder: Path) -> tuple[TuningResult, T]:
            await self._run(MODULE, ["tune", str(folder)], on_progress, on_details)
            result = await asyncio.to_thread(read_answer, folder / RESULT, TuningResult)
            return result, await finish_undisturbed(take(spec, result))

        return await self._runner.run(spec, self._evaluating, on_progress, fit)

    async def end_trainings_on(self, mining_sets: Collection[str]) -> None:
        """Ends trainings on these mining sets, and removes what they have left."""

        def matches(spec: AnySpec) -> bool:
            return isinstance(spec, TrainingSpec) and spec.examples_name in mining_sets

        if mining_sets:
            await self._runner.end(matches)
            await asyncio.to_thread(self.folders.remove_made_of, mining_sets)

    async def remove_of_deleted(self, read_deleted: ReadDeleted) -> None:
        """Ends jobs on collections that were deleted, and removes what they have left."""
        await self._runner.remove_of_deleted(read_deleted)


def _read_result(folder: Path) -> TrainingResult:
    result = read_answer(folder / RESULT, TrainingResult)
    if result.has_model and not (folder / MODEL).is_dir():
        raise QuarryError("the job says that it has made a model, and has left none")
    return result
