"""Where turns of the loop lie, a folder each, complete when its report is there; and how far the loop is."""

import logging
from collections.abc import Collection, Iterator
from pathlib import Path

from pydantic import BaseModel, ValidationError

from quarry.documents.catalog import now_us
from quarry.errors import NotFoundError, QuarryError, UnavailableError
from quarry.mining.sets import NAME, SPEC, remove_folder, write_model
from quarry.storage.disk import cannot_write
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


class Place(BaseModel):
    """How far the loop of a collection has come. It tells nothing of people.

    Attributes:
        until_us: choices that the log got before this time have had their turn.
    """

    until_us: int = 0
    unfinished: Unfinished | None = None


class LoopReports:
    """The turns of one data folder. Blocks."""

    def __init__(self, data: Path) -> None:
        self._folder = data / FOLDER

    def create(self, spec: LoopSpec) -> Path:
        """A folder for the turn, with what is asked of it. Raises DiskFullError, or UnavailableError."""
        folder = self._folder / spec.name
        try:
            folder.mkdir(parents=True)
            write_model(folder / SPEC, spec)
        except OSError as error:
            raise cannot_write("the turn cannot be written down", error) from error
        return folder

    def get(self, name: str) -> LoopReport:
        """Raises NotFoundError unless the turn has ended."""
        report = _report(self._path(name))
        if report is None:
            raise no_report(name)
        return report

    def page(self, name: str) -> str:
        """The report as HTML; empty of a turn that failed. Raises NotFoundError."""
        self.get(name)
        try:
            return (self._path(name) / PAGE).read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""

    def all(self, collection: str = "") -> list[LoopReport]:
        """Reports, newest first."""
        found = [report for report in self._reports() if collection in ("", report.collection)]
        return sorted(found, key=lambda report: (-report.start_us, report.name))

    def remove(self, name: str) -> None:
        _remove(self._path(name))

    def fail(self, spec: LoopSpec, error: QuarryError) -> None:
        """Keeps a report that says why the turn did not come to its end, and nothing else of it."""
        folder = self._folder / spec.name
        _remove(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_model(folder / REPORT, failed(spec, error))

    def fail_unfinished(self) -> None:
        """At the start: what the last server left has failed."""
        for folder in self._folders():
            if (folder / REPORT).exists():
                continue
            try:
                self.fail(LoopSpec.model_validate_json((folder / SPEC).read_bytes()), STOPPED)
            except (OSError, ValidationError):
                _remove(folder)

    def keys(self) -> set[int]:
        """Keys of the collections that anything here is about."""
        places = (self._folder / PLACES).glob("*.json")
        return {report.collection_key for report in self._reports()} | {
            int(file.stem) for file in places if file.stem.isdecimal()
        }

    def remove_of(self, keys: Collection[int]) -> None:
        """Removes all that is about these collections."""
        for report in list(self._reports()):
            if report.collection_key in keys:
                _remove(self._folder / report.name)
        for key in keys:
            self._place_of(key).unlink(missing_ok=True)

    def purge(self, key: int, start_us: int | None, end_us: int | None) -> list[str]:
        """Removes reports that tell of feedback of that time; their names. As ``MiningSets.purge``."""
        gone = [
            report.name
            for report in self._reports()
            if report.collection_key == key and _overlaps(report, start_us, end_us)
        ]
        for name in gone:
            self.remove(name)
        return gone

    def place(self, key: int) -> Place:
        """How far the loop of a collection has come; at the start of it if nobody knows."""
        try:
            return Place.model_validate_json(self._place_of(key).read_bytes())
        except FileNotFoundError:
            return Place()
        except ValidationError:
            logger.warning("%s cannot be read: the loop begins anew", self._place_of(key))
            return Place()

    def set_place(self, key: int, place: Place) -> None:
        path = self._place_of(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_model(path, place)

    def _place_of(self, key: int) -> Path:
        return self._folder / PLACES / f"{key}.json"

    def _path(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise no_report(name)
        return self._folder / name

    def _folders(self) -> Iterator[Path]:
        for folder in self._folder.glob("*"):
            if NAME.fullmatch(folder.name) and folder.is_dir():
                yield folder

    def _reports(self) -> Iterator[LoopReport]:
        for folder in self._folders():
            report = _report(folder)
            if report is not None:
                yield report


def failed(spec: LoopSpec, error: QuarryError) -> LoopReport:
    """The report of a turn that did not come to its end."""
    return LoopReport(
        name=spec.name,
        collection=spec.collection,
        collection_key=spec.collection_key,
        start_us=spec.create_time_us,
        end_us=now_us(),
        outcome="FAILED",
        min_new_choices=spec.min_new_choices,
        advice=(str(error),),
        reason=error.reason,
    )


def no_report(name: str) -> NotFoundError:
    return NotFoundError(f"no report of the loop is called {name[:80]!r}", loop_report=name[:80])


def _report(folder: Path) -> LoopReport | None:
    try:
        return LoopReport.model_validate_json((folder / REPORT).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        logger.warning("the report of the turn %s cannot be read", folder.name)
        return None


def _remove(folder: Path) -> None:
    """First the report, so that no reader takes what is left for a turn."""
    (folder / REPORT).unlink(missing_ok=True)
    remove_folder(folder)


def _overlaps(report: LoopReport, start_us: int | None, end_us: int | None) -> bool:
    first, last = report.feedback_start_us, report.feedback_end_us
    if first is None or last is None:
        return False
    return (end_us is None or first < end_us) and (start_us is None or last >= start_us)
