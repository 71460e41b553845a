"""The folders of training jobs: one each while they run, and unfinished work until it is asked for again."""

import hashlib
import secrets
from collections.abc import Collection
from pathlib import Path

import orjson
from pydantic import BaseModel

from quarry.errors import QuarryError
from quarry.jobs.files import remove_folder, write_bytes
from quarry.jobs.folders import WORK, JobFolders, WorkFolders, open_work
from quarry.training.spec import EvaluationSpec, TrainingSpec, TuningSpec

AnySpec = TrainingSpec | EvaluationSpec | TuningSpec

FOLDER = "training"
UPLOADS = "uploads"
RESULT, EVALUATION = "result.json", "evaluation.json"
MODEL = "model"
"""Folder of the model that came of a training."""
NOT_OF_THE_WORK = {"name", "server", "create_time_us", "description", "precision", "max_text_bytes"}
"""What a training is asked that changes no step of it."""
KEY_BYTES = 16
ATTEMPT = "attempt"


class TrainingMark(BaseModel):
    """The sources of unfinished work, so that it can be removed with them.

    Attributes:
        collection_keys: all that it reads.
        examples: mining set, or name of the uploaded file; empty: documents alone.
    """

    collection_keys: tuple[int, ...]
    examples: str


def locate_data(folder: Path) -> Path:
    """Locates the server's data folder that a job's folder lies in."""
    return folder.resolve().parent.parent


def find_work(folder: Path, spec: TrainingSpec) -> Path:
    """Finds a folder for the checkpoints of the job in ``folder``, there already if the same was asked
    before.

    It is removed when the job's model is registered, or if nobody asks for it again for a week.
    """
    asked = orjson.dumps(spec.model_dump(exclude=NOT_OF_THE_WORK, mode="json"), option=orjson.OPT_SORT_KEYS)
    work = folder.parent / WORK / hashlib.blake2b(asked, digest_size=KEY_BYTES).hexdigest()
    return open_work(work, TrainingMark(collection_keys=list_keys(spec), examples=spec.examples_name))


def name_attempt(work: Path) -> str:
    """Makes a name for what is tried in ``work``, the same until the work is removed; another one after
    that."""
    kept = work / ATTEMPT
    if not kept.exists():
        write_bytes(kept, secrets.token_hex(KEY_BYTES).encode())
    return kept.read_text()


def list_keys(spec: AnySpec) -> tuple[int, ...]:
    """Lists keys of the collections that a job reads."""
    pretraining = spec.document_pretraining if isinstance(spec, TrainingSpec) else None
    others = pretraining.collections if pretraining else ()
    return tuple(sorted({spec.collection_key, *(key for _, key in others)}))


class TrainingFolders:
    """The jobs of one data folder. Blocks."""

    def __init__(self, data: Path) -> None:
        self._jobs = JobFolders(data / FOLDER)
        self._list_work = WorkFolders(data / FOLDER, TrainingMark)

    def create(self, spec: AnySpec) -> Path:
        """Makes a folder for the job. Raises as ``JobFolders.create``."""
        return self._jobs.create(spec.name, spec)

    def settle(self, spec: AnySpec, error: QuarryError | None) -> None:
        """Removes the job's folder, and leaves its work."""
        remove_folder(self._jobs.root / spec.name)

    def list_job_keys(self, spec: AnySpec) -> tuple[int, ...]:
        return list_keys(spec)

    def remove_work(self, spec: TrainingSpec) -> None:
        """Removes what the job has left for the next try."""
        remove_folder(find_work(self._jobs.root / spec.name, spec))

    def remove_unfinished(self, now_us: int) -> None:
        """Removes what jobs left that ended with the last server. Their work waits for the same request.

        Args:
            now_us: microseconds since 1970, of a clock that never jumps ahead.
        """
        for folder in self._jobs.list_folders():
            if folder.name != UPLOADS:
                remove_folder(folder)
        self._list_work.remove_old(now_us)

    def list_keys(self) -> set[int]:
        """Returns the keys of the collections that unfinished work was made from."""
        return {key for mark in self._list_work.list_marks() for key in mark.collection_keys}

    def remove_by_collection(self, keys: Collection[int]) -> None:
        """Removes unfinished work that was made from one of these collections."""
        self._list_work.remove_where(lambda mark: not set(keys).isdisjoint(mark.collection_keys))

    def remove_made_of(self, mining_sets: Collection[str]) -> None:
        """Removes unfinished work that was made of one of these mining sets."""
        self._list_work.remove_where(lambda mark: mark.examples in mining_sets)
