"""The folders of mining sets: one each, complete when its summary is there."""

from collections.abc import Collection
from pathlib import Path

from pydantic import BaseModel

from quarry.errors import QuarryError
from quarry.jobs.files import remove_folder
from quarry.jobs.folders import JobFolders, JobRecords, WorkFolders
from quarry.mining.spec import MiningSpec, MiningSummary

FOLDER = "mining"
ESTIMATE_PREFIX = ".estimate-"
SUMMARY = "summary.json"
EXAMPLES, REPORT, PAGE = "examples.parquet", "report.json", "report.html"


class WorkMark(BaseModel):
    """The sources of unfinished work, so that it can be removed with them."""

    collection_key: int
    from_feedback: bool


class MiningSets(JobRecords[MiningSummary]):
    """The sets of one data folder, and the jobs that make them. Blocks."""

    def __init__(self, data: Path) -> None:
        self._jobs = JobFolders(data / FOLDER, "mining set")
        self._list_work = WorkFolders(data / FOLDER, WorkMark)
        super().__init__(self._jobs, MiningSummary, SUMMARY, "mining set", "mining_set")

    def create(self, spec: MiningSpec) -> Path:
        """Makes a folder for the set. Raises as ``JobFolders.create``."""
        return self._jobs.create(spec.name, spec)

    def settle(self, spec: MiningSpec, error: QuarryError | None) -> None:
        """Removes the folder of a set that was not finished."""
        if error is not None:
            self.remove(spec.name)

    def list_job_keys(self, spec: MiningSpec) -> tuple[int, ...]:
        return (spec.collection_key,)

    def remove_unfinished(self, now_us: int) -> None:
        """Removes what jobs left that ended with the last server. Their work waits for the same request.

        Args:
            now_us: microseconds since 1970, of a clock that never jumps ahead.
        """
        for folder in [*self.list_unfinished(), *self._jobs.root.glob(f"{ESTIMATE_PREFIX}*")]:
            remove_folder(folder)
        self._list_work.remove_old(now_us)

    def list_keys(self) -> set[int]:
        """Returns the keys of the collections that sets and unfinished work were made from."""
        return super().list_keys() | {mark.collection_key for mark in self._list_work.list_marks()}

    def remove_by_collection(self, keys: Collection[int]) -> list[str]:
        """Removes sets, and unfinished work, of these collections; returns the names of the sets."""
        names = super().remove_by_collection(keys)
        self._list_work.remove_where(lambda mark: mark.collection_key in keys)
        return names

    def purge(self, key: int, start_us: int | None, end_us: int | None) -> list[str]:
        """Removes sets, and unfinished work, made from feedback of that time; returns the sets' names."""
        names = super().purge(key, start_us, end_us)
        self._list_work.remove_where(lambda mark: mark.collection_key == key and mark.from_feedback)
        return names
