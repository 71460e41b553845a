"""The input and the output of mining: judged queries in, one row a negative out."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Int32 = NDArray[np.int32]
Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Positive:
    """A document that answers a query.

    Attributes:
        document: its number in the corpus, from 0.
        weight: of examples made from it, over 0: 1 for a judgment, from the click model for a clicked one.
        source: ``judged`` or ``clicked``.
    """

    document: int
    weight: float = 1.0
    source: str = "judged"


@dataclass(frozen=True, slots=True)
class MiningQuery:
    """A query to mine for.

    Attributes:
        positives: at least one, each document once. All of them are kept from becoming negatives.
    """

    id: str
    text: str
    positives: tuple[Positive, ...]


@dataclass(frozen=True, slots=True, eq=False)
class PairCandidates:
    """One (query, positive) pair, and the documents that may become its negatives.

    All arrays run over the candidates, ``c`` of them, best first by ``s_qd``, ties by document number; no
    positive of the query is among them. Similarities are cosines in the space that the preset asks for.

    Attributes:
        query: place of the query in the task, from 0.
        positive: the pair's positive.
        documents: int32, shape ``(c,)``: numbers in the corpus.
        s_qd: float32, shape ``(c,)``: query to candidate.
        s_pd: float32, shape ``(c,)``: positive to candidate.
        s_qp: query to positive.
        members: names of the members, ``m`` of them.
        ranks: int32, shape ``(m, c)``: place in the member's own list with the query's positives left
            out, from 1; 0 if not listed.
        scores: float32, shape ``(m, c)``: the member's raw scores; NaN if not listed.
        positive_ranks: int32, shape ``(m,)``: its places in the members' whole lists; 0: not listed.
        shown: float32, shape ``(c,)``: how often the candidate was displayed for this query.
        refusals: float32, shape ``(c,)``: expected number of times that it was examined and not chosen.
        clicked: bool, shape ``(c,)``: it was ever chosen for this query.
        clicked_near: bool, shape ``(c,)``: it was chosen for a query that shares a clicked one with this.
        coclick: float32, shape ``(c,)``: Jaccard overlap of the positive's and the candidate's
            neighbourhoods in the graph of documents clicked together; NaN without clicks on either.
        judged: float32, shape ``(c,)``: the re-ranker's raw score, which only orders; NaN without one.
        rerank: float32, shape ``(c,)``: the re-ranker's probability that the candidate answers the
            query; NaN without a re-ranker whose calibration tells it.
        rerank_positive: the same of the positive; NaN likewise.
        excluded: int32: the query's positives, their copies and documents without a word, which may not be
            drawn at random either.
        batch: int32: positives of the task's queries, this one's too, each once.
    """

    query: int
    positive: Positive
    documents: Int32
    s_qd: Float32
    s_pd: Float32
    s_qp: float
    members: tuple[str, ...]
    ranks: Int32
    scores: Float32
    positive_ranks: Int32
    positive_scores: Float32
    shown: Float32
    refusals: Float32
    clicked: Bool
    clicked_near: Bool
    coclick: Float32
    judged: Float32
    rerank: Float32
    rerank_positive: float
    excluded: Int32
    batch: Int32

    def __len__(self) -> int:
        return len(self.documents)

    @property
    def agreement(self) -> Int32:
        """How many members list each candidate, shape ``(c,)``."""
        counted: Int32 = (self.ranks > 0).sum(axis=0).astype(np.int32)
        return counted


@dataclass(frozen=True, slots=True)
class Chosen:
    """A document that a preset has chosen.

    Attributes:
        document: number in the corpus.
        rule: what chose it: the preset's name, ``pool`` or ``random`` of ``quarry``, ``relabelled:rerank`` or
            ``relabelled:above-positive``.
        rung: where it was drawn from: ``pool`` (the first candidates) or ``random`` (the whole collection) of
            ``quarry``; the name of any other preset.
        label: 0 for a negative, 1 for a likely false negative that is re-labelled as a positive.
        weight: of the example in the loss, over 0, before the positive's weight.
    """

    document: int
    rule: str
    rung: str
    label: int = 0
    weight: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One row of a mining set, with the fields of the Parquet columns in docs/reference/file-formats.md."""

    query_id: str
    query: str
    positive_id: str
    negative_id: str
    label: int
    weight: float
    preset: str
    rule: str
    rung: str
    agreement: int
    s_qd: float
    s_qp: float
    s_pd: float
    members: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    """By member that lists the negative: its rank and raw score."""
    evidence: Mapping[str, float] = field(default_factory=dict)
    """What is known of ``shown``, ``refusals``, ``clicked``, ``clicked_near``, ``coclick``, ``rerank``; what
    is not known is left out."""


@dataclass(frozen=True, slots=True, eq=False)
class Mined:
    """The result of mining.

    Attributes:
        examples: ordered by query as asked, then positive, then choice.
        pairs: (query, positive) pairs asked for; ``covered`` of them got a negative.
        positive_first: pairs whose positive the preset's space puts before all candidates.
        members: that were asked.
        preset: with its constants as used.
        notes: recorded choices and what is to know, for people.
    """

    examples: list[Example]
    pairs: int
    covered: int
    positive_first: int
    members: tuple[str, ...]
    preset: str
    parameters: Mapping[str, float]
    notes: tuple[str, ...] = ()
