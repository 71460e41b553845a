"""A click log as arrays, and what every click model makes of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Protocol, TypeVar

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
        rank_probability: float64 in (0, 1], shape ``(n, r)``: of the place, under the policy that explored;
            1 for no hit. None: not known, and nothing is concluded from it.
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
    rank_probability: Float64 | None = None

    def __len__(self) -> int:
        return len(self.query)

    @property
    def shown(self) -> Bool:
        """Which places hold a hit, shape ``(n, r)``."""
        return self.document >= 0

    @property
    def max_rank(self) -> int:
        """The deepest rank displayed; 0 if nothing was."""
        return int(self.rank.max(initial=0))

    def rows(self, chosen: Bool | Int64) -> "ClickLog":
        """Some of the pages; queries, documents, sessions and rankers keep their numbers."""
        probability = None if self.rank_probability is None else self.rank_probability[chosen]
        of_rows = ("query", "session", "time_us", "document", "rank", "clicked", "refused", "rank_before")
        return replace(
            self,
            **{name: getattr(self, name)[chosen] for name in (*of_rows, "ranker", "rendered")},
            rank_probability=probability,
        )

    @classmethod
    def of(cls, pages: Iterable[ObservedPage]) -> "ClickLog":
        """The displayed hits of ``pages``; a query is its text, case and outer spaces ignored.

        Where no session is named, all pages of a user are one, and without a user all pages of a search.
        """
        queries, documents, rankers = _Numbers[str](), _Numbers[str](), _Numbers[str]()
        sessions = _Numbers[tuple[str, str]]()
        of_page: list[tuple[int, int, int, int, bool]] = []
        of_hits: list[list[_Hit]] = []
        simulated = False
        for page in pages:
            session = ("s", page.session_id) if page.session_id else ("u", page.user_id)
            numbers = (
                queries[page.query.strip().casefold()],
                sessions[session if session[1] else ("p", page.search_id)],
                page.time_us,
                rankers[page.ranker],
                page.rendered,
            )
            of_page.append(numbers)
            of_hits.append(_displayed(page, documents))
            simulated |= page.simulated
        width = max((len(hits) for hits in of_hits), default=0)
        table = np.array([hits + [_NO_HIT] * (width - len(hits)) for hits in of_hits], np.float64)
        table = table.reshape(len(of_hits), width, len(_NO_HIT))
        rank, document, clicked, refused, before, probability = np.moveaxis(table, 2, 0)
        query, session_number, time_us, ranker, rendered = zip(*of_page, strict=True) if of_page else [()] * 5
        return cls(
            queries=list(queries),
            documents=list(documents),
            query=np.array(query, np.int32),
            session=np.array(session_number, np.int32),
            time_us=np.array(time_us, np.int64),
            document=document.astype(np.int32),
            rank=rank.astype(np.int32),
            clicked=clicked > 0,
            refused=refused > 0,
            rank_before=before.astype(np.int32),
            ranker=np.array(ranker, np.int32),
            rendered=np.array(rendered, np.bool_),
            simulated=simulated,
            rank_probability=probability.copy(),
        )


_Name = TypeVar("_Name")
_Hit = tuple[int, int, bool, bool, int, float]
_NO_HIT: _Hit = (0, -1, False, False, 0, 1.0)


class _Numbers(dict[_Name, int]):
    """Numbers things 0, 1, ... in the order in which they are first asked for."""

    def __missing__(self, thing: _Name) -> int:
        self[thing] = number = len(self)
        return number


def _displayed(page: ObservedPage, documents: _Numbers[str]) -> list[_Hit]:
    """What stood on the screen, from the top."""
    hits = zip(
        page.ranks,
        page.documents,
        page.clicked,
        page.refused,
        page.ranks_before,
        page.rank_probabilities,
        page.displayed,
        strict=True,
    )
    shown = sorted((hit[:6] for hit in hits if hit[6]), key=itemgetter(0))
    return [(hit[0], documents[hit[1]], *hit[2:]) for hit in shown]


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
    """What a click model has learned from one log.

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

    def click_probabilities(self, fitted: FittedModel, log: ClickLog) -> Float64:
        """P(click) of each place given the clicks above it, shape ``(n, r)``, in (0, 1).

        A pair that was not seen in fitting has the mean relevance. ``log`` numbers queries and documents as
        the one that was fitted, as ``ClickLog.rows`` does.
        """
        ...
