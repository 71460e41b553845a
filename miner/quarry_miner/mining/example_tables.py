"""A mining set's Parquet file: one row a negative, docs/reference/file-formats.md has its columns."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from quarry.jobs.files import write_bytes
from quarry_miner.examples import Example

MEMBER = pa.struct([("name", pa.string()), ("rank", pa.int32()), ("score", pa.float32())])
SCHEMA = pa.schema(
    [
        ("query_id", pa.string()),
        ("query", pa.string()),
        ("positive_id", pa.string()),
        ("negative_id", pa.string()),
        ("label", pa.int8()),
        ("weight", pa.float32()),
        ("preset", pa.string()),
        ("rule", pa.string()),
        ("rung", pa.string()),
        ("agreement", pa.int16()),
        ("s_qd", pa.float32()),
        ("s_qp", pa.float32()),
        ("s_pd", pa.float32()),
        ("members", pa.list_(MEMBER)),
        ("evidence", pa.map_(pa.string(), pa.float64())),
    ]
)
FORMAT = "1"
"""Of columns and metadata; raised when either changes its meaning."""
PREFIX = "quarry."
"""In front of the names of the file's metadata."""
WRITING: dict[str, Any] = {"compression": "zstd", "write_page_checksum": True}
"""How files are written: each page has a CRC-32, so that readers notice what a disk has changed."""


def make_table(examples: Sequence[Example]) -> pa.Table:
    """Makes a table of the rows, in order."""
    plain = [field.name for field in SCHEMA if field.name not in ("members", "evidence")]
    columns = {name: [getattr(example, name) for example in examples] for name in plain}
    columns["members"] = [
        [{"name": name, "rank": rank, "score": score} for name, (rank, score) in sorted(e.members.items())]
        for e in examples
    ]
    columns["evidence"] = [sorted(e.evidence.items()) for e in examples]
    return pa.table({field.name: pa.array(columns[field.name], field.type) for field in SCHEMA}, SCHEMA)


def write_set(path: Path, tables: Iterable[pa.Table], metadata: Mapping[str, str]) -> int:
    """Writes a set, a row group a table; returns the number of rows. The same input gives the same bytes.

    Args:
        metadata: of the file; names get ``PREFIX``.
    """
    named = {f"{PREFIX}{name}": value for name, value in {"format": FORMAT, **metadata}.items()}
    rows = 0
    with pq.ParquetWriter(path, SCHEMA.with_metadata(named), **WRITING) as writer:
        for table in tables:
            if len(table):
                writer.write_table(table.replace_schema_metadata(named))
                rows += len(table)
    return rows


def write_block(path: Path, table: pa.Table) -> None:
    """Writes one finished block of a job, to be joined with others; whole or not at all."""
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, **WRITING)
    write_bytes(path, buffer.getvalue().to_pybytes())


def read_tables(paths: Iterable[Path]) -> Iterable[pa.Table]:
    """Yields blocks, one in memory at a time."""
    for path in paths:
        yield pq.read_table(path, schema=SCHEMA, page_checksum_verification=True)
