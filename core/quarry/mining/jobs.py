"""Runs mining jobs: one at a time, each in a process of its own, which the miner provides."""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from pathlib import Path
from typing import Any

from quarry.errors import QuarryError
from quarry.jobs.process import OnProgress, check_installed, run_process
from quarry.mining.estimate import EstimateSpec, RelevanceReport
from quarry.mining.sets import ESTIMATE_PREFIX, FOLDER, SPEC, MiningSets, write_model
from quarry.mining.spec import MiningSpec, MiningSummary
from quarry.waiting import end, until_ended

MODULE = "quarry_miner.job"
NEEDED = ("quarry_miner", "pyarrow", "scipy", "sklearn", "jinja2", "matplotlib")
ESTIMATE = "estimate.json"

RunProcess = Callable[[str, Sequence[str], OnProgress], Coroutine[Any, Any, None]]
"""Runs a module's main with arguments, as ``quarry.jobs.process.run_process``."""


class MiningJobs:
    """Queues, runs and ends jobs of one data folder. Lives on one event loop."""

    def __init__(self, data: Path, run: RunProcess = run_process) -> None:
        self.sets = MiningSets(data)
        self._data, self._run = data, run
        self._mining, self._estimating = asyncio.Lock(), asyncio.Lock()
        self._running: dict[str, tuple[MiningSpec, asyncio.Task[None]]] = {}

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
        await on_progress("waiting", 0.0)
        async with self._mining:
            folder = await asyncio.to_thread(self.sets.create, spec)
            task = asyncio.create_task(self._run(MODULE, ["mine", str(folder)], on_progress))
            self._running[spec.name] = spec, task
            try:
                await until_ended(task)
                return await asyncio.to_thread(self.sets.get, spec.name)
            except BaseException:
                await asyncio.shield(asyncio.to_thread(self.sets.remove, spec.name))
                raise
            finally:
                del self._running[spec.name]

    async def estimate(self, spec: EstimateSpec) -> RelevanceReport:
        """Fits a click model. Raises QuarryError, the one that the job reported."""

        async def unheard(_stage: str, _progress: float) -> None:
            pass

        async with self._estimating:
            folder = await asyncio.to_thread(self._estimate_folder, spec)
            try:
                await self._run(MODULE, ["estimate", str(folder)], unheard)
                return await asyncio.to_thread(_read_report, folder / ESTIMATE)
            finally:
                await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, True))

    async def purge_mining_sets(self, key: int, start_us: int | None, end_us: int | None) -> list[str]:
        """Removes sets made from feedback of that time, ends jobs that read feedback; names of the sets."""
        await self._end([s.name for s, _ in self._running.values() if s.collection_key == key and s.feedback])
        return await asyncio.to_thread(self.sets.purge, key, start_us, end_us)

    async def remove_of_deleted(self, read_deleted: Callable[[], Awaitable[Collection[int]]]) -> list[str]:
        """Removes what was made from collections that were deleted; names of the sets.

        Args:
            read_deleted: reads the keys of the collections that were deleted on purpose.
        """
        keys = await asyncio.to_thread(self.sets.keys)
        keys |= {spec.collection_key for spec, _ in self._running.values()}
        if not keys:
            return []
        gone = keys & set(await read_deleted())
        await self._end([s.name for s, _ in self._running.values() if s.collection_key in gone])
        return await asyncio.to_thread(self.sets.remove_of, gone)

    async def _end(self, names: Collection[str]) -> None:
        await end(self._running[name][1] for name in names)

    def _estimate_folder(self, spec: EstimateSpec) -> Path:
        parent = self._data / FOLDER
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=ESTIMATE_PREFIX, dir=parent))
        write_model(folder / SPEC, spec)
        return folder


def _read_report(path: Path) -> RelevanceReport:
    try:
        return RelevanceReport.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValueError) as error:
        raise QuarryError(f"the job left no readable answer: {type(error).__name__}") from None
