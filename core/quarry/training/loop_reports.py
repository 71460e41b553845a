"""The reports of the loop, a folder each, complete when its report is there; and how far the loop is."""

import logging
from collections.abc import Collection
from pathlib import Path

from pydantic import BaseModel, ValidationError

from quarry.documents.catalog import read_now_us
from quarry.errors import QuarryError, UnavailableError
from quarry.jobs.files import remove_folder, write_model
from quarry.jobs.folders import SPEC, JobFolders, JobRecords
from quarry.training.loop_outcomes import describe_next_command
from quarry.training.loop_spec import LoopReport, LoopSpec

logger = logging.getLogger(__name__)

FOLDER, PLACES = "loops", ".places"
REPORT, PAGE = "report.json", "report.html"
STOPPED = UnavailableError("the server stopped before the turn ended")


class Unfinished(BaseModel):
    """A turn that was interrupted, for the next one to go on with.

    Attributes:
        until_us: feedback from before this time is its.
        mining_set: empty if it was not made yet.
    """

    until_us: int
    mining_set: str = ""


class LoopPlace(BaseModel):
    """The progress of a collection's loop. It tells nothing of people.

    Attributes:
        until_us: choices that the log got before this time have had their turn.
    """

    until_us: int = 0
    unfinished: Unfinished | None = None


class LoopReports(JobRecords[LoopReport]):
    """The turns of one data folder. Blocks."""

    def __init__(self, data: Path) -> None:
        self._jobs = JobFolders(data / FOLDER, "turn")
        super().__init__(self._jobs, LoopReport, REPORT, "report of the loop", "loop_report")

    def create(self, spec: LoopSpec) -> Path:
        """Makes a folder for the turn. Raises as ``JobFolders.create``."""
        return self._jobs.create(spec.name, spec)

    def settle(self, spec: LoopSpec, error: QuarryError | None) -> None:
        """Keeps why a turn failed; of one that ended well, its report, unless that has no name."""
        if error is not None:
            self.fail(spec, error)
        elif not self.get(spec.name).name:
            self.remove(spec.name)

    def list_job_keys(self, spec: LoopSpec) -> tuple[int, ...]:
        return (spec.collection_key,)

    def read_page(self, name: str) -> str:
        """Reads the report as HTML; empty of a turn that failed. Raises NotFoundError."""
        self.get(name)
        try:
            return (self.locate(name) / PAGE).read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""

    def fail(self, spec: LoopSpec, error: QuarryError) -> None:
        """Keeps a report that says why the turn did not come to its end, and nothing else of it."""
        self.remove(spec.name)
        folder = self.locate(spec.name)
        folder.mkdir(parents=True, exist_ok=True)
        write_model(folder / REPORT, report_failure(spec, error))

    def fail_unfinished(self) -> None:
        """Fails what the last server left. Called at the start."""
        for folder in self.list_unfinished():
            try:
                self.fail(LoopSpec.model_validate_json((folder / SPEC).read_bytes()), STOPPED)
            except (OSError, ValidationError):
                remove_folder(folder)

    def list_keys(self) -> set[int]:
        """Returns the keys of the collections that anything here is about."""
        places = (self._jobs.root / PLACES).glob("*.json")
        return super().list_keys() | {int(file.stem) for file in places if file.stem.isdecimal()}

    def remove_by_collection(self, keys: Collection[int]) -> list[str]:
        """Removes all that is about these collections; returns the names of the reports."""
        names = super().remove_by_collection(keys)
        for key in keys:
            self._locate_place(key).unlink(missing_ok=True)
        return names

    def read_place(self, key: int) -> LoopPlace:
        """Reads how far the loop of a collection has come; at the start of it if nobody knows."""
        try:
            return LoopPlace.model_validate_json(self._locate_place(key).read_bytes())
        except FileNotFoundError:
            return LoopPlace()
        except ValidationError:
            logger.warning("%s cannot be read: the loop begins anew", self._locate_place(key))
            return LoopPlace()

    def set_place(self, key: int, place: LoopPlace) -> None:
        path = self._locate_place(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_model(path, place)

    def _locate_place(self, key: int) -> Path:
        return self._jobs.root / PLACES / f"{key}.json"


def report_failure(spec: LoopSpec, error: QuarryError) -> LoopReport:
    """Makes the report of a run that did not come to its end."""
    return LoopReport(
        name=spec.name,
        collection=spec.collection,
        collection_key=spec.collection_key,
        start_us=spec.create_time_us,
        end_us=read_now_us(),
        outcome="FAILED",
        min_new_choices=spec.min_new_choices,
        advice=(str(error), describe_next_command("FAILED", spec.collection, "")),
        reason=error.reason,
    )
