"""A version's files: copied whole or not at all, and checked against their hashes before they are used.

A version's folder holds the model as it came, a manifest of that, and its export, which has a manifest of its
own: a damaged export is made anew from the model, where a damaged model is lost.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from quarry.errors import DiskFullError, ModelDamagedError, ModelError, QuarryError
from quarry.models.sources.fingerprint import HASHED
from quarry.storage.disk import is_disk_full
from quarry.storage.sealed_files import (
    MANIFEST,
    FileMark,
    Manifest,
    find_difference,
    mark_file,
    write_manifest,
)
from quarry.storage.sync import sync_path

MODEL = "model"
STAGED = ".staged-"
"""Begins the names of folders that are not yet versions."""
PATTERNS = tuple(dict.fromkeys((*HASHED, "*.json", "*.txt")))
"""What belongs to a model, at its top and in its modules' folders; weights of other formats do not."""


class VersionManifest(Manifest):
    """The files of a version, by their paths in its folder."""

    @property
    def model(self) -> dict[str, FileMark]:
        """The files of the model alone: older manifests name those of its export, too."""
        return {path: mark for path, mark in self.files.items() if path.startswith(f"{MODEL}/")}

    @property
    def hash(self) -> str:
        """Hex SHA-256 of names and hashes of the model's files."""
        lines = (f"{path}={mark.sha256}\n" for path, mark in sorted(self.model.items()))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def size(self) -> int:
        return sum(mark.size for mark in self.model.values())


def stage_model(source: Path, parent: Path) -> Path:
    """Stages a copy of the model in ``source`` in a new folder of ``parent``; the caller removes it.

    Raises DiskFullError, or ModelError if the model cannot be read.
    """
    staged: Path | None = None
    try:
        parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=STAGED, dir=parent))
        for file in list_model_files(source):
            target = staged / MODEL / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    except BaseException as error:
        if staged is not None:
            shutil.rmtree(staged, ignore_errors=True)
        if isinstance(error, OSError):
            raise make_copy_error(error) from error
        raise
    return staged


def list_model_files(folder: Path) -> Iterator[Path]:
    """Yields the files in ``folder`` that belong to a model."""
    found = {f for pattern in PATTERNS for f in [*folder.glob(pattern), *folder.glob(f"[0-9]_*/{pattern}")]}
    yield from sorted(file for file in found if file.is_file() and not file.name.startswith("."))


def seal(staged: Path) -> VersionManifest:
    """Writes the manifest of the model in ``staged``, and everything to the disk. Raises DiskFullError."""
    try:
        files = {
            path.relative_to(staged).as_posix(): mark_file(path)
            for path in sorted((staged / MODEL).rglob("*"))
            if path.is_file()
        }
        manifest = VersionManifest(files=files)
        write_manifest(staged / MANIFEST, files)
        for path in [*staged.rglob("*"), staged]:
            sync_path(path)
    except OSError as error:
        raise make_copy_error(error) from error
    return manifest


def put_in_place(staged: Path, folder: Path) -> None:
    """Renames a sealed folder. What a failed registration left there goes. Raises DiskFullError."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        staged.replace(folder)
        for parent in (folder.parent, folder.parent.parent):
            sync_path(parent)
    except OSError as error:
        raise make_copy_error(error) from error


def check(folder: Path, artefact_hash: str, name: str) -> None:
    """Raises ModelDamagedError unless the model in ``folder`` is the one that was registered."""
    problem = _find_problem(folder, artefact_hash)
    if problem:
        raise ModelDamagedError(f"{name} is damaged: {problem}; import or train it again", model=name)


def _find_problem(folder: Path, artefact_hash: str) -> str:
    try:
        manifest = VersionManifest.model_validate_json((folder / MANIFEST).read_bytes())
        if manifest.hash != artefact_hash:
            return f"its {MANIFEST} is another one"
        found = {p.relative_to(folder).as_posix() for p in (folder / MODEL).rglob("*") if p.is_file()}
        if surplus := found - manifest.files.keys():
            return f"{min(surplus)} has been added"
    except (OSError, ValidationError) as error:
        return f"its files cannot be read ({type(error).__name__})"
    return find_difference(folder, manifest.model)


def make_copy_error(error: OSError) -> QuarryError:
    """Makes an error that a caller can act on, of what went wrong with files of a model."""
    if is_disk_full(error):
        return DiskFullError("the disk that holds the models is full; nothing was registered")
    return ModelError(f"the model's files cannot be copied: {error.strerror or type(error).__name__}")
