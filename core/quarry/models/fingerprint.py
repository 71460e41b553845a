"""What tells two models apart: a hash of weights, tokenizer and settings, computed once a file."""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from quarry.models.settings import ModelSettings, is_split

EXPORT_FORMAT = 1
"""Raised when the same files would be run differently, so that what was derived from them is made anew."""
SPLIT_FORMAT = 1
"""Raised as well, for split cross-encoders alone."""
HASHED = (
    *("*.safetensors", "pytorch_model*.bin", "*.index.json", "config.json", "modules.json"),
    *("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "*.model"),
)
SETTLED_S = 2.0
"""A file touched later than this before it was hashed could change again under the same time stamp."""


class FileHashes:
    """Content hashes of files, kept in one JSON file by what the file system says of them.

    A hash is kept under path, inode, size, mtime and ctime. The ctime cannot be set back by a copy that
    preserves times, which is what makes the shortcut sound.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._known: dict[str, str] = _read(store)

    def of(self, path: Path) -> str:
        """Hex blake2b of the file's bytes."""
        real = path.resolve()
        before = real.stat()
        key = f"{real}|{before.st_ino}|{before.st_size}|{before.st_mtime_ns}|{before.st_ctime_ns}"
        if key in self._known:
            return self._known[key]
        with real.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        if time.time() - before.st_ctime > SETTLED_S:
            self._known[key] = digest
            self._save()
        return digest

    def _save(self) -> None:
        self._store.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=self._store.parent, suffix=".tmp")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({**_read(self._store), **self._known}, file)
        Path(temporary).replace(self._store)


def fingerprint(folder: Path, settings: ModelSettings, hashes: FileHashes) -> str:
    """Hex, 32 digits, of all that an output of the model depends on."""
    digest = hashlib.blake2b(digest_size=16)
    formats = [EXPORT_FORMAT, SPLIT_FORMAT] if is_split(folder) else [EXPORT_FORMAT]
    digest.update(json.dumps([*formats, settings.to_json()], sort_keys=True).encode())
    for path in sorted(_hashed_files(folder)):
        digest.update(f"{path.relative_to(folder).as_posix()}={hashes.of(path)}\n".encode())
    return digest.hexdigest()


def _hashed_files(folder: Path) -> Iterator[Path]:
    for pattern in HASHED:
        yield from folder.glob(pattern)
        yield from folder.glob(f"[0-9]_*/{pattern}")


def _read(store: Path) -> dict[str, str]:
    """What is kept; nothing if the file is missing or torn, since it can always be computed again."""
    try:
        known = json.loads(store.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
