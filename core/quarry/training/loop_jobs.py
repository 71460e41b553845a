"""Runs turns of the loop: one at a time, each in a process of its own, which the trainer provides."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

from quarry.errors import Cancelled, QuarryError
from quarry.jobs.process import OnProgress, check_installed, run_process, unheard
from quarry.training.folders import read_answer
from quarry.training.jobs import RunProcess
from quarry.training.loop_reports import REPORT, LoopReports
from quarry.training.loop_spec import LoopReport, LoopSpec
from quarry.training.waited_for import EndOperation, read_operation
from quarry.waiting import end, until_ended

logger = logging.getLogger(__name__)

MODULE = "quarry_trainer.job"
NEEDED = {
    "trainer": ("quarry_trainer", "accelerate", "pyarrow", "scipy", "jinja2", "matplotlib"),
    "miner": ("quarry_miner", "sklearn"),
}


class LoopJobs:
    """Queues, runs and ends turns of one data folder. Lives on one event loop.

    Args:
        end_operation: ends what a turn was waiting for when it did not come to its end.
    """

    def __init__(self, data: Path, end_operation: EndOperation, run: RunProcess = run_process) -> None:
        self.reports = LoopReports(data)
        self._end_operation, self._run = end_operation, run
        self._turning = asyncio.Lock()
        self._running: dict[str, tuple[LoopSpec, asyncio.Task[LoopReport]]] = {}

    @staticmethod
    def check_installed() -> None:
        """Raises FailedPreconditionError if the miner or the trainer, or what they need, is not installed."""
        for extra, modules in NEEDED.items():
            check_installed(extra, modules)

    async def turn(self, spec: LoopSpec, on_progress: OnProgress) -> LoopReport:
        """Makes the turn. Others go first. A turn that fails leaves a report that says why.

        Raises:
            QuarryError: the one that the job reported.
            Cancelled: what it works on was deleted meanwhile.
        """
        task = asyncio.create_task(self._in_turn(spec, on_progress))
        self._running[spec.name] = spec, task
        try:
            return await until_ended(task)
        finally:
            del self._running[spec.name]

    async def purge(self, key: int, start_us: int | None, end_us: int | None) -> list[str]:
        """Removes reports that tell of feedback of that time, ends turns that read it; names of the
        reports."""
        await self._end({key})
        return await asyncio.to_thread(self.reports.purge, key, start_us, end_us)

    async def remove_of_deleted(self, read_deleted: Callable[[], Awaitable[Collection[int]]]) -> None:
        """Ends turns on collections that were deleted, and removes what is about them.

        Args:
            read_deleted: reads the keys of the collections that were deleted on purpose.
        """
        keys = await asyncio.to_thread(self.reports.keys)
        keys |= {spec.collection_key for spec, _ in self._running.values()}
        if not keys:
            return
        gone = keys & set(await read_deleted())
        await self._end(gone)
        await asyncio.to_thread(self.reports.remove_of, gone)

    async def _in_turn(self, spec: LoopSpec, on_progress: OnProgress) -> LoopReport:
        await on_progress("waiting", 0.0)
        async with self._turning:
            folder = await asyncio.to_thread(self.reports.create, spec)
            try:
                await self._run(MODULE, ["loop", str(folder)], on_progress, unheard)
                report = await asyncio.to_thread(read_answer, folder / REPORT, LoopReport)
            except QuarryError as error:
                await self._failed(spec, folder, error)
                raise
            except asyncio.CancelledError:
                await asyncio.shield(self._failed(spec, folder, Cancelled("the turn was cancelled")))
                raise
            if not report.name:
                await asyncio.to_thread(self.reports.remove, spec.name)
            return report

    async def _failed(self, spec: LoopSpec, folder: Path, error: QuarryError) -> None:
        if operation := await asyncio.to_thread(read_operation, folder):
            await self._end_operation(operation)
        await asyncio.to_thread(self.reports.fail, spec, error)

    async def _end(self, keys: Collection[int]) -> None:
        await end(task for spec, task in self._running.values() if spec.collection_key in keys)
