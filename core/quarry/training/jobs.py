"""Runs training jobs: one at a time, each in a process of its own, which the trainer provides."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine
from pathlib import Path
from typing import Any, Protocol, TypeVar

from quarry.errors import QuarryError
from quarry.jobs.process import OnDetails, OnProgress, check_installed, run_process
from quarry.mining.sets import remove_folder
from quarry.training.folders import EVALUATION, MODEL, RESULT, TrainingFolders, keys_of, read_answer
from quarry.training.limits import ExamplesLimits
from quarry.training.spec import (
    EvaluationReport,
    EvaluationSpec,
    TrainingResult,
    TrainingSpec,
    TuningResult,
    TuningSpec,
)
from quarry.training.uploads import Uploads
from quarry.training.waited_for import EndOperation, read_operation
from quarry.waiting import end, undisturbed, until_ended

T = TypeVar("T")

MODULE = "quarry_trainer.job"
NEEDED = ("quarry_trainer", "accelerate", "pyarrow", "scipy")

AnySpec = TrainingSpec | EvaluationSpec | TuningSpec

Take = Callable[[TrainingResult, Path], Awaitable[T]]
"""Gets what a training gave, and the folder of its model, which goes when the call has ended."""


class RunProcess(Protocol):
    """Runs a module's main with arguments, as ``quarry.jobs.process.run_process``."""

    def __call__(
        self, module: str, arguments: list[str], on_progress: OnProgress, on_details: OnDetails
    ) -> Coroutine[Any, Any, None]: ...


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
        self._end_operation, self._run = end_operation, run
        self._training, self._evaluating = asyncio.Lock(), asyncio.Lock()
        self._running: dict[str, tuple[AnySpec, asyncio.Task[Any]]] = {}

    @staticmethod
    def check_installed() -> None:
        """Raises FailedPreconditionError if the trainer, or what it needs, is not installed."""
        check_installed("trainer", NEEDED)

    async def train(
        self, spec: TrainingSpec, on_progress: OnProgress, on_details: OnDetails, take: Take[T]
    ) -> T:
        """What ``take`` makes of the result. Other trainings go first.

        Nothing cancels ``take`` once it has begun. Unless it ends well, the job's work stays, and the same
        request goes on where it was.

        Raises:
            QuarryError: the one that the job reported, or ``take`` raised.
            Cancelled: what it is made from was deleted meanwhile.
        """

        async def trained(folder: Path) -> T:
            await self._run(MODULE, ["train", str(folder)], on_progress, on_details)
            result = await asyncio.to_thread(_read_result, folder)
            taken = await undisturbed(take(result, folder / MODEL))
            await asyncio.to_thread(self.folders.remove_work, spec)
            return taken

        return await self._in_turn(self._training, spec, on_progress, trained)

    async def evaluate(
        self, spec: EvaluationSpec, on_progress: OnProgress, on_details: OnDetails
    ) -> EvaluationReport:
        """Compares two models. Other evaluations go first. Raises as ``train``."""

        async def evaluated(folder: Path) -> EvaluationReport:
            await self._run(MODULE, ["evaluate", str(folder)], on_progress, on_details)
            return await asyncio.to_thread(read_answer, folder / EVALUATION, EvaluationReport)

        return await self._in_turn(self._evaluating, spec, on_progress, evaluated)

    async def tune(
        self,
        spec: TuningSpec,
        on_progress: OnProgress,
        on_details: OnDetails,
        take: Callable[[TuningResult], Awaitable[T]],
    ) -> T:
        """What ``take`` makes of the result; nothing cancels that. Evaluations go first.

        Raises as ``train``.
        """

        async def tuned(folder: Path) -> T:
            await self._run(MODULE, ["tune", str(folder)], on_progress, on_details)
            result = await asyncio.to_thread(read_answer, folder / RESULT, TuningResult)
            return await undisturbed(take(result))

        return await self._in_turn(self._evaluating, spec, on_progress, tuned)

    async def end_those_of(self, mining_sets: Collection[str]) -> None:
        """Ends trainings on these mining sets, and removes what they have left."""
        await self._end(
            [
                spec.name
                for spec, _ in self._running.values()
                if isinstance(spec, TrainingSpec) and spec.examples_name in mining_sets
            ]
        )
        if mining_sets:
            await asyncio.to_thread(self.folders.remove_work_of, (), mining_sets)

    async def remove_of_deleted(self, read_deleted: Callable[[], Awaitable[Collection[int]]]) -> None:
        """Ends jobs on collections that were deleted, and removes what they have left.

        Args:
            read_deleted: reads the keys of the collections that were deleted on purpose.
        """
        keys = await asyncio.to_thread(self.folders.keys)
        for spec, _ in self._running.values():
            keys.update(keys_of(spec))
        if not keys:
            return
        gone = keys & set(await read_deleted())
        await self._end([spec.name for spec, _ in self._running.values() if gone.intersection(keys_of(spec))])
        await asyncio.to_thread(self.folders.remove_work_of, gone)

    async def _in_turn(
        self,
        turn: asyncio.Lock,
        spec: AnySpec,
        on_progress: OnProgress,
        work: Callable[[Path], Coroutine[Any, Any, T]],
    ) -> T:
        async def done() -> T:
            await on_progress("waiting", 0.0)
            async with turn:
                folder = await asyncio.to_thread(self.folders.create, spec)
                try:
                    return await work(folder)
                finally:
                    await undisturbed(self._leave(folder))

        task = asyncio.create_task(done())
        self._running[spec.name] = spec, task
        try:
            return await until_ended(task)
        finally:
            del self._running[spec.name]

    async def _leave(self, folder: Path) -> None:
        """Ends what the job in ``folder`` waits for, and removes what it has left."""
        if operation := await asyncio.to_thread(read_operation, folder):
            await self._end_operation(operation)
        await asyncio.to_thread(remove_folder, folder)

    async def _end(self, names: Collection[str]) -> None:
        await end(self._running[name][1] for name in names)


def _read_result(folder: Path) -> TrainingResult:
    result = read_answer(folder / RESULT, TrainingResult)
    if result.has_model and not (folder / MODEL).is_dir():
        raise QuarryError("the job says that it has made a model, and has left none")
    return result
