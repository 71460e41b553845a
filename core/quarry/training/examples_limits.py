"""The default limits of a file of examples, and the least number of queries that decides."""

from dataclasses import dataclass

LEAST_DECIDING = 40
"""Held-out queries with a relevant document, or with clicks, that a verdict rests on at least."""
MAX_UPLOAD_BYTES = 8 * 2**30
MAX_ROWS = 20_000_000
MAX_TEXT_BYTES = 4 * 2**30


@dataclass(frozen=True, slots=True)
class ExamplesLimits:
    """The limits of examples, since a few kilobytes of Parquet can hold gigabytes of text.

    Attributes:
        bytes: of a file as it is sent, and of its columns once decompressed, as the file itself says.
        rows: as the file itself says.
        text_bytes: of the texts in all rows, each counted as often as it stands there, as they are read.
    """

    bytes: int = MAX_UPLOAD_BYTES
    rows: int = MAX_ROWS
    text_bytes: int = MAX_TEXT_BYTES
