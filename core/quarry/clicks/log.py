"""A click log as arrays, and what every click model makes of it."""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import gt
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from quarry.feedback.types import ObservedPage
from quarry.questions import question_key

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
        """The displayed hits of ``pages``; a query is its ``question_key``.

        Where no session is named, all pages of a user are one, and without a user all pages of a search.
        """
        queries, rankers, sessions = _Numbers[str](), _Numbers[str](), _Numbers[tuple[str, str]]()
        # Arrays from the start: as tuples, the hits of a million pages would take gigabytes.
        query, session_number, ranker, time_us = array("i"), array("i"), array("i"), array("q")
        rendered, hits, simulated = bytearray(), _Hits(), False
        for page in pages:
            session = ("s", page.session_id) if page.session_id else ("u", page.user_id)
            query.append(queries[question_key(page.query)])
            session_number.append(sessions[session if session[1] else ("p", page.search_id)])
            ranker.append(rankers[page.ranker])
            time_us.append(page.time_us)
            rendered.append(page.rendered)
            hits.add(page)
            simulated |= page.simulated
        return cls(
            queries=list(queries),
            documents=list(hits.documents),
            query=np.array(query, np.int32),
            session=np.array(session_number, np.int32),
            time_us=np.array(time_us, np.int64),
            document=hits.table(hits.document, np.int32, -1),
            rank=hits.table(hits.rank, np.int32, 0),
            clicked=hits.table(hits.clicked, np.bool_, False),
            refused=hits.table(hits.refused, np.bool_, False),
            rank_before=hits.table(hits.before, np.int32, 0),
            ranker=np.array(ranker, np.int32),
            rendered=np.array(rendered, np.bool_),
            simulated=simulated,
            rank_probability=hits.table(hits.probability, np.float64, 1.0),
        )


_Name = TypeVar("_Name")


class _Numbers(dict[_Name, int]):
    """Numbers things 0, 1, ... in the order in which they are first asked for."""

    def __missing__(self, thing: _Name) -> int:
        self[thing] = number = len(self)
        return number


class _Hits:
    """The displayed hits of pages, one after the other, each page from the top."""

    def __init__(self) -> None:
        self.documents = _Numbers[str]()
        self.sizes, self.document, self.rank, self.before = (array("i") for _ in range(4))
        self.clicked, self.refused, self.probability = bytearray(), bytearray(), array("d")

    def add(self, page: ObservedPage) -> None:
        documents, ranks, clicked, refused = page.documents, page.ranks, page.clicked, page.refused
        before, probabilities = page.ranks_before, page.rank_probabilities
        if not all(page.displayed) or any(map(gt, ranks, ranks[1:])):
            shown = sorted((i for i, yes in enumerate(page.displayed) if yes), key=ranks.__getitem__)
            documents, ranks = tuple(documents[i] for i in shown), tuple(ranks[i] for i in shown)
            clicked, refused = tuple(clicked[i] for i in shown), tuple(refused[i] for i in shown)
            before = tuple(before[i] for i in shown)
            probabilities = tuple(probabilities[i] for i in shown)
        self.sizes.append(len(documents))
        self.document.extend(map(self.documents.__getitem__, documents))
        self.rank.extend(ranks)
        self.clicked.extend(clicked)
        self.refused.extend(refused)
        self.before.extend(before)
        self.probability.extend(probabilities)

    def table(
        self, values: "array[int] | array[float] | bytearray", kind: type[np.generic], nothing: float
    ) -> NDArray[Any]:
        """A row for each page, filled up with ``nothing``."""
        sizes = np.array(self.sizes, np.int64)
        width = int(sizes.max(initial=0))
        flat = np.array(values, kind)
        if (sizes == width).all():
            return flat.reshape(len(sizes), width)
        found = np.full((len(sizes), width), nothing, kind)
        found[np.arange(width) < sizes[:, None]] = flat
        return found


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
