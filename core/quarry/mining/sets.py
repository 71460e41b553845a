"""Where mining sets lie: a folder each, complete when its summary is there."""

import logging
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from quarry.errors import DataLossError, NotFoundError
from quarry.mining.spec import MiningSpec, MiningSummary

logger = logging.getLogger(__name__)
M = TypeVar("M", bound=BaseModel)

FOLDER = "mining"
WORK = ".work"
ESTIMATE_PREFIX = ".estimate-"
SPEC, SUMMARY = "spec.json", "summary.json"
EXAMPLES, REPORT, PAGE = "examples.parquet", "report.json", "report.html"
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,99}")
WORK_LIFETIME_S = 7 * 24 * 3_600.0
"""How long unfinished work waits for its request to be made again."""
MARK = "of.json"
"""In a folder of unfinished work: which collection and which feedback it was made from."""


class MiningSets:
    """The sets of one data folder. Blocks."""

    def __init__(self, data: Path) -> None:
        self._folder = data / FOLDER

    def create(self, spec: MiningSpec) -> Path:
        """A folder for the set, with what is asked of the job that will fill it."""
        folder = self._folder / spec.name
        folder.mkdir(parents=True)
        write_model(folder / SPEC, spec)
        return folder

    def get(self, name: str) -> MiningSummary:
        """Raises NotFoundError unless the set is finished."""
        summary = self._summary(self.folder(name))
        if summary is None:
            raise no_set(name)
        return summary

    def all(self, collection: str = "") -> list[MiningSummary]:
        """Finished sets, newest first."""
        found = [summary for summary in self._summaries() if collection in ("", summary.collection)]
        return sorted(found, key=lambda s: (-s.create_time_us, s.name))

    def folder(self, name: str) -> Path:
        """Where the set lies. Raises NotFoundError for what cannot be a name."""
        if not NAME.fullmatch(name):
            raise no_set(name)
        return self._folder / name

    def text(self, name: str, file: str) -> str:
        """One of a set's files. Raises NotFoundError."""
        try:
            return (self.folder(name) / file).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise no_set(name) from None

    def remove(self, name: str) -> None:
        remove_folder(self.folder(name))

    def remove_unfinished(self, now_us: int) -> None:
        """Removes what jobs left that ended with the last server. Their work waits for the same request.

        Args:
            now_us: microseconds since 1970, of a clock that never jumps ahead.
        """
        for folder in self._folders():
            if not (folder / SUMMARY).exists():
                remove_folder(folder)
        for folder in self._folder.glob(f"{ESTIMATE_PREFIX}*"):
            remove_folder(folder)
        for folder in (self._folder / WORK).glob("*"):
            if now_us / 1e6 - folder.stat().st_mtime > WORK_LIFETIME_S:
                remove_folder(folder)

    def keys(self) -> set[int]:
        """Keys of the collections that sets and unfinished work were made from."""
        found = {summary.collection_key for summary in self._summaries()}
        return found | {mark.collection_key for _, mark in self._work()}

    def remove_of(self, keys: Collection[int]) -> list[str]:
        """Removes sets, and unfinished work, of these collections; names of the sets."""
        gone = [s.name for s in self._summaries() if s.collection_key in keys]
        for name in gone:
            self.remove(name)
        for folder, mark in self._work():
            if mark.collection_key in keys:
                remove_folder(folder)
        return gone

    def purge(self, key: int, start_us: int | None, end_us: int | None) -> list[str]:
        """Removes sets, and unfinished work, made from feedback of that time; names of the sets.

        Args:
            key: the collection's.
            start_us: inclusive; None: from the first. ``end_us`` is exclusive; None: to the last.
        """
        gone = [
            s.name for s in self._summaries() if s.collection_key == key and _overlaps(s, start_us, end_us)
        ]
        for name in gone:
            self.remove(name)
        for folder, mark in self._work():
            if mark.collection_key == key and mark.from_feedback:
                remove_folder(folder)
        return gone

    def _folders(self) -> Iterator[Path]:
        for folder in self._folder.glob("*"):
            if NAME.fullmatch(folder.name) and folder.is_dir():
                yield folder

    def _summaries(self) -> Iterator[MiningSummary]:
        for folder in self._folders():
            try:
                summary = self._summary(folder)
            except DataLossError as error:
                logger.warning("%s", error)
                continue
            if summary is not None:
                yield summary

    @staticmethod
    def _summary(folder: Path) -> MiningSummary | None:
        try:
            return MiningSummary.model_validate_json((folder / SUMMARY).read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            raise DataLossError(f"the summary of the mining set {folder.name} cannot be read") from None

    def _work(self) -> Iterator[tuple[Path, "WorkMark"]]:
        for folder in (self._folder / WORK).glob("*"):
            try:
                yield folder, WorkMark.model_validate_json((folder / MARK).read_bytes())
            except (FileNotFoundError, ValidationError):
                remove_folder(folder)  # it can be made again, and nothing says of whom it tells


class WorkMark(BaseModel):
    """What unfinished work was made from, so that it can be removed with it."""

    collection_key: int
    from_feedback: bool


def _overlaps(summary: MiningSummary, start_us: int | None, end_us: int | None) -> bool:
    first, last = summary.feedback_start_us, summary.feedback_end_us
    if first is None or last is None:
        return False
    return (end_us is None or first < end_us) and (start_us is None or last >= start_us)


def no_set(name: str) -> NotFoundError:
    return NotFoundError(f"no mining set is called {name[:80]!r}", mining_set=name[:80])


def remove_folder(folder: Path) -> None:
    """Removes a folder; first its summary, so that no reader takes what is left for a set."""
    (folder / SUMMARY).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def write_model(path: Path, model: BaseModel) -> None:
    write_bytes(path, model.model_dump_json().encode())


def write_json(path: Path, value: object) -> None:
    write_bytes(path, orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file that is there whole or not at all, whatever ends the process."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
