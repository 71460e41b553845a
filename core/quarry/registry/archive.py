"""A version as a tar archive: made to be read by another server, and read with the suspicion that takes."""

import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from quarry.errors import MalformedError, OutOfRangeError
from quarry.models.sources.resolve import is_model
from quarry.quoting import describe_first_problem
from quarry.registry.artefacts import MODEL, list_model_files, make_copy_error
from quarry.registry.unpacking import ArchiveLimits, unpack
from quarry.registry.versions import ModelVersion
from quarry.training.spec import KindName, TrainingResult

VERSION_FILE = "version.json"
MAX_VERSION_FILE_BYTES = 8 * 2**20
_PIECE_BYTES = 2**20


class Passport(BaseModel):
    """The description of a version in an archive, beside the model's own files.

    Attributes:
        name: of the version in the server that it comes from.
    """

    model_config = ConfigDict(frozen=True)

    format: int = 1
    name: str = Field(max_length=200)
    kind: KindName
    description: str = Field("", max_length=1_024)
    quarry_version: str = Field("", max_length=100)
    result: TrainingResult | None = None

    @classmethod
    def from_version(cls, version: ModelVersion) -> "Passport":
        return cls(
            name=version.name,
            kind=version.kind,
            description=version.description,
            quarry_version=version.quarry_version,
            result=version.result,
        )


def write_archive(version: ModelVersion, model: Path) -> Iterator[bytes]:
    """Yields the archive in pieces, read from the disk as they are asked for. Raises ModelError if files
    go."""
    yield from _write_member(VERSION_FILE, Passport.from_version(version).model_dump_json(indent=1).encode())
    try:
        for file in list_model_files(model):
            size = file.stat().st_size
            yield _make_header(f"{MODEL}/{file.relative_to(model).as_posix()}", size)
            with file.open("rb") as opened:
                while piece := opened.read(_PIECE_BYTES):
                    yield piece
            if padding := -size % tarfile.BLOCKSIZE:
                yield bytes(padding)
    except OSError as error:
        raise make_copy_error(error) from error
    yield bytes(2 * tarfile.BLOCKSIZE)


def read_archive(
    file: Path, target: Path, limits: ArchiveLimits, stopped: Callable[[], bool] = lambda: False
) -> tuple[Path, Passport | None]:
    """Unpacks an archive into ``target``; the model's folder in it, and its passport if it has one.

    The archive is one that ``write_archive`` made, or holds a model's files at its top or in one folder.

    Args:
        stopped: asked now and then; once it says True, nothing more is read.

    Raises:
        UnavailableError: it was stopped.
        InvalidArgumentError: it is no tar archive, holds what is no plain file or leads out of ``target``,
            or no model.
        LimitExceededError: it holds more than ``limits`` allow.
    """
    unpack(file, target, limits, stopped)
    passport = _read_passport(target / VERSION_FILE)
    return _find_model(target), passport


def _find_model(target: Path) -> Path:
    folders = [target / MODEL, target, *(path for path in sorted(target.iterdir()) if path.is_dir())]
    for folder in folders:
        if is_model(folder):
            return folder
    raise MalformedError("archive", "holds no model: a config.json beside weights (*.safetensors)")


def _read_passport(path: Path) -> Passport | None:
    try:
        if path.stat().st_size > MAX_VERSION_FILE_BYTES:
            raise OutOfRangeError("archive", f"its {VERSION_FILE} has over {MAX_VERSION_FILE_BYTES} bytes")
        return Passport.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise MalformedError(
            "archive", f"its {VERSION_FILE} is wrong: {describe_first_problem(error)}"
        ) from None
    except OSError as error:
        raise MalformedError("archive", f"its {VERSION_FILE} cannot be read: {error.strerror}") from None


def _write_member(name: str, data: bytes) -> Iterator[bytes]:
    yield _make_header(name, len(data))
    yield data + bytes(-len(data) % tarfile.BLOCKSIZE)


def _make_header(name: str, size: int) -> bytes:
    """Makes the header of a plain file that says nothing of who made it and when."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    return member.tobuf(tarfile.PAX_FORMAT)
