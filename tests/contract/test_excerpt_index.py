"""Every index of the beginnings of documents keeps the contract: Tantivy, and the one in memory."""

from pathlib import Path

from quarry.retrieval.base import ExcerptIndex
from quarry.retrieval.lexical.excerpts.excerpt_index import TantivyExcerptIndex
from quarry.retrieval.lexical.memory_lexical import MemoryExcerptIndex
from quarry.schema import Schema
from quarry.testing.excerpt_index import GENERATION, ExcerptIndexContract


class TestTantivy(ExcerptIndexContract):
    def open_index(self, folder: Path, schema: Schema) -> ExcerptIndex:
        return TantivyExcerptIndex(folder / "excerpts", GENERATION, schema)


class TestMemory(ExcerptIndexContract):
    kept: dict[Path, ExcerptIndex] = {}  # noqa: RUF012  an index of each folder, to come back to

    def open_index(self, folder: Path, schema: Schema) -> ExcerptIndex:
        return self.kept.setdefault(folder, MemoryExcerptIndex(GENERATION, schema))
