"""Files whose sizes and hashes are written down when they are made, so that a later reader notices damage."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ValidationError

from quarry.storage.sync import sync_path

MANIFEST = "manifest.json"
"""In a sealed folder: what its files must be."""


class FileMark(BaseModel):
    """The size of a file in bytes, and its hex SHA-256."""

    size: int
    sha256: str


class Manifest(BaseModel):
    """Files by their paths in a folder."""

    files: dict[str, FileMark]


def mark_file(path: Path) -> FileMark:
    """Reads all of a file to mark it as it is now: 90 MB take some 60 ms where the processor helps with
    SHA-256."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileMark(size=file.tell(), sha256=digest)


def seal_folder(folder: Path) -> None:
    """Writes the manifest of all files in ``folder``, and everything to the disk. Raises OSError."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    files = {path.relative_to(folder).as_posix(): mark_file(path) for path in paths}
    write_manifest(folder / MANIFEST, files)
    for path in [*paths, folder]:
        sync_path(path)


def write_manifest(path: Path, files: Mapping[str, FileMark]) -> None:
    """Writes it, synced. Raises OSError."""
    path.write_text(Manifest(files=dict(files)).model_dump_json(indent=1), encoding="utf-8")
    sync_path(path)


def find_damage(manifest: Path) -> str:
    """Finds what is wrong with the files that ``manifest`` names, in its folder; empty if nothing is."""
    try:
        files = Manifest.model_validate_json(manifest.read_bytes()).files
    except FileNotFoundError:
        return f"its {manifest.name} is gone"
    except (OSError, ValidationError) as error:
        return f"its {manifest.name} cannot be read ({type(error).__name__})"
    return find_difference(manifest.parent, files)


def find_difference(folder: Path, files: Mapping[str, FileMark]) -> str:
    """Finds what is wrong with ``files`` in ``folder``; empty if nothing is."""
    for path, mark in files.items():
        try:
            if mark_file(folder / path) != mark:
                return f"{path} has changed"
        except FileNotFoundError:
            return f"{path} is gone"
        except OSError as error:
            return f"{path} cannot be read ({type(error).__name__})"
    return ""
