"""Seeded documents whose vectors are in the cache already, so that nothing is left to encode."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from serving import document

from quarry.documents.catalog import PassagePolicy
from quarry.documents.passages import Cut, PassageCutter, SourceText
from quarry.documents.vector_cache import CachedVectors, VectorCache, make_vector_key
from quarry.models.encoder import load_encoder
from quarry.models.sources.resolve import DEFAULT_ENCODER
from quarry.v1 import types_pb2

DIMENSION = 384
CLUSTERS = 1_000
VOCABULARY = 20_000
WORDS = 100
_AT_ONCE = 2_000


class Synthetic:
    """Documents of 100 words, drawn as rarely as words are, with one vector each, around cluster centres.

    Attributes:
        texts: of the documents.
        vectors: float32, shape ``(count, 384)``, unit length.
    """

    def __init__(self, count: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        words = np.minimum(random.zipf(1.2, size=(count, WORDS)), VOCABULARY)
        self.texts = [" ".join(f"w{word}" for word in row) for row in words.tolist()]
        centres = random.normal(size=(CLUSTERS, DIMENSION))
        rows = centres[random.integers(CLUSTERS, size=count)]
        rows = rows + 0.7 * random.normal(size=(count, DIMENSION))
        self.vectors: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(
            np.float32
        )

    def documents(self) -> list[types_pb2.Document]:
        return [document(str(number), "", text) for number, text in enumerate(self.texts)]

    def queries(self, count: int, seed: int) -> list[str]:
        """Of four words each."""
        random = np.random.default_rng(seed)
        words = np.minimum(random.zipf(1.2, size=(count, 4)), VOCABULARY)
        return [" ".join(f"w{word}" for word in row) for row in words.tolist()]

    def fill_cache(self, data: Path) -> None:
        """Makes the server on ``data`` believe that it has encoded all this before."""
        encoder = load_encoder(DEFAULT_ENCODER, data, "cpu")
        scope = PassageCutter(encoder, PassagePolicy()).scope
        cache = VectorCache(data / "vectors.db")
        for some in _chunks(zip(self.texts, self.vectors, strict=True)):
            cache.put_many(
                {
                    make_vector_key(scope, SourceText.from_pieces("", [text])): CachedVectors(
                        Cut(0, ((0, len(text)),)), vector[None, :]
                    )
                    for text, vector in some
                }
            )
        cache.close()


def _chunks(
    pairs: "zip[tuple[str, NDArray[np.float32]]]",
) -> Iterator[list[tuple[str, NDArray[np.float32]]]]:
    while some := list(itertools.islice(pairs, _AT_ONCE)):
        yield some
