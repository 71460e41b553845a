"""The members of a mining ensemble: each lists documents for queries, in its own order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from quarry_miner.examples import Float32, Int32
from quarry_miner.members.spaces import VectorSpace

NO_DOCUMENT = -1
ENSEMBLE = "ensemble"


@dataclass(frozen=True, slots=True, eq=False)
class Listed:
    """The lists of a member for some queries, a row each, best first.

    Attributes:
        documents: int32, shape ``(queries, depth)``: numbers in the corpus, each at most once in a row;
            ``NO_DOCUMENT`` from where the row ends.
        scores: float32, alike: the member's raw scores, never rising; NaN from where the row ends.
        space: whose similarities the scores are, to the last bit; None if they are anything else.
        relevance: float32, alike: the calibrated probability that each document answers, NaN where it is not
            known; None: the member knows none.
    """

    documents: Int32
    scores: Float32
    space: VectorSpace | None = None
    relevance: Float32 | None = None

    @classmethod
    def from_rows(
        cls,
        rows: Sequence[tuple[Sequence[int], Sequence[float]]],
        depth: int,
        space: VectorSpace | None = None,
        relevance: Sequence[Sequence[float]] | None = None,
    ) -> "Listed":
        """Makes lists of rows of documents and scores, cut or filled up to ``depth``."""
        documents = np.full((len(rows), depth), NO_DOCUMENT, np.int32)
        scores = np.full((len(rows), depth), np.nan, np.float32)
        believed = None if relevance is None else scores.copy()
        for row, (numbers, values) in enumerate(rows):
            size = min(len(numbers), depth)
            documents[row, :size], scores[row, :size] = numbers[:size], values[:size]
            if believed is not None and relevance is not None:
                believed[row, :size] = relevance[row][:size]
        return cls(documents, scores, space, believed)


class Member(Protocol):
    """Lists documents. A query's row does not depend on the other queries of the call."""

    @property
    def name(self) -> str: ...

    def search(self, queries: Sequence[str], depth: int) -> Listed:
        """Finds at most ``depth`` documents for each query. Blocks.

        Raises:
            UnavailableError: what it asks does not answer, also after several tries.
        """
        ...


class VectorMember:
    """Exact search in a space of vectors, in memory."""

    def __init__(self, space: VectorSpace) -> None:
        self._space = space

    @property
    def name(self) -> str:
        return self._space.name

    def search(self, queries: Sequence[str], depth: int) -> Listed:
        documents, scores = self._space.documents.find_nearest(self._space.queries.embed(queries), depth)
        if documents.shape[1] == depth:
            return Listed(documents, scores, self._space)
        rows = [(d.tolist(), s.tolist()) for d, s in zip(documents, scores, strict=True)]
        return Listed.from_rows(rows, depth, self._space)
