"""Unpacks a tar archive that a stranger sent: every bound is checked before the bytes behind it are read."""

import bz2
import contextlib
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from quarry.errors import LimitExceededError, MalformedError, OutOfRangeError, UnavailableError
from quarry.quoting import quote
from quarry.registry.artefacts import make_copy_error

MAX_LEVELS = 8
MAX_NAME_BYTES = 512
MAX_TEXT_FILE_BYTES = 64 * 2**20
"""Of one file that is not weights: a tokenizer of 250,000 words has some 17 MB."""
UNSUSPICIOUS_BYTES = 64 * 2**20
"""What an archive may hold however well it is compressed."""
_HEADER_BYTES = 64 * 2**10
"""Of one member: its block, and what extends it, such as a long name."""
_WEIGHTS = (".safetensors", ".bin", ".model", ".onnx", ".h5", ".msgpack", ".pt")
_BROKEN = (tarfile.TarError, EOFError, ValueError, zlib.error, lzma.LZMAError, RecursionError)
_COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
"""How to open a file that begins so."""


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """The limits of an archive.

    Attributes:
        bytes: of the archive as it is sent, and of the files in it together.
        files: files and folders.
        ratio: bytes of files for each byte of the archive, once they are over ``UNSUSPICIOUS_BYTES``.
    """

    bytes: int
    files: int
    ratio: float

    def limit_unpacked(self, archive_bytes: int) -> int:
        """Computes the most bytes of the files in an archive of this size."""
        return min(self.bytes, max(UNSUSPICIOUS_BYTES, int(self.ratio * archive_bytes)))


def unpack(file: Path, target: Path, limits: ArchiveLimits, stopped: Callable[[], bool]) -> None:
    """Writes the files of an archive, plain or compressed by gzip, bzip2 or xz, below ``target``.

    Args:
        stopped: asked now and then; once it says True, nothing more is read.

    Raises:
        InvalidArgumentError: it cannot be read, holds what is no plain file, or a name that leads out of
            ``target`` or is too long or too deep.
        LimitExceededError: it holds more than ``limits`` allow, or the disk is full.
        UnavailableError: it was stopped.
    """
    try:
        with _open(file) as source:
            metered = _Metered(source, stopped)
            metered.allow(_HEADER_BYTES)
            with tarfile.open(fileobj=metered, mode="r:") as archive:  # type: ignore[call-overload]
                _extract(archive, metered, target, limits, limits.limit_unpacked(file.stat().st_size))
    except _BROKEN as error:
        problem = f"is no tar archive that can be read: {type(error).__name__}"
        raise MalformedError("archive", problem) from None
    except OSError as error:
        if isinstance(error, gzip.BadGzipFile) or error.errno is None:  # what the packers raise
            raise MalformedError("archive", "is damaged: it cannot be decompressed") from None
        raise make_copy_error(error) from error


class _Metered:
    """A file of which only so much is read as was allowed: tarfile reads whatever a header asks for."""

    def __init__(self, file: IO[bytes], stopped: Callable[[], bool]) -> None:
        self._file, self._stopped, self._left = file, stopped, 0
        self.seek, self.tell = file.seek, file.tell

    def allow(self, size: int) -> None:
        """Sets what may be read from here on."""
        self._left = size

    def read(self, size: int) -> bytes:
        if self._stopped():
            raise UnavailableError("the server stopped before the archive was unpacked")
        if size > self._left:
            raise LimitExceededError(f"a header in the archive has over {_HEADER_BYTES} bytes")
        self._left -= size
        return self._file.read(size)


@contextlib.contextmanager
def _open(file: Path) -> Iterator[IO[bytes]]:
    with file.open("rb") as plain:
        first = plain.read(max(map(len, _COMPRESSED)))
        plain.seek(0)
        opening: Any = next((way for magic, way in _COMPRESSED.items() if first.startswith(magic)), None)
        if opening is None:
            yield plain
            return
        with opening(plain, "rb") as unpacked:
            yield unpacked


def _extract(
    archive: tarfile.TarFile, metered: _Metered, target: Path, limits: ArchiveLimits, most_bytes: int
) -> None:
    size = count = 0
    metered.allow(_HEADER_BYTES)
    while (member := archive.next()) is not None:
        _check_member(member)
        count, size = count + 1, size + member.size
        if count > limits.files:
            raise LimitExceededError(f"the archive has over {limits.files} files and folders")
        if size > most_bytes:
            raise LimitExceededError(_describe_excess(most_bytes, limits))
        metered.allow(member.size)
        archive.extract(member, target, filter="data")
        metered.allow(_HEADER_BYTES)
        archive.members.clear()  # type: ignore[attr-defined]  # it would keep every header


def _describe_excess(most_bytes: int, limits: ArchiveLimits) -> str:
    if most_bytes == limits.bytes:
        return f"the archive holds over {limits.bytes} bytes"
    return f"the archive holds over {most_bytes} bytes: over {limits.ratio:g} times what it has itself"


def _check_member(member: tarfile.TarInfo) -> None:
    """Raises InvalidArgumentError, or LimitExceededError for a text file that is too large."""
    name = PurePosixPath(member.name)
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise MalformedError("archive", f"{quote(member.name)} is neither a plain file nor a folder")
    if member.size < 0 or (member.isdir() and member.size):  # tar can write down sizes below zero
        raise MalformedError("archive", f"{quote(member.name)} has a size that it cannot have")
    if ".." in name.parts:
        raise MalformedError("archive", f"{quote(member.name)} leads out of it")
    if len(name.parts) > MAX_LEVELS or len(member.name.encode(errors="replace")) > MAX_NAME_BYTES:
        raise OutOfRangeError(
            "archive",
            f"{quote(member.name)} is over {MAX_LEVELS} levels deep or has over {MAX_NAME_BYTES} bytes",
        )
    if member.isreg() and member.size > MAX_TEXT_FILE_BYTES and name.suffix not in _WEIGHTS:
        raise LimitExceededError(f"{quote(member.name)} has over {MAX_TEXT_FILE_BYTES} bytes")
