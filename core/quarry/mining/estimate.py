"""The request of a job that fits a click model, and its answer."""

from pydantic import Field

from quarry.feedback.reading.guards import GuardPolicy
from quarry.mining.spec import DEFAULT_CLICK_MODEL, ClickModelName, JsonModel, JudgedQuery

DEFAULT_HELD_OUT = 0.2
MAX_ESTIMATES = 100_000


class EstimateSpec(JsonModel):
    """A click model to fit to a collection's feedback.

    Attributes:
        guards: which events of feedback count, as the server has it.
        held_out: share of the sessions that it is measured on; 0 measures nothing.
        judgments: to measure agreement with.
        max_estimates: to return, most impressions first.
    """

    collection: str
    collection_key: int
    guards: GuardPolicy = GuardPolicy()
    model: ClickModelName = DEFAULT_CLICK_MODEL
    held_out: float = Field(DEFAULT_HELD_OUT, ge=0, le=0.5)
    judgments: tuple[JudgedQuery, ...] = ()
    max_estimates: int = Field(0, ge=0, le=MAX_ESTIMATES)
    seed: int = Field(0, ge=0, lt=2**64)


class RankValue(JsonModel):
    """The probability that a rank is examined, with its 95 % interval."""

    rank: int
    value: float
    lower: float
    upper: float
    impressions: int


class PairRelevance(JsonModel):
    """The relevance of a document to a query, with its 95 % interval."""

    query: str
    document_id: str
    relevance: float
    lower: float
    upper: float
    impressions: int
    clicks: int


class RelevanceReport(JsonModel):
    """The findings of a click model, and how good it is.

    Attributes:
        log_likelihood: mean over places of held-out pages, None without any; ``perplexity``: by rank.
        agreement: share of judged pairs of documents in the judges' order; None without any.
    """

    model: ClickModelName
    impressions: int
    clicks: int
    simulated: bool
    examination: tuple[RankValue, ...] = ()
    estimates: tuple[PairRelevance, ...] = ()
    log_likelihood: float | None = None
    perplexity: dict[int, float] = Field(default_factory=dict)
    agreement: float | None = None
    agreement_pairs: int = 0
    notes: tuple[str, ...] = ()
