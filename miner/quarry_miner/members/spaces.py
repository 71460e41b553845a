"""The space in which similarity is measured: vectors of a corpus, and a query's text to a vector beside
them."""

import asyncio
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from quarry.documents.catalog import PassagePolicy
from quarry.documents.passages import Cut, PassageCutter, SourceText
from quarry.documents.vector_cache import CachedVectors, VectorCache, make_vector_key
from quarry.documents.vectors import DocumentVectors
from quarry.models.base import Encoder
from quarry.models.runtime.batcher import EncoderBatcher
from quarry_miner.corpus import Corpus
from quarry_miner.examples import Float32
from quarry_miner.members.matrix import DocumentMatrix

QUERIES = "queries"
"""Part of the scope under which queries are cached, so that no document's key can be a query's."""


class QueryEmbedding(Protocol):
    """Turns queries into vectors. A query's vector never depends on what else is asked, or in what order."""

    def embed(self, texts: Sequence[str]) -> Float32:
        """Embeds texts as unit vectors, shape ``(len(texts), dimension)``. Blocks."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class VectorSpace:
    """Documents and queries as unit vectors of one space.

    Attributes:
        name: of the member that searches it.
        documents: by number in the corpus.
        queries: into the same space.
        notes: recorded choices, for people.
    """

    name: str
    documents: DocumentMatrix
    queries: QueryEmbedding
    notes: tuple[str, ...] = ()


class CachedQueries:
    """An encoder's vectors of queries, kept by content in the collection's cache.

    An encoder is exact to 1e-4 whatever else is in a batch, which is not the same bits; what is kept is.
    """

    def __init__(self, encoder: Encoder, cache: VectorCache) -> None:
        self._encoder, self._cache = encoder, cache
        self._scope = f"{encoder.info.fingerprint}:{QUERIES}"
        self._known: dict[str, Float32] = {}

    def embed(self, texts: Sequence[str]) -> Float32:
        missing = [text for text in dict.fromkeys(texts) if text not in self._known]
        if missing:
            self._learn(missing)
        if not texts:
            return np.empty((0, self._encoder.info.dimension), np.float32)
        return np.stack([self._known[text] for text in texts])

    def _learn(self, texts: Sequence[str]) -> None:
        keys = {text: make_vector_key(self._scope, SourceText("", text)) for text in texts}
        cached = self._cache.get_vectors(list(keys.values()))
        new = [text for text in texts if keys[text] not in cached]
        if new:
            rows = self._encoder.encode(new)[:, None]
            made = {
                keys[text]: CachedVectors(Cut(0, ((0, len(text)),)), row)
                for text, row in zip(new, rows, strict=True)
            }
            self._cache.put_many(made)
            cached |= {key: value.vectors for key, value in made.items()}
        self._known |= {text: cached[key][0] for text, key in keys.items()}


def build_encoder_space(
    name: str, corpus: Corpus, encoder: Encoder, policy: PassagePolicy, cache: VectorCache
) -> VectorSpace:
    """Encodes all passages of the corpus by ``encoder``; what the cache holds, such as all that the live arm
    has encoded with the same policy, is not encoded again. Blocks.

    Raises:
        ModelError: the encoder gave no usable vector.
        LimitExceededError: the disk is full.
    """
    matrix = asyncio.run(_build_document_matrix(corpus, encoder, policy, cache))
    return VectorSpace(name, matrix, CachedQueries(encoder, cache))


async def _build_document_matrix(
    corpus: Corpus, encoder: Encoder, policy: PassagePolicy, cache: VectorCache
) -> DocumentMatrix:
    rows: list[Float32] = []
    with closing(EncoderBatcher(encoder)) as batcher:
        vectors = DocumentVectors(corpus.schema, PassageCutter(encoder, policy), batcher, cache)
        for batch in corpus.iterate_batches():
            rows += await vectors.read_vectors(batch)
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)]).astype(np.int64)
    stacked = np.concatenate(rows) if rows else np.empty((0, encoder.info.dimension), np.float32)
    return DocumentMatrix(stacked, offsets)
