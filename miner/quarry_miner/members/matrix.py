"""Vectors of all passages of a corpus in one matrix, compared exactly, a document by its best passage."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from quarry_miner.examples import Float32, Int32

Int64 = NDArray[np.int64]

EXACT_PASSAGES = 500_000
"""Up to here exact search in memory is the default: 0.8 GB at 384 dimensions."""
BLOCK_PASSAGES = 16_384
BLOCK_QUERIES = 1_024
BLOCK_ROWS = 8
"""Queries whose documents' vectors are copied side by side: some 500, which stay in the cache."""
SLACK = 8
"""More than ``depth`` are taken from the large product, since it rounds by the number of its rows."""
NO_VECTOR = -1.0
"""Similarity to a document without a passage."""


@dataclass(frozen=True, slots=True, eq=False)
class DocumentMatrix:
    """Unit vectors of passages, by document.

    Attributes:
        vectors: float32, shape ``(passages, dimension)``, those of one document next to each other.
        offsets: int64, shape ``(documents + 1,)``: document ``i`` has rows ``offsets[i]:offsets[i + 1]``.
        is_flat: every document has exactly one vector.
    """

    vectors: Float32
    offsets: Int64
    is_flat: bool = field(init=False)

    def __post_init__(self) -> None:
        lengths = np.diff(self.offsets)
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.vectors) or (lengths < 0).any():
            raise ValueError("offsets must rise from 0 to the number of passages")
        object.__setattr__(self, "is_flat", bool((lengths == 1).all()))

    @classmethod
    def from_vectors(cls, vectors: Float32) -> "DocumentMatrix":
        """Makes a matrix of one vector a document."""
        return cls(np.ascontiguousarray(vectors, np.float32), np.arange(len(vectors) + 1, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def find_nearest(self, queries: Float32, depth: int) -> tuple[Int32, Float32]:
        """Finds the ``depth`` most similar documents of each query, ties by number.

        A query's answer does not depend on the other queries: what a blocked product finds is scored again,
        query by query.

        Args:
            queries: unit vectors, shape ``(q, dimension)``.

        Returns:
            Numbers, int32, and similarities, float32, both of shape ``(q, min(depth, documents))``.
        """
        depth = min(depth, len(self))
        documents = np.empty((len(queries), depth), np.int32)
        scores = np.empty((len(queries), depth), np.float32)
        for start in range(0, len(queries), BLOCK_QUERIES):
            some = queries[start : start + BLOCK_QUERIES]
            found = np.sort(self._find_best(some, min(depth + SLACK, len(self))), axis=1)
            exact = self._compute_exact(some, found)
            order = np.argsort(-exact, axis=1, kind="stable")[:, :depth]
            end = start + len(some)
            documents[start:end] = np.take_along_axis(found, order, axis=1)
            scores[start:end] = np.take_along_axis(exact, order, axis=1)
        return documents, scores

    def compute_similarities(self, vectors: Float32, documents: Int32) -> Float32:
        """Computes the similarity of each vector to each document's best passage, shape ``(len(vectors),
        len(documents))``.

        To the last bit the same for a vector and a document, whatever the others are.
        """
        if self.is_flat:
            return _multiply(vectors, self.vectors[documents])
        starts, lengths = self.offsets[documents], self.offsets[documents + 1] - self.offsets[documents]
        ends = np.cumsum(lengths)
        rows = np.repeat(starts - ends + lengths, lengths) + np.arange(ends[-1] if len(ends) else 0)
        return _choose_best_passages(_multiply(vectors, self.vectors[rows]), ends - lengths, lengths)

    def compare_pairs(self, vectors: Float32, documents: Int32) -> Float32:
        """Computes the similarity of ``vectors[i]`` to ``documents[i]``, as ``compute_similarities``."""
        return self._compute_exact(vectors, documents[:, None])[:, 0]

    def compare_documents(self, document: int, documents: Int32) -> Float32:
        """Computes the similarity of one document to others, the most similar two passages counting, shape
        ``(len(documents),)``."""
        if self.is_flat:
            alone: Float32 = np.vecdot(self.vectors[document], self.vectors[documents])
            return alone
        passages = self.vectors[self.offsets[document] : self.offsets[document + 1]]
        if not len(passages):
            return np.full(len(documents), NO_VECTOR, np.float32)
        best: Float32 = self.compute_similarities(passages, documents).max(axis=0)
        return best

    def _compute_exact(self, queries: Float32, documents: Int32) -> Float32:
        """Computes the similarities of each query to its own row of documents, shape of ``documents``."""
        found = np.empty(documents.shape, np.float32)
        size = BLOCK_ROWS if self.is_flat else 1
        for start in range(0, len(queries), size):
            some = slice(start, start + size)
            if self.is_flat:
                found[some] = np.vecdot(queries[some, None], self.vectors[documents[some]])
            else:
                found[some] = self.compute_similarities(queries[some], documents[start])
        return found

    def _find_best(self, queries: Float32, depth: int) -> Int32:
        """Finds numbers of the ``depth`` best of each query, in no order, a block of documents at a time."""
        best = np.empty((len(queries), 0), np.int32)
        scores = np.empty((len(queries), 0), np.float32)
        first = 0
        while first < len(self):
            after = max(
                first + 1,
                int(np.searchsorted(self.offsets, self.offsets[first] + BLOCK_PASSAGES, "right")) - 1,
            )
            product = queries @ self.vectors[self.offsets[first] : self.offsets[after]].T
            if not self.is_flat:
                starts = self.offsets[first:after] - self.offsets[first]
                product = _choose_best_passages(product, starts, np.diff(self.offsets[first : after + 1]))
            kept = _find_largest(product, depth)
            best = np.concatenate([best, (kept + first).astype(np.int32)], axis=1)
            scores = np.concatenate([scores, np.take_along_axis(product, kept, axis=1)], axis=1)
            if best.shape[1] > depth:
                kept = _find_largest(scores, depth)
                best, scores = np.take_along_axis(best, kept, 1), np.take_along_axis(scores, kept, 1)
            first = after
        return best


def _multiply(vectors: Float32, others: Float32) -> Float32:
    """Multiplies each with each. A matrix product rounds by its shape.

    Here two vectors have one product anywhere.
    """
    found: Float32 = np.vecdot(vectors[:, None], others[None])
    return found


def _find_largest(scores: Float32, count: int) -> Int64:
    """Finds columns of the ``count`` largest of each row, in no order."""
    if scores.shape[1] <= count:
        return np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    return np.argpartition(scores, -count, axis=1)[:, -count:]


def _choose_best_passages(product: Float32, starts: Int64, lengths: Int64) -> Float32:
    """Chooses the largest of each document's columns; documents without a passage get ``NO_VECTOR``."""
    best = np.full((len(product), len(starts)), NO_VECTOR, np.float32)
    present = lengths > 0
    if present.any():
        best[:, present] = np.maximum.reduceat(product, starts[present], axis=1)
    return best
