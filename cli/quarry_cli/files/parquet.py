"""Parquet files: one column a field."""

import importlib
import io
from collections.abc import Iterator

from quarry_cli.failures import CliError
from quarry_cli.files.records import Row
from quarry_cli.files.source import Source

ROWS_AT_ONCE = 1_000


def read_parquet(source: Source) -> Iterator[Row]:
    """Yields the rows of a file. Raises CliError if it is none, or without pyarrow."""
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise CliError(f"{source.name}: Parquet files need pyarrow", "pip install pyarrow") from None
    content = source.content if source.content.seekable() else io.BytesIO(source.content.read())
    try:
        file = parquet.ParquetFile(content)
        source.describe("columns")
        total, number = file.metadata.num_rows, 0
        for batch in file.iter_batches(batch_size=ROWS_AT_ONCE):
            for row in batch.to_pylist():
                number += 1
                yield Row(f"{source.name}: row {number}", row, source.size * number // total)
    except ValueError as error:  # pyarrow's ArrowInvalid
        raise CliError(f"{source.name}: {error}") from None
