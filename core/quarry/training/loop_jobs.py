"""Runs turns of the loop: one at a time, each in a process of its own, which the trainer provides."""

import asyncio
from pathlib import Path

from quarry.jobs.files import read_answer
from quarry.jobs.process import OnProgress, RunProcess, check_installed, ignore_details, run_process
from quarry.jobs.runner import JobRunner, ReadDeleted
from quarry.jobs.waited_for import EndOperation
from quarry.training.loop_reports import REPORT, LoopReports
from quarry.training.loop_spec import LoopReport, LoopSpec

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
        self._run = run
        self._runner: JobRunner[LoopSpec] = JobRunner(self.reports, end_operation)
        self._turning = asyncio.Lock()

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

        async def make(folder: Path) -> LoopReport:
            await self._run(MODULE, ["loop", str(folder)], on_progress, ignore_details)
            return await asyncio.to_thread(read_answer, folder / REPORT, LoopReport)

        return await self._runner.run(spec, self._turning, on_progress, make)

    async def purge(self, key: int, start_us: int | None, end_us: int | None) -> list[str]:
        """Removes reports that tell of feedback of that time, ends turns that read it.

        Returns the names of the reports.
        """
        await self._runner.end(lambda spec: spec.collection_key == key)
        return await asyncio.to_thread(self.reports.purge, key, start_us, end_us)

    async def remove_of_deleted(self, read_deleted: ReadDeleted) -> None:
        """Ends turns on collections that were deleted, and removes what is about them."""
        await self._runner.remove_of_deleted(read_deleted)
