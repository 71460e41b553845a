"""Every lexical index keeps the contract: Tantivy, and the one in memory."""

from pathlib import Path

from quarry.retrieval.base import LexicalIndex
from quarry.retrieval.lexical.bm25 import TantivyIndex
from quarry.retrieval.lexical.memory_lexical import MemoryLexicalIndex
from quarry.schema import Schema
from quarry.testing.lexical_index import GENERATION, LexicalIndexContract
from quarry.testing.lexical_languages import LexicalLanguagesContract
from quarry.testing.lexical_results import LexicalResultsContract
from quarry.testing.lexical_terms import LexicalTermsContract
from quarry.testing.strategies import FILTER_SCHEMA


class TestTantivy(LexicalIndexContract):
    def open_index(self, folder: Path) -> LexicalIndex:
        return TantivyIndex(folder / "lexical", GENERATION, FILTER_SCHEMA, heap_bytes=15_000_000)


class TestMemory(LexicalIndexContract):
    kept: dict[Path, LexicalIndex] = {}  # noqa: RUF012  an index of each folder, to come back to

    def open_index(self, folder: Path) -> LexicalIndex:
        return self.kept.setdefault(folder, MemoryLexicalIndex(GENERATION, FILTER_SCHEMA))


class TestLanguagesInTantivy(LexicalLanguagesContract):
    def open_index(self, folder: Path, schema: Schema) -> LexicalIndex:
        return TantivyIndex(folder / "lexical", GENERATION, schema, heap_bytes=15_000_000)


class TestTermsInTantivy(LexicalTermsContract):
    def open_index(self, folder: Path, schema: Schema) -> LexicalIndex:
        return TantivyIndex(folder / "lexical", GENERATION, schema, heap_bytes=15_000_000)


class TestTermsInMemory(LexicalTermsContract):
    def open_index(self, folder: Path, schema: Schema) -> LexicalIndex:
        return MemoryLexicalIndex(GENERATION, schema)


class TestLanguagesInMemory(LexicalLanguagesContract):
    def open_index(self, folder: Path, schema: Schema) -> LexicalIndex:
        return MemoryLexicalIndex(GENERATION, schema)


class TestResultsInTantivy(LexicalResultsContract):
    def open_index(self, folder: Path) -> LexicalIndex:
        return TantivyIndex(folder / "lexical", GENERATION, FILTER_SCHEMA, heap_bytes=15_000_000)


class TestResultsInMemory(LexicalResultsContract):
    def open_index(self, folder: Path) -> LexicalIndex:
        return MemoryLexicalIndex(GENERATION, FILTER_SCHEMA)
