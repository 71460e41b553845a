"""Files in the folders of jobs: each is there whole or not at all, whatever ends the process."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from quarry.errors import QuarryError

M = TypeVar("M", bound=BaseModel)


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


def read_answer(path: Path, kind: type[M]) -> M:
    """Reads what a job has left. Raises QuarryError if it is not there, or not what it should be."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError) as error:
        raise QuarryError(f"the job left no readable {path.name}: {type(error).__name__}") from None


def remove_folder(folder: Path, record: str = "") -> None:
    """Removes a folder.

    Args:
        record: the file that says that the folder is complete. It goes first, so that no reader takes what
            is left for the whole.
    """
    if record:
        (folder / record).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
