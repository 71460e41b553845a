"""Dense vectors in memory, searched exactly: for small collections, and the oracle of the tests."""

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quarry.filters import Filter, matches
from quarry.retrieval.base import VectorChange
from quarry.retrieval.points import check_vector, keep_latest_changes
from quarry.types import Candidate, Docno, Fields, Position


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    version: int
    vectors: NDArray[np.float32]
    fields: Fields


class MemoryDenseStore:
    """A DenseStore that lives as long as its object; ``flush`` moves the position and nothing else.

    Args:
        generation: which index this is.
        dimension: of the vectors.
    """

    def __init__(self, generation: str, dimension: int) -> None:
        self._dimension = dimension
        self._documents: dict[Docno, _Held] = {}
        self._position = Position(generation, 0)
        self._applied = 0

    @property
    def problem(self) -> None:
        return None

    async def read_position(self) -> Position:
        return self._position

    async def apply(self, changes: Sequence[VectorChange], sequence: int) -> None:
        for change in keep_latest_changes(changes, self._dimension):
            if change.vectors is None:
                self._documents.pop(change.docno, None)
            else:
                self._documents[change.docno] = _Held(change.version, change.vectors, change.fields)
        self._applied = sequence

    async def flush(self) -> Position:
        self._position = Position(self._position.generation, self._applied)
        return self._position

    async def find_nearest(
        self, vector: NDArray[np.float32], depth: int, filter: Filter | None
    ) -> list[Candidate]:
        query = check_vector(vector, self._dimension)
        found = [
            _find_best_passage(docno, held, query)
            for docno, held in self._documents.items()
            if len(held.vectors) and (filter is None or matches(filter, held.fields))
        ]
        return sorted(found, key=lambda c: (-c.score, c.docno))[: max(depth, 0)]

    async def compute_similarities(
        self, vector: NDArray[np.float32], docnos: Collection[Docno]
    ) -> dict[Docno, Candidate]:
        query = check_vector(vector, self._dimension)
        held = {docno: self._documents[docno] for docno in docnos if docno in self._documents}
        return {docno: _find_best_passage(docno, h, query) for docno, h in held.items() if len(h.vectors)}

    async def read_vectors(self, docnos: Collection[Docno]) -> dict[Docno, NDArray[np.float32]]:
        return {docno: self._documents[docno].vectors for docno in docnos if docno in self._documents}

    async def read_versions(self) -> AsyncIterator[tuple[Docno, int]]:
        for docno, held in list(self._documents.items()):
            yield docno, held.version

    async def erase(self) -> None:
        """Does nothing: there are no files."""

    async def count(self) -> int:
        return len(self._documents)

    async def close(self) -> None:
        await self.flush()


def _find_best_passage(docno: Docno, held: _Held, query: NDArray[np.float32]) -> Candidate:
    # row by row: a matrix product sums in an order that depends on the number of rows, so equal
    # vectors would not have equal scores
    scores = [float(np.dot(row, query)) for row in held.vectors]
    passage = int(np.argmax(scores))
    return Candidate(docno, scores[passage], passage)
