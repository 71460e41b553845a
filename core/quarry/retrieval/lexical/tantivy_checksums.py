"""The check of a Tantivy index's files: each ends with a checksum that nobody reads.

A file is its content, a footer in JSON that holds the content's CRC-32, the footer's length and a magic
number, both four bytes, the least significant first.
"""

import json
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

META = "meta.json"
MAGIC = 1_337
END = struct.Struct("<II")
COMPONENTS = ("fast", "fieldnorm", "idx", "pos", "store", "term")
"""Suffixes of the files of each segment; one that has deletions has another file."""
_PIECE_BYTES = 2**20


def find_damaged_file(folder: Path, go_on: Callable[[], None] = lambda: None) -> str:
    """Finds what is wrong with a file of the last commit; empty if nothing is. Reads them all, some 1 GB a
    second.

    Merges and deletions replace files meanwhile: one that is gone is not damaged, if it is in the last commit
    no more. What has replaced it is read, too.

    Args:
        go_on: is called for each MiB that is read; a QuarryError that it raises ends the reading.
    """
    looked: set[str] = set()
    try:
        while left := sorted(_list_files(folder) - looked):
            for name in left:
                problem = _find_problem(folder / name, go_on)
                if problem is None and name in _list_files(folder):
                    return f"{name} is gone"
                if problem:
                    return f"{name} {problem}"
            looked.update(left)
    except _NoListError as error:
        return str(error)
    return ""


class _NoListError(Exception):
    """Nobody can say which files the index has."""


def _list_files(folder: Path) -> set[str]:
    """Lists the files of the segments of the last commit."""
    try:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        return {name for segment in meta["segments"] for name in _list_segment_files(segment)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _NoListError(f"{META} cannot be read ({type(error).__name__})") from error


def _list_segment_files(segment: dict[str, Any]) -> Iterator[str]:
    name = str(segment["segment_id"]).replace("-", "")
    yield from (f"{name}.{component}" for component in COMPONENTS)
    if segment["deletes"] is not None:
        yield f"{name}.{segment['deletes']['opstamp']}.del"


def _find_problem(file: Path, go_on: Callable[[], None]) -> str | None:
    """Finds what is wrong with a file: empty for one that is whole; None for one that is gone."""
    try:
        with file.open("rb") as opened:
            size = opened.seek(-END.size, 2)
            length, magic = END.unpack(opened.read(END.size))
            if magic != MAGIC or length > size:
                return "has no footer"
            opened.seek(size - length)
            expected = int(json.loads(opened.read(length))["crc"])
            opened.seek(0)
            left, crc = size - length, 0
            go_on()
            while left and (piece := opened.read(min(left, _PIECE_BYTES))):
                crc, left = zlib.crc32(piece, crc), left - len(piece)
                go_on()
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"cannot be read ({type(error).__name__})"
    return "" if crc == expected else "has changed"
