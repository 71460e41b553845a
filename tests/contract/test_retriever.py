"""Every arm of the first stage keeps the contract. The stores behind the dense one have their own."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.unit.miner.small import DIMENSION, WordVectors

from quarry.deadline import NO_LIMIT, Deadline
from quarry.errors import RetrieverUnavailableError
from quarry.retrieval.base import DenseStore, LexicalIndex, VectorChange
from quarry.retrieval.bm25_arm import Bm25Retriever
from quarry.retrieval.dense_arm import DenseRetriever
from quarry.retrieval.lexical.bm25 import TantivyIndex
from quarry.retrieval.lexical.memory_lexical import MemoryLexicalIndex
from quarry.retrieval.memory_dense import MemoryDenseStore
from quarry.retrieval.retriever import Retriever
from quarry.testing.retriever import DOCUMENTS, RetrieverContract
from quarry.testing.strategies import FILTER_SCHEMA
from quarry.types import Change

VECTORS = WordVectors("arms")


class WordEncoder:
    """Encodes a text as the sum of its words' vectors; one without words, as a direction of its own."""

    async def encode_query(self, text: str, limit: Deadline = NO_LIMIT) -> tuple[NDArray[np.float32], bool]:
        return vectors_of(text)[0], False


def vectors_of(text: str) -> NDArray[np.float32]:
    """Shape ``(1, DIMENSION)``, of unit length."""
    return VECTORS.embed([text if text.strip() else "nothing"])


def filled_index(index: LexicalIndex) -> LexicalIndex:
    index.apply([Change(docno, int(docno), fields) for docno, fields in DOCUMENTS.items()])
    index.commit(len(DOCUMENTS))
    return index


async def filled_store(store: DenseStore) -> DenseStore:
    names = {field.name for field in FILTER_SCHEMA.filterable}
    changes = [
        VectorChange(
            docno,
            int(docno),
            vectors_of(str(fields["text"])),
            {name: value for name, value in fields.items() if name in names},
        )
        for docno, fields in DOCUMENTS.items()
    ]
    await store.apply(changes, len(DOCUMENTS))
    return store


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


class TestBm25(RetrieverContract):
    @pytest.fixture(params=["memory", "tantivy"])
    def retriever(
        self, request: pytest.FixtureRequest, threads: ThreadPoolExecutor, tmp_path: Path
    ) -> Iterator[Retriever]:
        opened: LexicalIndex
        if request.param == "memory":
            opened = MemoryLexicalIndex("g", FILTER_SCHEMA)
        else:
            opened = TantivyIndex(tmp_path, "g", FILTER_SCHEMA, heap_bytes=15_000_000)
        yield Bm25Retriever(filled_index(opened), threads)
        opened.close()


async def test_a_dense_arm_that_is_aimed_finds_what_is_nearest_whatever_the_text_is() -> None:
    arm = DenseRetriever(WordEncoder(), await filled_store(MemoryDenseStore("g", DIMENSION)))
    vectors = await arm.read_vectors(DOCUMENTS)
    assert set(vectors) == set(DOCUMENTS)
    for docno, rows in vectors.items():
        found = await arm.search_for_vector(rows[0]).retrieve("nothing of it", 3, None)
        assert found.candidates[0].score == pytest.approx(1.0, abs=1e-5)
        assert (await found.complete([docno]))[docno].score == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(RetrieverUnavailableError, match="no vector"):
        await arm.search_for_vector(None).retrieve("text", 3, None)


class TestDense(RetrieverContract):
    async def open_retriever(self, folder: Path) -> Retriever:
        return DenseRetriever(WordEncoder(), await filled_store(MemoryDenseStore("g", DIMENSION)))
