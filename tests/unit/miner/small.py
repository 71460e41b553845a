"""Small corpora and tasks without a model: a text's vector is the sum of its words'."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quarry_miner.corpus import Corpus
from quarry_miner.examples import MiningQuery, Positive
from quarry_miner.members.lsa import normalize
from quarry_miner.members.matrix import DocumentMatrix
from quarry_miner.members.members import VectorMember
from quarry_miner.members.spaces import VectorSpace
from quarry_miner.mining.task import MiningTask
from quarry_miner.testing import SCHEMA as SCHEMA
from quarry_miner.testing import WORDS as WORDS
from quarry_miner.testing import draw_texts as draw_texts
from quarry_miner.testing import make_corpus as make_corpus

DIMENSION = 16


class WordVectors:
    """Turns texts into vectors."""

    def __init__(self, salt: str = "") -> None:
        self._salt = salt

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = [sum((self._word(w) for w in t.split()), np.zeros(DIMENSION)) for t in texts]
        return normalize(np.array(rows, np.float32).reshape(len(texts), DIMENSION))

    def _word(self, word: str) -> NDArray[np.float64]:
        seed = hashlib.blake2b(f"{self._salt}{word}".encode(), digest_size=8).digest()
        return np.random.default_rng(int.from_bytes(seed, "big")).normal(size=DIMENSION)


def space_of(corpus: Corpus, name: str = "dense") -> VectorSpace:
    vectors = WordVectors(name)
    matrix = DocumentMatrix.from_vectors(vectors.embed(corpus.read_texts(range(len(corpus)))))
    return VectorSpace(name, matrix, vectors)


def task_of(documents: int = 80, queries: int = 12, seed: int = 0, **other: Any) -> MiningTask:
    """Queries are parts of their first positive's text; every third has a second positive."""
    texts = draw_texts(documents, seed)
    corpus = make_corpus(texts)
    asked = []
    for i in range(queries):
        positives = [Positive(i * 3)] + ([Positive(i * 3 + 1, 0.5, "clicked")] if i % 3 == 0 else [])
        asked.append(MiningQuery(f"q{i}", " ".join(texts[i * 3].split()[:3]), tuple(positives)))
    space = space_of(corpus)
    members = (VectorMember(space), VectorMember(space_of(corpus, "lsa")))
    return MiningTask(tuple(asked), corpus, **{"members": members, "space": space, "depth": 20, **other})
