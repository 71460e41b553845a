"""Reads the columns of a Parquet file of examples, of which a few kilobytes may hold gigabytes of text."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from quarry.errors import LimitExceededError, MalformedError
from quarry.quoting import quote_error

TEXTS = ("query_id", "query", "positive_id", "negative_id")
COLUMNS = (*TEXTS, "label", "weight")
BATCH_ROWS = 1_024
"""Read at once. A text that stands in many rows is in memory once for each batch, then once in all."""

Columns = dict[str, list[Any]]


def read_columns(path: Path, most_text_bytes: int) -> tuple[Columns, dict[bytes, bytes]]:
    """Reads the values of each of ``COLUMNS``, and the file's metadata. Equal texts are one object.

    Args:
        most_text_bytes: of the texts in all rows, each counted as often as it stands there.

    Raises:
        InvalidArgumentError: it is no Parquet file, or lacks a column.
        LimitExceededError: it holds more text.
    """
    try:
        names = pq.read_schema(path).names
        if missing := [name for name in COLUMNS if name not in names]:
            raise MalformedError("examples", f"has no column {', '.join(missing)}")
        with pq.ParquetFile(path, read_dictionary=list(TEXTS), page_checksum_verification=True) as file:
            return _read(file, most_text_bytes), dict(file.schema_arrow.metadata or {})
    except (pa.ArrowInvalid, OSError) as error:
        problem = f"is no readable Parquet file: {quote_error(error)}"
        raise MalformedError("examples", problem) from error


def _read(file: pq.ParquetFile, most_text_bytes: int) -> Columns:
    columns: Columns = {name: [] for name in COLUMNS}
    known: dict[str, str] = {}
    text_bytes = 0
    for batch in file.iter_batches(BATCH_ROWS, columns=list(COLUMNS)):
        for name in COLUMNS:
            column = batch.column(name)
            if not isinstance(column, pa.DictionaryArray):
                columns[name] += column.to_pylist()
                continue
            text_bytes += _count_text_bytes(column)
            if text_bytes > most_text_bytes:
                raise LimitExceededError(
                    f"the examples hold over {most_text_bytes} bytes of text, which is the most that "
                    "uploads.examples_text_bytes allows"
                )
            columns[name] += _share_texts(column, known)
    return columns


def _count_text_bytes(column: pa.DictionaryArray) -> int:
    """Counts the text bytes of all rows, without making them."""
    lengths = pc.binary_length(column.dictionary)
    return int(pc.sum(pc.take(lengths, column.indices)).as_py() or 0)


def _share_texts(column: pa.DictionaryArray, known: dict[str, str]) -> Sequence[object]:
    """Shares equal texts of the rows: they are the same object as in earlier batches."""
    texts = [text if text is None else known.setdefault(text, text) for text in column.dictionary.to_pylist()]
    return [None if place is None else texts[place] for place in column.indices.to_pylist()]
