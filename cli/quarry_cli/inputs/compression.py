"""Files that are packed by gzip, bzip2, xz or Zstandard, told apart by how they begin."""

import bz2
import gzip
import importlib
import io
import lzma
from collections.abc import Callable
from typing import Any, BinaryIO, cast

from quarry_cli.failures import CliError

BUFFER_BYTES = 2**16


def unpack_zstandard(packed: BinaryIO) -> Any:
    """Unpacks with what is there: Python's own module, from 3.14 on, or pyarrow. Raises CliError."""
    try:
        return importlib.import_module("compression.zstd").ZstdFile(packed)
    except ImportError:
        pass
    try:
        return importlib.import_module("pyarrow").CompressedInputStream(packed, "zstd")
    except ImportError:
        raise CliError("files packed by Zstandard need pyarrow", "pip install pyarrow") from None


UNPACKERS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": lambda packed: gzip.GzipFile(fileobj=packed),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ": lzma.LZMAFile,
    b"\x28\xb5\x2f\xfd": unpack_zstandard,
}
"""What unpacks a file, by its first bytes."""
PACKED_SUFFIXES = (".gz", ".bz2", ".xz", ".zst")


def make_buffered(raw: Any) -> io.BufferedReader:
    """Returns a stream whose next bytes can be looked at; a pipe has no way back."""
    return raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(raw, BUFFER_BYTES)


def open_unpacked(raw: Any) -> BinaryIO:
    """Opens the content of a file, unpacked if it begins as a packed one does.

    Raises:
        CliError: nothing that is installed unpacks it.
    """
    stream = make_buffered(raw)
    start = stream.peek(8)[:8]
    for magic, unpack in UNPACKERS.items():
        if start.startswith(magic):
            return cast(BinaryIO, unpack(stream))
    return cast(BinaryIO, stream)
