"""Where training jobs lie: a folder each while they run, and unfinished work until it is asked for again."""

import hashlib
import secrets
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from quarry.errors import QuarryError
from quarry.mining.sets import (
    MARK,
    NAME,
    SPEC,
    WORK,
    WORK_LIFETIME_S,
    remove_folder,
    write_bytes,
    write_model,
)
from quarry.storage.disk import cannot_write
from quarry.training.spec import EvaluationSpec, TrainingSpec, TuningSpec

M = TypeVar("M", bound=BaseModel)

FOLDER = "training"
UPLOADS = "uploads"
RESULT, EVALUATION = "result.json", "evaluation.json"
MODEL = "model"
"""Folder of the model that came of a training."""
NOT_OF_THE_WORK = {"name", "server", "create_time_us", "description", "precision", "max_text_bytes"}
"""What a training is asked that changes no step of it."""
KEY_BYTES = 16
BEGINNING_S = 60.0
"""How long a job's unfinished work may be without its mark."""
ATTEMPT = "attempt"


class TrainingMark(BaseModel):
    """What unfinished work was made from, so that it can be removed with it.

    Attributes:
        collection_keys: all that it reads.
        examples: mining set, or name of the uploaded file; empty: documents alone.
    """

    collection_keys: tuple[int, ...]
    examples: str


def work_of(folder: Path, spec: TrainingSpec) -> Path:
    """A folder for the checkpoints of the job in ``folder``, there already if the same was asked before.

    It is removed when the job's model is registered, or if nobody asks for it again for a week.
    """
    asked = orjson.dumps(spec.model_dump(exclude=NOT_OF_THE_WORK, mode="json"), option=orjson.OPT_SORT_KEYS)
    work = folder.parent / WORK / hashlib.blake2b(asked, digest_size=KEY_BYTES).hexdigest()
    work.mkdir(parents=True, exist_ok=True)
    write_model(work / MARK, TrainingMark(collection_keys=keys_of(spec), examples=spec.examples_name))
    return work


def attempt_of(work: Path) -> str:
    """A name for what is tried in ``work``, the same until the work is removed; another one after that."""
    kept = work / ATTEMPT
    if not kept.exists():
        write_bytes(kept, secrets.token_hex(KEY_BYTES).encode())
    return kept.read_text()


def keys_of(spec: TrainingSpec | EvaluationSpec | TuningSpec) -> tuple[int, ...]:
    """Keys of the collections that a job reads."""
    others = spec.bootstrap.collections if isinstance(spec, TrainingSpec) and spec.bootstrap else ()
    return tuple(sorted({spec.collection_key, *(key for _, key in others)}))


class TrainingFolders:
    """The jobs of one data folder. Blocks."""

    def __init__(self, data: Path) -> None:
        self._folder = data / FOLDER

    def create(self, spec: TrainingSpec | EvaluationSpec | TuningSpec) -> Path:
        """A folder for the job, with what is asked of it. Raises DiskFullError, or UnavailableError."""
        folder = self._folder / spec.name
        try:
            folder.mkdir(parents=True)
            write_model(folder / SPEC, spec)
        except OSError as error:
            raise cannot_write("the job cannot be written down", error) from error
        return folder

    def remove_work(self, spec: TrainingSpec) -> None:
        """What the job has left for the next try."""
        remove_folder(work_of(self._folder / spec.name, spec))

    def remove_unfinished(self, now_us: int) -> None:
        """Removes what jobs left that ended with the last server. Their work waits for the same request.

        Args:
            now_us: microseconds since 1970, of a clock that never jumps ahead.
        """
        for folder in self._folder.glob("*"):
            if NAME.fullmatch(folder.name) and folder.name != UPLOADS:
                remove_folder(folder)
        for folder in (self._folder / WORK).glob("*"):
            if now_us / 1e6 - folder.stat().st_mtime > WORK_LIFETIME_S:
                remove_folder(folder)

    def keys(self) -> set[int]:
        """Keys of the collections that unfinished work was made from."""
        return {key for _, mark in self._work() for key in mark.collection_keys}

    def remove_work_of(self, keys: Collection[int] = (), examples: Collection[str] = ()) -> None:
        """Removes unfinished work that was made from one of these collections, or of these mining sets."""
        for folder, mark in self._work():
            if mark.examples in examples or set(mark.collection_keys) & set(keys):
                remove_folder(folder)

    def _work(self) -> Iterator[tuple[Path, TrainingMark]]:
        for folder in (self._folder / WORK).glob("*"):
            try:
                yield folder, TrainingMark.model_validate_json((folder / MARK).read_bytes())
            except FileNotFoundError:  # a job that begins has its folder a moment before its mark
                if folder.exists() and time.time() - folder.stat().st_mtime > BEGINNING_S:
                    remove_folder(folder)
            except ValidationError:
                remove_folder(folder)  # it can be made again, and nothing says of whom it tells


def read_answer(path: Path, kind: type[M]) -> M:
    """What a job has left. Raises QuarryError if it is not there, or not what it should be."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError) as error:
        raise QuarryError(f"the job left no readable {path.name}: {type(error).__name__}") from None
