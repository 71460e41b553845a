"""Puts hits further down that repeat what stands above them: maximal marginal relevance."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from quarry.ranking.ranking import RankedDocument
from quarry.ranking.shaping import Diversity
from quarry.types import Docno

Vectors = Mapping[Docno, NDArray[np.float32]]
"""Of each document all passages, unit length, shape ``(passages, dimension)``."""


def list_first_hits(documents: Sequence[RankedDocument], depth: int) -> list[RankedDocument]:
    """Lists the hits that may change places: of the first ones, those that the first one's stage has read."""
    if not documents:
        return []
    stage = max(0, documents[0].scored_by)
    return list(takewhile(lambda d: max(0, d.scored_by) == stage, documents[:depth]))


def order_by_novelty(
    documents: Sequence[RankedDocument],
    vectors: Vectors,
    diversity: Diversity,
    scale: Callable[[RankedDocument], float],
) -> list[RankedDocument]:
    """Orders the first hits by maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998); ties as they
    were.

    With ``w`` for the weight of relevance, which goes from 0 to 1 over these hits, the next hit is that with
    the highest ``relevance - (1 - w) / w * similarity``, which is the usual sum divided by ``w``. Its score
    is the same on the scale of their scores, at least the lowest: the first hit keeps its own, and so does
    one that repeats nothing. Since similarity to the chosen only grows, no score is over the one before.

    Args:
        vectors: of the first hits; one without vectors is similar to none.
        scale: tells a document's score.
    """
    first = list_first_hits(documents, diversity.depth)
    if len(first) < 2:
        return list(documents)
    scores = np.array([scale(document) for document in first])
    low, spread = scores.min(), np.ptp(scores)
    relevance = (scores - low) / spread if spread else np.zeros(len(first))
    cosines = _compare(first, vectors)
    penalty = (1 - diversity.relevance_weight) / diversity.relevance_weight
    similarity = np.zeros(len(first))
    left, chosen = list(range(len(first))), list[RankedDocument]()
    while left:
        values = relevance[left] - penalty * similarity[left]
        best = left.pop(int(np.argmax(values)))
        score = min(float(scores[best]), float(low + spread * max(0.0, float(values.max()))))
        if chosen:
            score = min(score, chosen[-1].shape.score or 0.0)  # what rounding may add
        shape = replace(first[best].shape, score=score, similarity=float(similarity[best]))
        chosen.append(replace(first[best], shape=shape))
        similarity = np.maximum(similarity, cosines[best])
    return [*chosen, *documents[len(first) :]]


def _compare(documents: Sequence[RankedDocument], vectors: Vectors) -> NDArray[np.float64]:
    """Computes the cosines between the documents' best passages, 0 at least; 0 where one has no vector."""
    best = [_pick_vector(document, vectors.get(document.docno)) for document in documents]
    size = max((len(vector) for vector in best if vector is not None), default=1)
    rows = np.stack([np.zeros(size) if vector is None else vector for vector in best]).astype(np.float64)
    return np.clip(rows @ rows.T, 0.0, 1.0)


def _pick_vector(
    document: RankedDocument, passages: NDArray[np.float32] | None
) -> NDArray[np.float32] | None:
    if passages is None or not len(passages):
        return None
    vector: NDArray[np.float32] = passages[min(document.passage or 0, len(passages) - 1)]
    return vector
