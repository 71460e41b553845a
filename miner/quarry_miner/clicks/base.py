"""A click log as arrays, and what every click model makes of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from quarry.feedback.types import ObservedPage

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class ClickLog:
    """Pages of results and what was clicked, in order of display.

    ``n`` pages of at most ``r`` places; place ``j`` of a row is the ``j``-th hit that was displayed. Shorter
    pages end in places whose document is -1.

    Attributes:
        queries: distinct queries; a row's ``query`` points into it.
        documents: distinct document ids; ``document`` points into it.
        query: int32, shape ``(n,)``.
        session: int32, shape ``(n,)``; what is held out or resampled together.
        time_us: int64, shape ``(n,)``.
        document: int32, shape ``(n, r)``, -1 for no hit.
        rank: int32, shape ``(n, r)``: where the hit was displayed, pages counted together; 0 for no hit.
        clicked: bool, shape ``(n, r)``.
        refused: bool, shape ``(n, r)``: said to be seen and refused.
        rank_before: int32, shape ``(n, r)``: place before exploration.
        ranker: int32, shape ``(n,)``: which configuration and model made the order.
        rendered: bool, shape ``(n,)``: whether what was displayed is known, not assumed.
        simulated: any page was made by a program.
    """

    queries: Sequence[str]
    documents: Sequence[str]
    query: Int32
    session: Int32
    time_us: Int64
    document: Int32
    rank: Int32
    clicked: Bool
    refused: Bool
    rank_before: Int32
    ranker: Int32
    rendered: Bool
    simulated: bool = False

    def __len__(self) -> int:
        return len(self.query)

    @property
    def shown(self) -> Bool:
        """Which places hold a hit, shape ``(n, r)``."""
        return self.document >= 0

    @classmethod
    def of(cls, pages: Iterable[ObservedPage]) -> "ClickLog":
        """The displayed hits of ``pages``; a query is its text, case and outer spaces ignored."""
        raise NotImplementedError


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
    """

    query: Int32
    document: Int32
    relevance: Float64
    lower: Float64
    upper: Float64
    impressions: Int64
    clicks: Int64
    refusals: Float64


@dataclass(frozen=True, slots=True, eq=False)
class Examination:
    """How likely each rank is examined, relative to rank 1.

    Attributes:
        value: float64, shape ``(max_rank,)``; entry ``i`` is for rank ``i + 1``; NaN where nothing tells.
        lower: 95 % interval. So is ``upper``.
        impressions: int64, of each rank.
    """

    value: Float64
    lower: Float64
    upper: Float64
    impressions: Int64


@dataclass(frozen=True, slots=True, eq=False)
class FittedModel:
    """What a click model has learned from one log.

    Attributes:
        name: of the model.
        estimates: of every pair displayed.
        examination: None where the model has no such thing.
        notes: what the figures rest on and do not show, for people.
    """

    name: str
    estimates: Estimates
    examination: Examination | None
    notes: tuple[str, ...] = field(default=())


class ClickModel(Protocol):
    """Learns relevance from clicks."""

    @property
    def name(self) -> str: ...

    def fit(self, log: ClickLog) -> FittedModel:
        """Raises NoFeedbackError if there is no click to learn from."""
        ...

    def click_probabilities(self, fitted: FittedModel, log: ClickLog) -> Float64:
        """P(click) of each place given the clicks above it, shape ``(n, r)``, in (0, 1).

        A pair that was not seen in fitting has the mean relevance.
        """
        ...
