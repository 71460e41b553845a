"""Unfinished work of a mining job: finished blocks, kept so that the same request goes on after the last."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import orjson
import pyarrow as pa
from pydantic import BaseModel, ValidationError

from quarry.jobs.files import remove_folder, write_json
from quarry.jobs.folders import open_work
from quarry.mining.sets import WorkMark
from quarry.mining.spec import MiningSpec
from quarry_miner.mining.example_tables import FORMAT, read_tables, write_block

KEY_BYTES = 16
RULES = 2
"""Counts up when the same inputs give other rows than before, so that none of earlier rules is taken."""
NOT_OF_THE_RESULT = {"name", "server", "create_time_us"}


class QueryFacts(BaseModel):
    """The facts about mining one query, beside its rows.

    Attributes:
        fingerprint: of what its rows depend on, hex.
        whole: of what else they depend on, the whole corpus or the whole request; empty if on neither.
        rows: how many.
        pairs: (query, positive) pairs; ``covered`` of them got a negative.
        positive_first: pairs whose positive the preset's space puts first.
        copies: candidates that were left out as copies of a positive.
        reused: its rows come from an earlier set.
    """

    query_id: str
    fingerprint: str
    whole: str
    rows: int
    pairs: int
    covered: int
    positive_first: int
    copies: int
    reused: bool


class Block(BaseModel):
    queries: list[QueryFacts]


def hash_data(spec: MiningSpec, *state: str) -> str:
    """Names all that a set's rows depend on: what is asked, and the state that it is asked of."""
    asked = spec.model_dump(exclude=NOT_OF_THE_RESULT, mode="json")
    parts = orjson.dumps([FORMAT, RULES, asked, *state], option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(parts, digest_size=KEY_BYTES).hexdigest()


class Work:
    """A folder of finished blocks, each a Parquet file and, written after it, its facts."""

    def __init__(self, folder: Path, mark: WorkMark) -> None:
        self._folder = open_work(folder, mark)
        self.blocks: list[Block] = []
        while (block := self._read(len(self.blocks))) is not None:
            self.blocks.append(block)

    def add(self, block: Block, table: pa.Table) -> None:
        """Adds the next block and its rows."""
        number = len(self.blocks)
        write_block(self._locate_rows(number), table)
        write_json(self._locate_facts(number), block.model_dump())
        self.blocks.append(block)

    def read_tables(self) -> Iterable[pa.Table]:
        """Reads rows of all finished blocks, a block at a time."""
        return read_tables(self._locate_rows(number) for number in range(len(self.blocks)))

    def read_queries(self) -> Iterator[QueryFacts]:
        """Yields the facts of all finished blocks, in order."""
        for block in self.blocks:
            yield from block.queries

    def remove(self) -> None:
        remove_folder(self._folder)

    def _locate_rows(self, number: int) -> Path:
        return self._folder / f"block-{number:06}.parquet"

    def _locate_facts(self, number: int) -> Path:
        return self._folder / f"block-{number:06}.json"

    def _read(self, number: int) -> Block | None:
        try:
            return Block.model_validate_json(self._locate_facts(number).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
