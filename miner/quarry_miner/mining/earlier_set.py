"""An earlier set as a source of rows: those of queries for which nothing has changed."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from quarry.errors import QuarryError
from quarry.mining.sets import EXAMPLES, MiningSets
from quarry.mining.spec import MiningSpec
from quarry_miner.mining.example_tables import SCHEMA, WRITING
from quarry_miner.mining.work import QueryFacts

logger = logging.getLogger(__name__)

QUERIES, LINEAGE = "queries.parquet", "lineage.json"
COLUMNS = pa.schema(
    [
        ("query_id", pa.string()),
        ("fingerprint", pa.string()),
        ("whole", pa.string()),
        *((name, pa.int32()) for name in ("rows", "pairs", "covered", "positive_first", "copies")),
        ("reused", pa.bool_()),
    ]
)


class Lineage(BaseModel):
    """The facts that later sets must know to build on this one.

    Attributes:
        request: names what was asked, but for queries and feedback.
    """

    request: str


class EarlierSet:
    """Rows of one finished set, read a row group at a time. Raises OSError if its files have changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        facts = pq.read_table(folder / QUERIES, schema=COLUMNS, page_checksum_verification=True).to_pylist()
        self._facts = {one["query_id"]: QueryFacts(**one) for one in facts}
        starts = np.cumsum([0, *(one["rows"] for one in facts)])
        self._starts = {one["query_id"]: int(at) for one, at in zip(facts, starts, strict=False)}
        self._file = pq.ParquetFile(folder / EXAMPLES, page_checksum_verification=True)
        self._file.scan_contents()  # damage shows now, when mining can still do without
        groups = range(self._file.metadata.num_row_groups)
        self._groups = np.cumsum([0, *(self._file.metadata.row_group(g).num_rows for g in groups)])
        self._read = -1, SCHEMA.empty_table()

    def find(self, query_id: str, fingerprint: str, whole: str) -> tuple[QueryFacts, pa.Table] | None:
        """Finds the facts and rows of the query, if they are what mining would give now.

        Args:
            whole: what rows that depend on the whole corpus or request would depend on now.
        """
        facts = self._facts.get(query_id)
        if facts is None or facts.fingerprint != fingerprint or facts.whole not in ("", whole):
            return None
        return facts.model_copy(update={"reused": True}), self._read_rows(self._starts[query_id], facts.rows)

    def _read_rows(self, start: int, count: int) -> pa.Table:
        if not count:
            return SCHEMA.empty_table()
        group = int(np.searchsorted(self._groups, start, "right")) - 1
        if self._read[0] != group:
            self._read = group, self._file.read_row_group(group).replace_schema_metadata(None)
        return self._read[1].slice(start - int(self._groups[group]), count)  # a query's rows lie in one group


def write_lineage(folder: Path, lineage: Lineage, queries: Iterable[QueryFacts]) -> None:
    """Writes what ``find_latest`` looks for and ``EarlierSet`` reads."""
    table = pa.Table.from_pylist([one.model_dump() for one in queries], schema=COLUMNS)
    pq.write_table(table, folder / QUERIES, **WRITING)
    (folder / LINEAGE).write_text(lineage.model_dump_json(), encoding="utf-8")


def find_latest(data: Path, spec: MiningSpec, lineage: Lineage) -> EarlierSet | None:
    """Finds the newest finished set of the collection that was asked for in the same way."""
    sets = MiningSets(data)
    for summary in sets.list_newest(spec.collection):
        folder = sets.locate(summary.name)
        if summary.collection_key != spec.collection_key or summary.preset != spec.preset:
            continue
        try:
            if Lineage.model_validate_json((folder / LINEAGE).read_bytes()) == lineage:
                return EarlierSet(folder)
        except (OSError, ValidationError, pa.ArrowException, QuarryError) as error:
            logger.warning("the mining set %s cannot be built on: %s", summary.name, type(error).__name__)
    return None


def with_scores(table: pa.Table, scores: Mapping[str, Mapping[str, float]]) -> pa.Table:
    """Replaces the members' raw scores in ``table`` by those of now.

    Args:
        scores: by member and document id; members and documents that are not there keep theirs.
    """
    rows = zip(table["negative_id"].to_pylist(), table["members"].to_pylist(), strict=True)
    members = [
        [{**member, "score": scores.get(member["name"], {}).get(id, member["score"])} for member in some]
        for id, some in rows
    ]
    place = SCHEMA.get_field_index("members")
    return table.set_column(place, SCHEMA.field(place), pa.array(members, SCHEMA.field(place).type))
