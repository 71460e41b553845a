"""The folders of jobs: one for each, and one for unfinished work until somebody asks for it again."""

import contextlib
import logging
import re
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Generic, Protocol, Self, TypeVar

from pydantic import BaseModel, ValidationError

from quarry.errors import DataLossError, NotFoundError
from quarry.jobs.files import remove_folder, write_model
from quarry.storage.disk import make_write_error

logger = logging.getLogger(__name__)

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,99}")
SPEC = "spec.json"
WORK = ".work"
"""Folder of unfinished work, beside the folders of the jobs."""
MARK = "of.json"
"""In a folder of unfinished work: what it was made from."""
WORK_LIFETIME_S = 7 * 24 * 3_600.0
"""How long unfinished work waits for its request to be made again."""
BEGINNING_S = 60.0
"""How long unfinished work may be without its mark: a job that begins makes its folder a moment before."""


class JobRecord(Protocol):
    """A pydantic model that says how a job ended, for a folder that stays.

    Attributes:
        began_us: microseconds since 1970. Lists begin with what began last.
        feedback_start_us: the first moment of the feedback that the record tells of; None if it tells of
            none. ``feedback_end_us`` is the last one.
    """

    @property
    def name(self) -> str: ...
    @property
    def collection(self) -> str: ...
    @property
    def collection_key(self) -> int: ...
    @property
    def began_us(self) -> int: ...
    @property
    def feedback_start_us(self) -> int | None: ...
    @property
    def feedback_end_us(self) -> int | None: ...
    @classmethod
    def model_validate_json(cls, json_data: bytes) -> Self: ...


R = TypeVar("R", bound=JobRecord)
M = TypeVar("M", bound=BaseModel)


class JobFolders:
    """A folder for each job, with what is asked of it. Blocks.

    Args:
        root: of the folders.
        noun: how errors call such a job.
    """

    def __init__(self, root: Path, noun: str = "job") -> None:
        self.root, self.noun = root, noun

    def create(self, name: str, spec: BaseModel) -> Path:
        """Makes a job's folder, and writes down there what is asked of the job.

        Raises DiskFullError, or UnavailableError.
        """
        folder = self.root / name
        try:
            folder.mkdir(parents=True)
            write_model(folder / SPEC, spec)
        except OSError as error:
            raise make_write_error(f"the {self.noun} cannot be written down", error) from error
        return folder

    def list_folders(self) -> list[Path]:
        return [path for path in self.root.glob("*") if NAME.fullmatch(path.name) and path.is_dir()]


class JobRecords(Generic[R]):
    """Folders of jobs that stay. Each is complete when its record is there. Blocks.

    Args:
        kind: of the records; ``file`` is the name of the file that holds one.
        noun: how errors call what a job has made; ``label`` is that name in their metadata.
    """

    def __init__(self, folders: JobFolders, kind: type[R], file: str, noun: str, label: str) -> None:
        self._folders, self._kind, self._file = folders, kind, file
        self._noun, self._label = noun, label

    def get(self, name: str) -> R:
        """Reads a record. Raises NotFoundError if the job has not ended, DataLossError if it is damaged."""
        record = self._read(self.locate(name))
        if record is None:
            raise self.make_missing_error(name)
        return record

    def list_newest(self, collection: str = "") -> list[R]:
        """Lists the records, of one collection or of all; what began last comes first.

        A damaged record hides its job alone.
        """
        found = [record for record in self._list_records() if collection in ("", record.collection)]
        return sorted(found, key=lambda record: (-record.began_us, record.name))

    def locate(self, name: str) -> Path:
        """Returns where a job lies. Raises NotFoundError for what cannot be a name."""
        if not NAME.fullmatch(name):
            raise self.make_missing_error(name)
        return self._folders.root / name

    def read_text(self, name: str, file: str) -> str:
        """Reads one of a job's files. Raises NotFoundError."""
        try:
            return (self.locate(name) / file).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise self.make_missing_error(name) from None

    def remove(self, name: str) -> None:
        remove_folder(self.locate(name), self._file)

    def list_unfinished(self) -> list[Path]:
        """Lists the folders that have no record."""
        return [folder for folder in self._folders.list_folders() if not (folder / self._file).exists()]

    def list_keys(self) -> set[int]:
        """Returns the keys of the collections that the records are about."""
        return {record.collection_key for record in self._list_records()}

    def remove_by_collection(self, keys: Collection[int]) -> list[str]:
        """Removes what is about these collections; returns the names."""
        return self._remove_where(lambda record: record.collection_key in keys)

    def purge(self, key: int, start_us: int | None, end_us: int | None) -> list[str]:
        """Removes what tells of feedback of that time; returns the names.

        Args:
            key: the collection's.
            start_us: inclusive; None: from the first. ``end_us`` is exclusive; None: to the last.
        """

        def is_told(record: R) -> bool:
            first, last = record.feedback_start_us, record.feedback_end_us
            if record.collection_key != key or first is None or last is None:
                return False
            return (end_us is None or first < end_us) and (start_us is None or last >= start_us)

        return self._remove_where(is_told)

    def make_missing_error(self, name: str) -> NotFoundError:
        """Returns the error for a name that no finished job has."""
        return NotFoundError(f"no {self._noun} is called {name[:80]!r}", **{self._label: name[:80]})

    def _remove_where(self, goes: Callable[[R], bool]) -> list[str]:
        gone = [folder for folder, record in self._read_records() if goes(record)]
        for folder in gone:  # by the folder's own name: the record of a job that ends may have none yet
            remove_folder(folder, self._file)
        return [folder.name for folder in gone]

    def _list_records(self) -> Iterator[R]:
        return (record for _, record in self._read_records())

    def _read_records(self) -> Iterator[tuple[Path, R]]:
        for folder in self._folders.list_folders():
            try:
                record = self._read(folder)
            except DataLossError as error:
                logger.warning("%s", error)
                continue
            if record is not None:
                yield folder, record

    def _read(self, folder: Path) -> R | None:
        try:
            return self._kind.model_validate_json((folder / self._file).read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            raise DataLossError(f"{self._file} of the {self._noun} {folder.name} cannot be read") from None


class WorkFolders(Generic[M]):
    """Unfinished work of jobs, a folder each: made again, the same request finds it. Blocks.

    Args:
        jobs: the folder that the jobs' own folders are in.
        kind: of the marks.
    """

    def __init__(self, jobs: Path, kind: type[M]) -> None:
        self._root, self._kind = jobs / WORK, kind

    def remove_old(self, now_us: int) -> None:
        """Removes what nobody has asked for again within a week.

        Args:
            now_us: microseconds since 1970, of a clock that never jumps ahead.
        """
        for folder in self._root.glob("*"):
            if now_us / 1e6 - folder.stat().st_mtime > WORK_LIFETIME_S:
                remove_folder(folder)

    def list_marks(self) -> list[M]:
        return [mark for _, mark in self._read_marks()]

    def remove_where(self, goes: Callable[[M], bool]) -> None:
        """Removes the work whose mark ``goes`` holds of."""
        for folder, mark in self._read_marks():
            if goes(mark):
                remove_folder(folder)

    def _read_marks(self) -> Iterator[tuple[Path, M]]:
        for folder in self._root.glob("*"):
            try:
                yield folder, self._kind.model_validate_json((folder / MARK).read_bytes())
            except FileNotFoundError:
                with contextlib.suppress(FileNotFoundError):  # its job may end, and remove it, at any moment
                    if time.time() - folder.stat().st_mtime > BEGINNING_S:
                        remove_folder(folder)
            except ValidationError:
                remove_folder(folder)  # it can be made again, and nothing says of whom it tells


def open_work(folder: Path, mark: BaseModel) -> Path:
    """Makes a folder for unfinished work unless it is there, and marks what the work is made from."""
    folder.mkdir(parents=True, exist_ok=True)
    write_model(folder / MARK, mark)
    return folder
