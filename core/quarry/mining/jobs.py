"""Runs mining jobs: one at a time, each in a process of its own, which the miner provides."""

import asyncio
import shutil
import tempfile
from functools import partial
from pathlib import Path

from quarry.jobs.files import read_answer, write_model
from quarry.jobs.folders import SPEC
from quarry.jobs.process import OnProgress, RunProcess, check_installed, ignore_details, run_process
from quarry.jobs.runner import JobRunner, ReadDeleted
from quarry.mining.estimate import EstimateSpec, RelevanceReport
from quarry.mining.sets import ESTIMATE_PREFIX, FOLDER, MiningSets
from quarry.mining.spec import MiningSpec, MiningSummary

MODULE = "quarry_miner.job"
NEEDED = ("quarry_miner", "pyarrow", "scipy", "sklearn", "jinja2", "matplotlib")
ESTIMATE = "estimate.json"


class MiningJobs:
    """Queues, runs and ends jobs of one data folder. Lives on one event loop."""

    def __init__(self, data: Path, run: RunProcess = run_process) -> None:
        self.sets = MiningSets(data)
        self._data, self._run = data, run
        self._runner: JobRunner[MiningSpec] = JobRunner(self.sets)
        self._mining, self._estimating = asyncio.Lock(), asyncio.Lock()

    @staticmethod
    def check_installed() -> None:
        """Raises FailedPreconditionError if the miner, or what it needs, is not installed."""
        check_installed("miner", NEEDED)

    async def mine(self, spec: MiningSpec, on_progress: OnProgress) -> MiningSummary:
        """Makes the set. Other jobs go first; an unfinished set leaves no folder.

        Raises:
            QuarryError: the one that the job reported.
            Cancelled: what it is made from was deleted meanwhile.
        """

        async def fill(folder: Path) -> MiningSummary:
            await self._run(MODULE, ["mine", str(folder)], on_progress, ignore_details)
            return await asyncio.to_thread(self.sets.get, spec.name)

        return await self._runner.run(spec, self._mining, on_progress, fill)

    async def estimate(self, spec: EstimateSpec) -> RelevanceReport:
        """Fits a click model. Raises QuarryError, the one that the job reported."""

        async def ignore_stages(_stage: str, _progress: float) -> None:
            pass

        async with self._estimating:
            folder = await asyncio.to_thread(self._make_estimate_folder, spec)
            try:
                await self._run(MODULE, ["estimate", str(folder)], ignore_stages, ignore_details)
                return await asyncio.to_thread(read_answer, folder / ESTIMATE, RelevanceReport)
            finally:
                await asyncio.shield(asyncio.to_thread(partial(shutil.rmtree, folder, ignore_errors=True)))

    async def purge_mining_sets(self, key: int, start_us: int | None, end_us: int | None) -> list[str]:
        """Removes sets made from feedback of that time, ends jobs that read it; returns the sets' names.

        A job that waits for its turn has read nothing yet, and finds what is left.
        """
        await self._runner.end(
            lambda spec: spec.collection_key == key and spec.feedback is not None, waiting=False
        )
        return await asyncio.to_thread(self.sets.purge, key, start_us, end_us)

    async def remove_of_deleted(self, read_deleted: ReadDeleted) -> None:
        """Ends jobs on collections that were deleted, and removes what was made from them."""
        await self._runner.remove_of_deleted(read_deleted)

    def _make_estimate_folder(self, spec: EstimateSpec) -> Path:
        parent = self._data / FOLDER
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=ESTIMATE_PREFIX, dir=parent))
        write_model(folder / SPEC, spec)
        return folder
