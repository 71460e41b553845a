"""The cross-encoder as judge of candidates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from quarry.documents.passages import SourceText, cut_passages_by_words
from quarry.models.base import CrossEncoder
from quarry.models.blend import RERANKER_ALONE, Blend
from quarry.models.calibration import Calibration
from quarry.search.matching_passage import find_matching_passage
from quarry_miner.corpus import Corpus
from quarry_miner.examples import Float32, Int32

KEPT_DOCUMENTS = 20_000

Cut = Callable[[SourceText], list[str]]
"""The passages of a document, in order."""


@dataclass(frozen=True, slots=True)
class Belief:
    """The calibration of a re-ranker, which reads blended scores as probabilities of relevance.

    Attributes:
        ranking: name of the ranking configuration that merges the arms; empty: the default.
    """

    blend: Blend = RERANKER_ALONE
    calibration: Calibration | None = None
    ranking: str = ""

    @property
    def unknown(self) -> str:
        """Why searches get no relevance from the re-ranker; empty if they do."""
        if self.calibration is None:
            return "the re-ranker has no calibration"
        if self.blend.fused and self.calibration.ranking != self.ranking:
            return "the re-ranker is calibrated for another ranking configuration than the one that serves"
        return ""

    @property
    def lacking(self) -> str:
        """Why its scores alone tell no probabilities; empty if they do."""
        if not self.unknown and self.blend.fused:
            return "the re-ranker's calibration counts the fused score, which only the member fused knows"
        return self.unknown

    def estimate_probabilities(self, scores: Float32) -> Float32:
        """Estimates P(relevant) of the re-ranker's raw scores, float32, of their shape.

        NaN where nothing tells it.
        """
        if self.calibration is None or self.lacking:
            return np.full(scores.shape, np.nan, np.float32)
        return self.calibration.estimate_probability(self.blend.rerank * scores).astype(np.float32)


NO_BELIEF = Belief()


class Judge(Protocol):
    """Scores documents for queries.

    Attributes:
        belief: what its scores say of relevance.
    """

    belief: Belief

    def compute_logits(self, queries: Sequence[str], documents: Sequence[Int32]) -> list[Float32]:
        """Computes the logits of ``documents[i]`` for ``queries[i]``, unbounded, higher is better. Blocks."""
        ...


class Reranker:
    """A cross-encoder over the corpus. It reads the passage of a document that matches the query by words.

    Args:
        passages: cuts a document as the server does for the collection.
    """

    def __init__(
        self,
        model: CrossEncoder,
        corpus: Corpus,
        passages: Cut = cut_passages_by_words,
        belief: Belief = NO_BELIEF,
    ) -> None:
        self._model, self._corpus, self._cut, self.belief = model, corpus, passages, belief
        self._passages: dict[int, list[str]] = {}

    def compute_logits(self, queries: Sequence[str], documents: Sequence[Int32]) -> list[Float32]:
        if not documents:
            return []
        self._read(np.unique(np.concatenate([np.empty(0, np.int32), *documents])))
        pairs = [
            (q, self._read_passage(q, n))
            for q, some in zip(queries, documents, strict=True)
            for n in some.tolist()
        ]
        scores = np.array([one.score for one in self._model.score(pairs)], np.float32)
        return np.split(scores, np.cumsum([len(some) for some in documents])[:-1])

    def _read_passage(self, query: str, number: int) -> str:
        passages = self._passages[number]
        return passages[find_matching_passage(query, passages)] if passages else ""

    def _read(self, numbers: Int32) -> None:
        missing = [number for number in numbers.tolist() if number not in self._passages]
        if len(self._passages) + len(missing) > KEPT_DOCUMENTS:
            self._passages.clear()
            missing = numbers.tolist()
        self._passages.update(zip(missing, map(self._cut, self._corpus.read_sources(missing)), strict=True))


def order_by_score(documents: Int32, scores: Float32) -> tuple[Int32, Float32]:
    """Orders best first, ties by number."""
    order = np.lexsort((documents, -scores))
    return documents[order], scores[order]
