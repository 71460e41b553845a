"""An index on disk."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.bm25.indexes import GENERATION, Open

from quarry.retrieval.lexical.bm25 import TantivyIndex
from quarry.schema import DEFAULT_SCHEMA, Schema


@pytest.fixture
def open_index(tmp_path: Path) -> Iterator[Open]:
    opened: list[TantivyIndex] = []

    def open_one(schema: Schema = DEFAULT_SCHEMA, generation: str = GENERATION) -> TantivyIndex:
        opened.append(TantivyIndex(tmp_path / "lexical", generation, schema, heap_bytes=15_000_000))
        return opened[-1]

    yield open_one
    for index in opened:
        index.close()
