"""What a search has found, before it is cut into pages: the ranked list and how it came about."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from quarry.types import Docno


class Stage(StrEnum):
    BM25 = "bm25"
    DENSE = "dense"
    RERANK = "rerank"
    TOTAL = "total"


class Reason(StrEnum):
    TIMEOUT = "timeout"
    UNAVAILABLE = "unavailable"
    REDUCED_DEPTH = "reduced_depth"
    TRUNCATED_QUERY = "truncated_query"
    REBUILDING = "rebuilding"


@dataclass(frozen=True, slots=True)
class Degradation:
    """Part of the work that an answer is without. ``detail`` is for people and carries no user data."""

    stage: Stage
    reason: Reason
    detail: str

    @property
    def incomplete(self) -> bool:
        """Whether ``require_complete`` refuses it: a cut query is the caller's, not the server's."""
        return self.reason is not Reason.TRUNCATED_QUERY


@dataclass(frozen=True, slots=True)
class ArmPlace:
    """A document in one arm.

    Attributes:
        rank: in the arm's own list, from 1; 0 if the arm did not return it.
        score: raw; None if the arm has none for it.
        contribution: what the arm added to the fused score.
    """

    rank: int
    score: float | None
    contribution: float


@dataclass(frozen=True, slots=True)
class RankedDocument:
    """One entry of a ranked list.

    Attributes:
        score: what it is ranked by: the re-ranker's score if it was re-ranked, else the fused score.
        version: of the document when it was ranked.
        passage: number of its best passage; None where no vector was compared.
        fused_rank: from 1.
        rerank_score: None if it was not re-ranked.
        truncated: the re-ranker saw a cut text.
    """

    docno: Docno
    id: str
    version: int
    score: float
    arms: Mapping[str, ArmPlace] = field(default_factory=dict)
    passage: int | None = None
    fused_rank: int = 0
    fused_score: float = 0.0
    rerank_score: float | None = None
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Total:
    """How many documents match; at least so many, if not exact."""

    count: int
    exact: bool


@dataclass(frozen=True, slots=True)
class Ranking:
    """A search's whole answer, of which pages are cut.

    Attributes:
        documents: best first, at most 1,000.
        timings_s: seconds by stage: encode, bm25, dense, fuse, rerank, hydrate; those that ran.
        reranker: name of the model that re-ranked; empty if none did.
    """

    documents: tuple[RankedDocument, ...]
    total: Total
    degraded: tuple[Degradation, ...]
    timings_s: Mapping[str, float]
    generation: str
    reranker: str
    configuration: str
