"""The Protocol of retrievers: they give a search candidates, and scores of the candidates of others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from quarry.deadline import NO_LIMIT, Deadline
from quarry.filters import Filter
from quarry.retrieval.text_query import SearchText
from quarry.types import Candidate, Docno

if TYPE_CHECKING:  # the command line reads the list of arms, and needs no numbers
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The candidates of one arm for one query.

    Attributes:
        candidates: best first.
        low: lowest score that the arm's formula can give.
        high: highest score that it can give for this query.
        complete: true scores of other documents; one that is left out matches nothing and has score ``low``
            if ``absent_is_low``, or cannot be scored.
        total: documents that match in all, where the arm knows.
        truncated: the query was cut to what the arm reads.
        encode_s: time spent on turning the query into a vector.
        search_s: time spent in the index.
    """

    candidates: list[Candidate]
    low: float
    high: float
    complete: Callable[[Collection[Docno]], Awaitable[Mapping[Docno, Candidate]]]
    absent_is_low: bool
    total: int | None = None
    truncated: bool = False
    encode_s: float = 0.0
    search_s: float = 0.0


class Retriever(Protocol):
    """First stage of a search.

    Raises RetrieverUnavailableError when its index cannot answer, and DeadlineExceeded when it sees that it
    will not do so in time.
    """

    @property
    def name(self) -> str: ...

    async def retrieve(
        self,
        text: SearchText,
        depth: int,
        filter: Filter | None,
        limit: Deadline = NO_LIMIT,
        boost_scale: float = 1.0,
    ) -> Retrieved:
        """Retrieves the best documents.

        Args:
            text: of a query of terms, an arm that compares no words reads the words alone. Whoever searches
                drops what it gives that lacks a required term or has an excluded one.
            limit: until when the caller waits at least; what cannot be done by then need not be begun.
            boost_scale: what an arm that reads the boosts of the schema's fields multiplies them by.
        """
        ...


@runtime_checkable
class PassageRetriever(Retriever, Protocol):
    """A retriever that compares the vectors of documents' passages."""

    async def read_vectors(self, docnos: Collection[Docno]) -> Mapping[Docno, NDArray[np.float32]]:
        """Reads the vectors of each document that has any, shape ``(passages, dimension)``."""
        ...

    def search_for_vector(self, vector: NDArray[np.float32] | None) -> Retriever:
        """Makes a retriever that finds what is nearest to ``vector`` (unit length), whatever the text is.

        Without one it does not answer.
        """
        ...


class QueryEncoder(Protocol):
    """Turns a query into a unit vector, and says whether it was cut."""

    async def encode_query(
        self, text: str, limit: Deadline = NO_LIMIT
    ) -> tuple[NDArray[np.float32], bool]: ...
