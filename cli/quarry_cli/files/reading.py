"""Opens files of each format, from a path or from standard input."""

import lzma
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from quarry_cli.failures import CliError, name_file
from quarry_cli.files.delimited import read_delimited
from quarry_cli.files.json_records import read_json, read_json_lines
from quarry_cli.files.parquet import read_parquet
from quarry_cli.files.records import BadRecord, Row
from quarry_cli.files.source import Layout, Source
from quarry_cli.inputs.compression import PACKED_SUFFIXES, open_unpacked

STANDARD_INPUT = Path("-")


class FileFormat(StrEnum):
    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"
    JSON = "json"
    PARQUET = "parquet"


SUFFIXES = {
    ".jsonl": FileFormat.JSONL,
    ".ndjson": FileFormat.JSONL,
    ".json": FileFormat.JSON,
    ".csv": FileFormat.CSV,
    ".tsv": FileFormat.TSV,
    ".parquet": FileFormat.PARQUET,
}
KINDS = {
    FileFormat.CSV: "CSV",
    FileFormat.TSV: "TSV",
    FileFormat.JSONL: "JSON lines",
    FileFormat.JSON: "JSON",
    FileFormat.PARQUET: "Parquet",
}
ADVICE = {
    ".xlsx": "save the sheet as CSV",
    ".xls": "save the sheet as CSV",
    ".zip": "unzip it first",
    ".txt": "--format csv reads any table of text",
}
"""What to do with files that are not read, by how their names end."""


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """The way in which files are read where their names and contents do not say it.

    Attributes:
        format: of all files; None: by their names.
        delimiter: between cells of CSV; None: the one that fits.
        encoding: of text; None: UTF-8, or UTF-16 with a mark.
    """

    format: FileFormat | None = None
    delimiter: str | None = None
    encoding: str | None = None


def read_files(
    files: Iterable[Path], options: ReadOptions, report: Callable[[Layout], None]
) -> Iterator[Row | BadRecord]:
    """Yields the rows of all files, in order; positions count the bytes of those before.

    Args:
        report: takes the layout of each file when it is opened.

    Raises:
        CliError: a file cannot be read, or is of no known format.
    """
    before = 0
    for path in files:
        size = measure_file(path)
        for row in read_rows(path, options, report):
            yield replace(row, position=before + row.position) if isinstance(row, Row) else row
        before += size


def measure_file(path: Path) -> int:
    """Measures a file in bytes; 0 for a pipe. Raises CliError if it is gone."""
    if path == STANDARD_INPUT:
        return 0
    with name_file(path):
        return path.stat().st_size


def read_rows(
    path: Path, options: ReadOptions, report: Callable[[Layout], None]
) -> Iterator[Row | BadRecord]:
    """Yields the rows of one file. Raises CliError as ``read_files``."""
    size = measure_file(path)
    name = "standard input" if path == STANDARD_INPUT else str(path)
    format = options.format or find_format(path)
    try:
        raw: Any = sys.stdin.buffer if path == STANDARD_INPUT else path.open("rb")
        try:
            yield from _read(
                format,
                Source(
                    name=name,
                    kind=KINDS[format],
                    content=open_unpacked(raw),
                    size=size,
                    tell=lambda: raw.tell() if size else 0,
                    encoding=options.encoding,
                    report=report,
                ),
                options,
            )
        finally:
            if path != STANDARD_INPUT:
                raw.close()
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:  # of what unpacks, for damaged files
        raise CliError(f"{name}: {getattr(error, 'strerror', None) or error}") from None


def _read(format: FileFormat, source: Source, options: ReadOptions) -> Iterator[Row | BadRecord]:
    match format:
        case FileFormat.CSV:
            return read_delimited(source, options.delimiter)
        case FileFormat.TSV:
            return read_delimited(source, options.delimiter or "\t")
        case FileFormat.JSONL:
            return read_json_lines(source)
        case FileFormat.JSON:
            return read_json(source)
        case FileFormat.PARQUET:
            return read_parquet(source)


def find_format(path: Path) -> FileFormat:
    """Finds the format by the end of the file's name. Raises CliError for an end that says nothing."""
    name = path.stem if path.suffix.lower() in PACKED_SUFFIXES else path.name
    suffix = Path(name).suffix.lower()
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    advice = ADVICE.get(suffix, f"--format names it: {', '.join(FileFormat)}")
    if path == STANDARD_INPUT:
        raise CliError("standard input has no name that says its format", advice)
    packed = ", ".join(PACKED_SUFFIXES)
    raise CliError(f"{path}: ends in none of {', '.join(SUFFIXES)} ({packed} may follow)", advice)
