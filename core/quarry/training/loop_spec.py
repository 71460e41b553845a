"""A turn of the loop as it is written down for the process that makes it, and its report at the end."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from quarry.feedback.reading.guards import GuardPolicy
from quarry.mining.spec import JsonModel, JudgedQuery, Verdict
from quarry.training.spec import Metric, ModelVerdict, OffPolicyEstimate

LoopOutcome = Literal[
    "NOT_ENOUGH_FEEDBACK", "BAD_EXAMPLES", "NOT_BETTER", "PROMOTED", "IMPROVED_NOT_PROMOTED", "FAILED"
]

MOST_ASKED = 20
"""Queries whose top ten is compared."""


class LoopSpec(JsonModel):
    """The request of a loop run.

    Attributes:
        name: of the turn and its report, ``[a-z0-9-]+``; also its folder's.
        collection: name, and ``collection_key`` its number in the log.
        server: ``host:port`` of the server that is asked for all that is done.
        min_new_choices: with fewer, nothing is done, unless ``force``.
        steps: as of ``TrainingSpec``; so are the next three. 0 leaves it to the server.
    """

    name: str
    collection: str
    collection_key: int
    server: str
    min_new_choices: int = Field(ge=1)
    force: bool = False
    steps: int = Field(0, ge=0, le=1_000_000)
    max_tokens: int = Field(0, ge=0, le=8_192)
    seed: int = Field(0, ge=0, lt=2**64)
    judgments: tuple[JudgedQuery, ...] = ()
    guards: GuardPolicy = GuardPolicy()
    create_time_us: int = 0


class MinedInShort(JsonModel):
    """The mining set of a turn; see ``quarry.mining.spec.MiningSummary``."""

    name: str
    verdict: Verdict
    advice: tuple[str, ...] = ()
    pairs: int = 0
    coverage: float = 0.0
    rows: int = 0
    false_negatives: float | None = None
    false_negatives_lower: float | None = None
    false_negatives_upper: float | None = None
    simulated: bool = False


class RankChange(JsonModel):
    """The rank of a document in a query's top ten before and now: 1 to 10, or 0 if not among them."""

    document_id: str
    title: str
    rank_before: int = Field(ge=0, le=10)
    rank_after: int = Field(ge=0, le=10)


class QueryChange(JsonModel):
    """The change of one query's top ten by a model; documents by their new rank, those that left last."""

    query: str
    times_asked: int
    documents: tuple[RankChange, ...]


class VersionInShort(JsonModel):
    """A version of the collection's re-ranker, and what evaluation found of it over all queries.

    Attributes:
        state: ``CANDIDATE``, ``SERVING`` or ``RETIRED``.
        verdict: empty if it was not evaluated.
        metrics: nDCG@10 of candidate and difference, if judgments or examples decided.
        off_policy: doubly robust estimates of the same, if clicks decided.
    """

    name: str
    create_time_us: int
    state: str
    verdict: str = ""
    simulated: bool = False
    metrics: tuple[Metric, ...] = ()
    off_policy: tuple[OffPolicyEstimate, ...] = ()


class VerdictEvidence(JsonModel):
    """The evidence that the verdict rests on.

    Attributes:
        source: ``judgments``, ``examples`` or ``clicks``.
        queries: that decided.
        earlier_decisions: verdicts that the same evidence has given before.
        level: of the interval that decides, 0 to 1; None where nothing was decided.
        explored_clicks: clicks on hits that exploration had moved; only from clicks.
        owner_share: of the held-out clicks, those of whoever has most; only from clicks.
    """

    FORMER_NAMES: ClassVar[Mapping[str, str]] = {"spent": "earlier_decisions"}

    source: str = ""
    queries: int = 0
    earlier_decisions: int = 0
    level: float | None = None
    off_policy: tuple[OffPolicyEstimate, ...] = ()
    explored_clicks: int | None = None
    owner_share: float | None = None


class LoopReport(JsonModel):
    """The result of a loop run.

    Attributes:
        name: empty if no report is kept.
        new_choices: that the log got since the last turn.
        model: empty if nothing was trained, or no version came of it.
        compared_with: empty: the fused order.
        changes: of the queries that are asked most, those whose top ten changes; ``queries_compared`` of
            them were looked at.
        simulated: a program made some of the feedback.
        feedback_start_us: of the time that the queries in ``changes`` were asked in, to ``feedback_end_us``,
            inclusive; None if the report quotes nobody. It goes when feedback of that time is purged.
        versions: of the collection, oldest first.
        reason: of the error, if the turn failed.
    """

    name: str
    collection: str
    collection_key: int
    start_us: int
    end_us: int
    outcome: LoopOutcome
    new_choices: int = 0
    min_new_choices: int = 0
    advice: tuple[str, ...] = ()
    mining: MinedInShort | None = None
    model: str = ""
    model_verdict: ModelVerdict | None = None
    compared_with: str = ""
    metrics: tuple[Metric, ...] = ()
    evidence: VerdictEvidence | None = None
    changes: tuple[QueryChange, ...] = ()
    queries_compared: int = 0
    versions: tuple[VersionInShort, ...] = ()
    simulated: bool = False
    feedback_start_us: int | None = None
    feedback_end_us: int | None = None
    reason: str = ""

    @property
    def began_us(self) -> int:
        return self.start_us
