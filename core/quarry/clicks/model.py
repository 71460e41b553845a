"""The Protocol of click models, and what they make of a click log."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from quarry.clicks.log import ClickLog, Float64, Int32, Int64


@dataclass(frozen=True, slots=True, eq=False)
class Estimates:
    """Relevance of (query, document) pairs, ordered by query, then document.

    Attributes:
        query: int32, shape ``(p,)``, into the log's queries. ``document`` likewise.
        relevance: float64 in [0, 1]: how attractive the pair is, shrunk to the mean where it was seen seldom.
        lower: 95 % interval. So is ``upper``.
        impressions: int64: how often the pair was displayed.
        clicks: int64.
        refusals: float64: expected number of times that it was examined and not chosen.
        examined: float64: expected number of times that it was examined, at least ``clicks``. It is
            ``clicks + refusals`` but for a model that takes pages without a click for seen.
    """

    query: Int32
    document: Int32
    relevance: Float64
    lower: Float64
    upper: Float64
    impressions: Int64
    clicks: Int64
    refusals: Float64
    examined: Float64


@dataclass(frozen=True, slots=True, eq=False)
class Examination:
    """The probability that each rank is examined, relative to rank 1.

    Attributes:
        value: float64, 0 or more, shape ``(max_rank,)``; entry ``i`` is for rank ``i + 1``; NaN where nothing
            tells.
        lower: 95 % interval. So is ``upper``.
        impressions: int64, of each rank.
    """

    value: Float64
    lower: Float64
    upper: Float64
    impressions: Int64


@dataclass(frozen=True, slots=True, eq=False)
class FittedModel:
    """The parameters that a click model has learned from one log.

    Attributes:
        name: of the model.
        estimates: of every pair displayed.
        examination: None where the model has no such thing.
        notes: what the figures rest on and do not show, for people.
        parameters: what else the model predicts clicks with, by name.
    """

    name: str
    estimates: Estimates
    examination: Examination | None
    notes: tuple[str, ...] = field(default=())
    parameters: Mapping[str, Float64] = field(default_factory=dict)


class ClickModel(Protocol):
    """Learns relevance from clicks."""

    @property
    def name(self) -> str: ...

    def fit(self, log: ClickLog) -> FittedModel:
        """Raises NoFeedbackError if there is no click to learn from."""
        ...

    def predict_clicks(self, fitted: FittedModel, log: ClickLog) -> Float64:
        """Predicts P(click) of each place given the clicks above it, shape ``(n, r)``, in (0, 1).

        A pair that was not seen in fitting has the mean relevance. ``log`` numbers queries and documents as
        the one that was fitted, as ``ClickLog.select_rows`` does.
        """
        ...
