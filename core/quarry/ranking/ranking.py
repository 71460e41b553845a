"""The findings of a search before they are cut into pages: the ranked list and how it came about."""

import math
from abc import abstractmethod
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import overload

from quarry.ranking.fusion import ArmRun, Fused
from quarry.ranking.score_scale import ScoreBasis, scale_score
from quarry.types import Candidate, Docno


class DegradedStage(StrEnum):
    """The stages of a search beside its arms, each of which is a stage called by its name."""

    RERANK = "rerank"
    TOTAL = "total"
    FACETS = "facets"
    SNIPPETS = "snippets"


class DegradationReason(StrEnum):
    TIMEOUT = "timeout"
    UNAVAILABLE = "unavailable"
    REDUCED_DEPTH = "reduced_depth"
    TRUNCATED_QUERY = "truncated_query"
    REBUILDING = "rebuilding"
    BEHIND = "behind"


@dataclass(frozen=True, slots=True)
class Degradation:
    """Part of the work that an answer is without.

    Attributes:
        stage: the name of an arm, or a ``DegradedStage``.
        detail: for people; carries no user data.
        model: of RERANK, the model that did not read all that it was to read.
    """

    stage: str
    reason: DegradationReason
    detail: str
    model: str = ""

    @property
    def incomplete(self) -> bool:
        """Whether ``require_complete`` refuses it: a cut query is the caller's, not the server's."""
        return self.reason is not DegradationReason.TRUNCATED_QUERY

    @property
    def arm(self) -> str:
        """The arm that it is about; empty if it is about another stage."""
        return "" if self.stage in _STAGES else self.stage


_STAGES = frozenset(DegradedStage)


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
class RerankScore:
    """The score that one re-ranker gave a document.

    Attributes:
        score: raw; comparable with the same model's only.
        truncated: it saw a cut text.
    """

    model: str
    score: float
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class BoostEffect:
    """The effect of one boost on a document.

    Attributes:
        boost: its place among those of the search, from 0.
        strength: of the document, 0 to 1.
        effect: the factor, or what was added.
    """

    boost: int
    strength: float
    effect: float


@dataclass(frozen=True, slots=True)
class Shape:
    """The marks that a search's shaping left on a document.

    Attributes:
        score: as it is given out; None: as ``scale_score`` makes it.
        boosts: those that did something.
        similarity: to the documents above it, 0 to 1; None: it was not compared.
        pinned: it stands where it does because the search says so.
        others: how many documents of its group are not shown.
        members: the best of those, without shapes of their own members.
    """

    score: float | None = None
    boosts: tuple[BoostEffect, ...] = ()
    similarity: float | None = None
    pinned: bool = False
    others: int = 0
    members: tuple["RankedDocument", ...] = ()


NO_SHAPE = Shape()


@dataclass(frozen=True, slots=True)
class RankedDocument:
    """One entry of a ranked list.

    Attributes:
        score: what it is ranked by: if it was re-ranked, what the blend of the last model that read it makes
            of both scores, which is the re-ranker's own score where the model does not blend; else the fused
            score. Raw: ``scale_score`` makes of it what is given out.
        version: of the document when it was ranked.
        passage: number of its best passage; None where no vector was compared.
        fused_rank: from 1.
        readings: by each re-ranker that read it, in the order in which they did; empty if none did.
        relevance: probability, 0 to 1, by the calibration of the last model that read it; None: not known.
        scored_by: what ``score`` rests on.
        shape: what the search's shaping made of it.
    """

    docno: Docno
    id: str
    version: int
    score: float
    arms: Mapping[str, ArmPlace] = field(default_factory=dict)
    passage: int | None = None
    fused_rank: int = 0
    fused_score: float = 0.0
    readings: tuple[RerankScore, ...] = ()
    relevance: float | None = None
    scored_by: ScoreBasis = ScoreBasis.FUSED
    shape: Shape = NO_SHAPE

    @property
    def rerank_score(self) -> float | None:
        """The raw score by the last model that read it; None if it was not re-ranked."""
        return self.readings[-1].score if self.readings else None


class LazyDocuments(Sequence[RankedDocument]):
    """A ranked list whose entries are made when they are asked for: a search ranks hundreds and shows ten."""

    @abstractmethod
    def _make(self, place: int) -> RankedDocument:
        """Makes the entry at ``place``, from 0."""

    @overload
    def __getitem__(self, index: int) -> RankedDocument: ...
    @overload
    def __getitem__(self, index: slice) -> list[RankedDocument]: ...
    def __getitem__(self, index: int | slice) -> RankedDocument | list[RankedDocument]:
        if isinstance(index, slice):
            return [self._make(place) for place in range(*index.indices(len(self)))]
        return self._make(range(len(self))[index])


class FusedDocuments(LazyDocuments):
    """A ranked list in fused order.

    Args:
        fused: best first.
        ids: id and version of each.
        ranks: by arm, the ranks of its own candidates, from 1.
        known: by arm, all that it has a score for.
        compared: of an arm that compares passages, whose best passage a document has.
    """

    def __init__(
        self,
        fused: Sequence[Fused],
        ids: Mapping[Docno, tuple[str, int]],
        ranks: Mapping[str, Mapping[Docno, int]],
        known: Mapping[str, Mapping[Docno, Candidate]],
        compared: Mapping[Docno, Candidate],
    ) -> None:
        self.fused, self._ids, self._ranks, self._known = fused, ids, ranks, known
        self._compared = compared

    def __len__(self) -> int:
        return len(self.fused)

    def _make(self, place: int) -> RankedDocument:
        fused = self.fused[place]
        id, version = self._ids[fused.docno]
        arms = {name: self._place_arm(name, fused) for name in self._known}
        best = self._compared.get(fused.docno)
        return RankedDocument(
            fused.docno,
            id,
            version,
            fused.score,
            arms,
            None if best is None else best.passage,
            place + 1,
            fused.score,
        )

    def _place_arm(self, arm: str, fused: Fused) -> ArmPlace:
        candidate = self._known[arm].get(fused.docno)
        score = None if candidate is None else candidate.score
        return ArmPlace(self._ranks[arm].get(fused.docno, 0), score, fused.contributions.get(arm, 0.0))


class BareDocuments(LazyDocuments):
    """A ranked list of which the order, scores, what they rest on, and relevance are left, 25 bytes an entry.
    Its entries have no id or version.

    Args:
        bases: of the first documents; the others are ranked by their fused scores.
        relevances: of the first documents; those of the others are not known.
    """

    def __init__(
        self,
        docnos: Iterable[Docno],
        scores: Iterable[float],
        bases: Iterable[ScoreBasis] = (),
        relevances: Iterable[float | None] = (),
    ) -> None:
        self._docnos, self._scores, self._bases = array("Q", docnos), array("d", scores), array("b", bases)
        self._relevances = array("d", (math.nan if r is None else r for r in relevances))

    def __len__(self) -> int:
        return len(self._docnos)

    def _make(self, place: int) -> RankedDocument:
        docno, score = Docno(self._docnos[place]), self._scores[place]
        basis = ScoreBasis(self._bases[place]) if place < len(self._bases) else ScoreBasis.FUSED
        relevance = self._relevances[place] if place < len(self._relevances) else math.nan
        known = None if math.isnan(relevance) else relevance
        return RankedDocument(docno, "", 0, score, relevance=known, scored_by=basis)


def drop_explanations(documents: Sequence[RankedDocument], shaped: bool = False) -> Sequence[RankedDocument]:
    """Drops explanations from ``documents``, for later pages that explain nothing."""
    if shaped:
        return [_drop_explanation(document) for document in documents]
    if isinstance(documents, BareDocuments):
        return documents
    if isinstance(documents, FusedDocuments):
        return BareDocuments((f.docno for f in documents.fused), (f.score for f in documents.fused))
    return BareDocuments(
        (d.docno for d in documents),
        (d.score for d in documents),
        (d.scored_by for d in documents),
        (d.relevance for d in documents),
    )


def _drop_explanation(document: RankedDocument) -> RankedDocument:
    members = tuple(map(_drop_explanation, document.shape.members))
    shape = replace(document.shape, boosts=(), similarity=None, members=members)
    return replace(document, arms={}, readings=(), shape=shape)


class NotPinned(StrEnum):
    """The reason why a document that was to be pinned is not."""

    NOT_FOUND = "not_found"
    FILTERED = "filtered"


@dataclass(frozen=True, slots=True)
class Total:
    """The number of documents that match; at least so many, if not exact."""

    count: int
    exact: bool


class ReachLimit(StrEnum):
    """The reason why paging does not reach every document that matches a word of the query."""

    NONE = "none"
    """Nothing does."""
    LIST_SIZE = "list_size"
    """A list ranks at most 1,000 documents."""
    ARM_DEPTH = "arm_depth"
    """The search says how many candidates each arm gives."""
    RERANK_DEPTH = "rerank_depth"
    """Only what a re-ranker read can be known to be relevant."""
    DEGRADED = "degraded"
    """Nobody counted what matches, or BM25 did not answer."""


@dataclass(frozen=True, slots=True)
class Reach:
    """The hits that all pages of a search give together.

    Attributes:
        found_by_meaning: those of them that match no word.
    """

    hits: Total
    limit: ReachLimit
    found_by_meaning: Total


@dataclass(frozen=True, slots=True)
class RestByDocno:
    """A list of what was browsed goes on with the documents from ``first`` on."""

    first: Docno


@dataclass(frozen=True, slots=True)
class RestByWords:
    """A list goes on with what BM25 finds beyond its depth.

    Attributes:
        highest: what the last merged document scored; infinite if there is none.
        runs: of the arms that answered, without their candidates.
    """

    highest: float
    runs: tuple[ArmRun, ...]


@dataclass(frozen=True, slots=True)
class RestByOrder:
    """A list that is ordered by fields goes on; its first ``depth`` documents are to be read next."""

    depth: int


@dataclass(frozen=True, slots=True)
class Ranking:
    """A search's whole answer, of which pages are cut.

    Attributes:
        documents: best first, at most 1,000; in the order of fields, at most ``MAX_ORDERED``.
        timings_s: seconds by stage: encode, each arm by its name, fuse, rerank, hydrate; those that ran.
        rerankers: names of the models that re-ranked, in the order in which they read; empty if none did.
        tuned: name of the ranking configuration that merged the arms; empty: none of the collection's.
        weights: of each arm that answered, as they were for this query.
        highest_fused: fused score that no document can exceed.
        rest: how the list goes on below ``documents``; None if it does not.
        shaped: its documents have shapes.
        pinned: so many documents at its top are pinned.
        not_pinned: ids of those that were to be, and why they are not.
        hidden: what the search does not see.
    """

    documents: Sequence[RankedDocument]
    total: Total
    degraded: tuple[Degradation, ...]
    timings_s: Mapping[str, float]
    generation: str
    rerankers: tuple[str, ...]
    configuration: str
    reach: Reach
    tuned: str = ""
    weights: Mapping[str, float] = field(default_factory=dict)
    highest_fused: float = 1.0
    rest: RestByDocno | RestByWords | RestByOrder | None = None
    shaped: bool = False
    pinned: int = 0
    not_pinned: Mapping[str, NotPinned] = field(default_factory=dict)
    hidden: frozenset[Docno] = frozenset()

    def scale(self, document: RankedDocument) -> float:
        """Returns the score that one of its documents is given out with."""
        if document.shape.score is not None:
            return document.shape.score
        return scale_score(document.scored_by, document.score, self.highest_fused)

    @property
    def reranker(self) -> str:
        """The model that ordered what is on top; empty if none did."""
        return self.rerankers[-1] if self.rerankers else ""
