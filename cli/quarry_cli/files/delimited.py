"""CSV and its kin: cells between delimiters, and a first line that names the columns."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

from quarry_cli.failures import CliError
from quarry_cli.files.records import BadRecord, Row
from quarry_cli.files.source import Source
from quarry_cli.files.text import UTF_8, TextLines, name_encoding

MAX_CELL = 64 * 2**20
SNIFFED_LINES, SNIFFED_CHARACTERS = 200, 2**20
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
"""The delimiters that are looked for, in the order in which ties are decided."""
FITTING = 0.9
"""Share of rows with as many cells as the header, from which a delimiter is plausible."""
LIKE_JSON = re.compile(r'\s*(?:\[\s*)?\{\s*(?:"|\})|\s*\[\s*\]\s*$')
EXCEL_LINE = re.compile(r"sep=(.)\r?\n?")


def read_delimited(source: Source, delimiter: str | None) -> Iterator[Row | BadRecord]:
    """Yields the rows of a file.

    Args:
        delimiter: None: the one that fits its first lines best.

    Raises:
        CliError: it is no text of its encoding, it is JSON, its quotes do not close, or a column is named
            twice.
    """
    csv.field_size_limit(MAX_CELL)
    with TextLines(source.name, source.content, source.encoding, "CSV") as lines:
        first = list(take_first(lines))
        if first and (found := EXCEL_LINE.fullmatch(first[0])):
            delimiter, first[0] = delimiter or found[1], "\n"
        if LIKE_JSON.match("".join(first)):
            raise CliError(f"{source.name}: looks like JSON, not like a table", "--format json reads it")
        used = delimiter or find_delimiter(first)
        source.describe(
            f"cells between {DELIMITERS.get(used, repr(used))}, {name_encoding(lines.encoding)}",
            unusual=(delimiter is None and used != ",") or lines.encoding != UTF_8,
        )
        rows = csv.reader(chain(first, lines), delimiter=used, strict=True)
        try:
            yield from _read_table(source, rows)
        except csv.Error as error:
            said = f"is not CSV in {name_encoding(lines.encoding)}"
            raise CliError(f"{source.name}:{rows.line_num}: {said}: {error}") from None


def take_first(lines: Iterable[str]) -> Iterator[str]:
    """Takes the lines by which a delimiter is found: together they are shorter than ``MAX_CELL``."""
    characters = 0
    for line in islice(lines, SNIFFED_LINES):
        yield line
        characters += len(line)
        if characters >= SNIFFED_CHARACTERS:
            return


def _read_table(source: Source, rows: Any) -> Iterator[Row | BadRecord]:
    names: list[str] = []
    start = 1
    for cells in rows:
        if names and cells:
            yield _read_row(f"{source.name}:{start}", names, cells, source.tell())
        elif cells:
            names = name_columns(source.name, cells)
        start = rows.line_num + 1


def _read_row(where: str, names: Sequence[str], cells: Sequence[str], position: int) -> Row | BadRecord:
    if len(cells) != len(names):
        return BadRecord(where, f"has more or fewer cells than the header: {len(cells)}, not {len(names)}")
    values = (cell if cell and not cell.isspace() else None for cell in cells)
    return Row(where, dict(zip(names, values, strict=True)), position)


def name_columns(file: str, header: Sequence[str]) -> list[str]:
    """Names the columns; one without a name is called by its place. Raises CliError for a name that is there
    twice."""
    names = [cell.strip() or f"column{place}" for place, cell in enumerate(header, 1)]
    for name in names:
        if names.count(name) > 1:
            raise CliError(
                f"{file}: the header names {name!r:.80} twice", "rename one of the columns in the file"
            )
    return names


def find_delimiter(lines: Sequence[str]) -> str:
    """Finds the delimiter by which the first lines make a table: most rows have as many cells as the header,
    and it has many of them. The header has to hold it. A comma if none is better.

    ``csv.Sniffer`` guesses by the frequency of characters: it takes letters for delimiters, and gives up on
    prose.
    """
    best, best_fit = ",", (False, 1, 0.0)
    for delimiter in DELIMITERS:
        rows = [row for row in csv.reader(lines, delimiter=delimiter) if row]
        if not rows:
            continue
        width = len(rows[0])
        share = sum(len(row) == width for row in rows) / len(rows)
        fit = (share >= FITTING, width, share)
        if width > 1 and fit > best_fit:
            best, best_fit = delimiter, fit
    return best
