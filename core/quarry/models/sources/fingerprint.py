"""The fingerprint of a model: a hash of weights, tokenizer and settings, computed once a file."""

import hashlib
import json
import logging
import os
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from quarry.models.run_settings import LATE_KEY, SPLIT_KEY, ModelRunSettings, make_separate_key

logger = logging.getLogger(__name__)

EXPORT_FORMAT = 1
"""Raised when the same files would be run differently, so that what was derived from them is made anew."""
APART_FORMATS: dict[str, list[str | int]] = {SPLIT_KEY: [1], LATE_KEY: ["late", 1]}
"""Raised as well, for re-rankers that read texts apart alone, by their kind."""
HASHED = (
    *("*.safetensors", "pytorch_model*.bin", "*.index.json", "config.json", "modules.json"),
    *("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "*.model"),
)
SETTLED_S = 2.0
"""A file touched later than this before it was hashed could change again under the same time stamp."""


class FileHashes:
    """Content hashes of files, kept in one JSON file by what the file system says of them.

    Args:
        store: the JSON file; None: nothing is kept, and every file is read.

    A hash is kept under path, inode, size, mtime and ctime. The ctime cannot be set back by a copy that
    preserves times, which is what makes the shortcut sound.
    """

    def __init__(self, store: Path | None) -> None:
        self._store = store
        self._known: dict[str, str] = {} if store is None else _read(store)

    def compute(self, path: Path) -> str:
        """Computes the hex blake2b of the file's bytes."""
        real = path.resolve()
        before = real.stat()
        key = f"{real}|{before.st_ino}|{before.st_size}|{before.st_mtime_ns}|{before.st_ctime_ns}"
        if key in self._known:
            return self._known[key]
        with real.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        if self._store is not None and time.time() - before.st_ctime > SETTLED_S:
            self._known[key] = digest
            try:
                _save(self._store, self._known)
            except OSError as error:
                logger.warning("hashes of model files are not kept, and will be computed again: %s", error)
        return digest


def compute_fingerprint(folder: Path, settings: ModelRunSettings, hashes: FileHashes) -> str:
    """Computes a hash, 32 hex digits, of all that an output of the model depends on."""
    digest = hashlib.blake2b(digest_size=16)
    own = APART_FORMATS.get(make_separate_key(folder) or "", [])
    digest.update(json.dumps([EXPORT_FORMAT, *own, settings.to_json()], sort_keys=True).encode())
    for path in sorted(_list_hashed_files(folder)):
        digest.update(f"{path.relative_to(folder).as_posix()}={hashes.compute(path)}\n".encode())
    return digest.hexdigest()


def _list_hashed_files(folder: Path) -> Iterator[Path]:
    for pattern in HASHED:
        yield from folder.glob(pattern)
        yield from folder.glob(f"[0-9]_*/{pattern}")


def _read(store: Path) -> dict[str, str]:
    """Reads what is kept and sound; a hash that is missing or damaged is computed again."""
    try:
        known = json.loads(store.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    entries = known.items() if isinstance(known, dict) else ()
    split = {key: str(value).partition(":") for key, value in entries}
    return {
        key: digest for key, (digest, _, check) in split.items() if check == _compute_checksum(key, digest)
    }


def _save(store: Path, known: Mapping[str, str]) -> None:
    """Adds ``known`` to what is kept, each with its checksum. Raises OSError."""
    store.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=store.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            both = {**_read(store), **known}
            json.dump(
                {key: f"{digest}:{_compute_checksum(key, digest)}" for key, digest in both.items()}, file
            )
        Path(temporary).replace(store)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise


def _compute_checksum(key: str, digest: str) -> str:
    return f"{zlib.crc32(f'{key}={digest}'.encode()):08x}"
