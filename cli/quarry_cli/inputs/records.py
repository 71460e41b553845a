"""Documents in files: JSON lines as BEIR has them, CSV and Parquet."""

import csv
import gzip
import importlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson

from quarry_cli.failures import CliError

GZIP_MAGIC = b"\x1f\x8b"
ID_KEYS = ("_id", "id")
MAX_CSV_CELL = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Record:
    """One document as a file has it.

    Attributes:
        where: file and line, or file and row.
        id: of the document.
        fields: its values, before the schema has seen them.
        position: bytes of the file read so far, for progress; compressed ones if it is compressed.
    """

    where: str
    id: str
    fields: dict[str, Any]
    position: int


@dataclass(frozen=True, slots=True)
class BadRecord:
    """The place of a bad record where a document should be, and what is wrong with it."""

    where: str
    problem: str


def read_records(path: Path) -> Iterator[Record | BadRecord]:
    """Yields the documents of one file, in order.

    Raises:
        CliError: the file cannot be read, or is of no known kind.
    """
    suffix = Path(path.stem if path.suffix == ".gz" else path.name).suffix.lower()
    reader = READERS.get(suffix)
    if reader is None:
        raise CliError(f"{path}: ends in none of {', '.join(READERS)} (.gz may follow)")
    try:
        yield from reader(path)
    except (OSError, EOFError) as error:  # gzip raises EOFError for a file that was cut short
        raise CliError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def open_maybe_gzipped(raw: BinaryIO) -> BinaryIO:
    """Opens the content of a file, unpacked if it begins as gzip does."""
    packed = cast(io.BufferedReader, raw).peek(2)[:2] == GZIP_MAGIC  # a pipe has no way back
    return cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if packed else raw


def _read_so_far(raw: BinaryIO) -> int:
    return raw.tell() if raw.seekable() else 0


def _read_json_lines(path: Path) -> Iterator[Record | BadRecord]:
    with path.open("rb") as raw:
        for number, line in enumerate(open_maybe_gzipped(raw), 1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.strip():
                yield _from_json(f"{path}:{number}", line, _read_so_far(raw))


def _from_json(where: str, line: bytes, position: int) -> Record | BadRecord:
    try:
        content = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return BadRecord(where, f"is not JSON: {error}")
    if not isinstance(content, dict):
        return BadRecord(where, "is not a JSON object")
    metadata = content.get("metadata")
    if isinstance(metadata, dict):  # BEIR puts further fields there, or leaves it empty
        del content["metadata"]
        content = {**metadata, **content}
    return _parse_record(where, content, position)


def _read_csv(path: Path, delimiter: str = ",") -> Iterator[Record | BadRecord]:
    csv.field_size_limit(MAX_CSV_CELL)
    with path.open("rb") as raw:
        text = io.TextIOWrapper(open_maybe_gzipped(raw), encoding="utf-8-sig", newline="")
        rows = csv.DictReader(text, delimiter=delimiter, strict=True)
        try:
            for row in rows:
                yield _from_row(f"{path}:{rows.line_num}", row, _read_so_far(raw))
        except (csv.Error, UnicodeDecodeError) as error:
            raise CliError(f"{path}:{rows.line_num + 1}: is not CSV in UTF-8: {error}") from None


def _from_row(where: str, row: dict[str, Any], position: int) -> Record | BadRecord:
    if None in row or None in row.values():
        return BadRecord(where, "has more or fewer cells than the header")
    return _parse_record(where, {name: cell for name, cell in row.items() if cell != ""}, position)


def _read_tsv(path: Path) -> Iterator[Record | BadRecord]:
    return _read_csv(path, delimiter="\t")


def _read_parquet(path: Path) -> Iterator[Record | BadRecord]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise CliError(f"{path}: Parquet files need pyarrow", "pip install pyarrow") from None
    try:
        file = parquet.ParquetFile(path)
        size, total, number = path.stat().st_size, file.metadata.num_rows, 0
        for batch in file.iter_batches(batch_size=1_000):
            for row in batch.to_pylist():
                number += 1
                yield _parse_record(f"{path}: row {number}", row, size * number // total)
    except ValueError as error:  # pyarrow's ArrowInvalid
        raise CliError(f"{path}: {error}") from None


def _parse_record(where: str, content: dict[str, Any], position: int) -> Record | BadRecord:
    key = next((key for key in ID_KEYS if content.get(key) not in (None, "")), None)
    if key is None:
        return BadRecord(where, "has no _id")
    found = content.pop(key)
    if isinstance(found, bool) or not isinstance(found, str | int):
        return BadRecord(where, f"{key} is {found!r:.60}, not a string")
    return Record(where, str(found), {k: v for k, v in content.items() if v is not None}, position)


READERS: dict[str, Callable[[Path], Iterator[Record | BadRecord]]] = {
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".parquet": _read_parquet,
}
