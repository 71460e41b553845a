"""The cross-encoder as judge of candidates."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from quarry.models.base import CrossEncoder
from quarry_miner.corpus import Corpus
from quarry_miner.examples import Float32, Int32

KEPT_TEXTS = 20_000


class Judge(Protocol):
    """Scores documents for queries."""

    def logits(self, queries: Sequence[str], documents: Sequence[Int32]) -> list[Float32]:
        """Of ``documents[i]`` for ``queries[i]``, unbounded, higher is better. Blocks."""
        ...


class Reranker:
    """A cross-encoder over the corpus. It reads title and text, and cuts what is longer than it reads."""

    def __init__(self, model: CrossEncoder, corpus: Corpus) -> None:
        self._model, self._corpus = model, corpus
        self._texts: dict[int, str] = {}

    def logits(self, queries: Sequence[str], documents: Sequence[Int32]) -> list[Float32]:
        if not documents:
            return []
        self._read(np.unique(np.concatenate([np.empty(0, np.int32), *documents])))
        pairs = [
            (q, self._texts[n]) for q, some in zip(queries, documents, strict=True) for n in some.tolist()
        ]
        scores = np.array([one.score for one in self._model.score(pairs)], np.float32)
        return np.split(scores, np.cumsum([len(some) for some in documents])[:-1])

    def _read(self, numbers: Int32) -> None:
        missing = [number for number in numbers.tolist() if number not in self._texts]
        if len(self._texts) + len(missing) > KEPT_TEXTS:
            self._texts.clear()
            missing = numbers.tolist()
        self._texts.update(zip(missing, self._corpus.texts(missing), strict=True))


def by_score(documents: Int32, scores: Float32) -> tuple[Int32, Float32]:
    """Best first, ties by number."""
    order = np.lexsort((documents, -scores))
    return documents[order], scores[order]


def probability(logits: Float32) -> Float32:
    """Sigmoid."""
    return np.exp(-np.logaddexp(np.float32(0), -logits)).astype(np.float32)
