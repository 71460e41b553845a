"""The feedback log as arrays: what was displayed where, by whom it was seen, and what was clicked."""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from operator import gt
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from quarry.feedback.reading.guards import GuardPolicy
from quarry.feedback.reading.observed_pages import END_OF_TIME_US, read_observed_pages
from quarry.feedback.tables import read_feedback
from quarry.feedback.types import ObservedPage
from quarry.questions import make_question_key

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
        queries: distinct queries, as ``make_question_key`` has them; a row's ``query`` points into it.
        texts: one form of each query, as somebody typed it.
        documents: distinct document ids; ``document`` points into it.
        query: int32, shape ``(n,)``.
        search: int32, shape ``(n,)``: number of the search that the page belongs to.
        session: int32, shape ``(n,)``; what is held out or resampled together.
        owner: int32, shape ``(n,)``: number of the page's user, without one of its session, without one of
            its search, as the guards have it.
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
    texts: Sequence[str]
    documents: Sequence[str]
    query: Int32
    search: Int32
    session: Int32
    owner: Int32
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
    def first_pages(self) -> Bool:
        """Which pages are the first of their search, shape ``(n,)``: there are as many as searches."""
        first = np.zeros(len(self), np.bool_)
        first[np.unique(self.search, return_index=True)[1]] = True
        return first

    @property
    def span_us(self) -> tuple[int, int] | None:
        """Finds the times of the first and the last page; None if there is none."""
        return (int(self.time_us.min()), int(self.time_us.max())) if len(self) else None

    @property
    def max_rank(self) -> int:
        """The deepest rank displayed; 0 if nothing was."""
        return int(self.rank.max(initial=0))

    def select_rows(self, chosen: Bool | Int64) -> "ClickLog":
        """Selects some of the pages; all that has a number keeps it."""
        probability = None if self.rank_probability is None else self.rank_probability[chosen]
        of_pages = ("query", "search", "session", "owner", "time_us", "ranker", "rendered")
        of_places = ("document", "rank", "clicked", "refused", "rank_before")
        return replace(
            self,
            **{name: getattr(self, name)[chosen] for name in (*of_pages, *of_places)},
            rank_probability=probability,
        )

    @classmethod
    def from_pages(cls, pages: Iterable[ObservedPage]) -> "ClickLog":
        """Collects the displayed hits of ``pages``; a query is its ``make_question_key``.

        Where no session is named, all pages of a user are one, and without a user all pages of a search.
        """
        queries, searches, rankers = _Numbers[str](), _Numbers[str](), _Numbers[str]()
        sessions, owners = _Numbers[tuple[str, str]](), _Numbers[tuple[str, str]]()
        # Arrays from the start: as tuples, the hits of a million pages would take gigabytes.
        query, search, session, owner, ranker = (array("i") for _ in range(5))
        time_us, rendered, hits, simulated = array("q"), bytearray(), _Hits(), False
        texts: list[str] = []
        for page in pages:
            query.append(queries[make_question_key(page.query)])
            if len(queries) > len(texts):
                texts.append(page.query.strip())
            search.append(searches[page.search_id])
            by_session, by_user = ("s", page.session_id), ("u", page.user_id)
            by_search = ("p", page.search_id)
            session.append(sessions[_find_named(by_session, by_user) or by_search])
            owner.append(owners[_find_named(by_user, by_session) or by_search])
            ranker.append(rankers[page.ranker])
            time_us.append(page.time_us)
            rendered.append(page.rendered)
            hits.add(page)
            simulated |= page.simulated
        return cls(
            queries=list(queries),
            texts=texts,
            documents=list(hits.documents),
            query=np.array(query, np.int32),
            search=np.array(search, np.int32),
            session=np.array(session, np.int32),
            owner=np.array(owner, np.int32),
            time_us=np.array(time_us, np.int64),
            document=hits.make_table(hits.document, np.int32, -1),
            rank=hits.make_table(hits.rank, np.int32, 0),
            clicked=hits.make_table(hits.clicked, np.bool_, False),
            refused=hits.make_table(hits.refused, np.bool_, False),
            rank_before=hits.make_table(hits.before, np.int32, 0),
            ranker=np.array(ranker, np.int32),
            rendered=np.array(rendered, np.bool_),
            simulated=simulated,
            rank_probability=hits.make_table(hits.probability, np.float64, 1.0),
        )


def read_clicks(
    path: Path,
    key: int,
    guards: GuardPolicy,
    start_us: int = 0,
    end_us: int = END_OF_TIME_US,
    *,
    typed: bool = False,
) -> ClickLog:
    """Reads the pages of a collection that were answered in [start_us, end_us); none without feedback.

    Args:
        path: ``feedback.db``; a server may be writing it.
        key: the collection's.
        guards: say which events do not count.
        typed: only pages of searches that typed something: browsing has no order to judge.
    """
    try:
        engine = read_feedback(path)
    except FileNotFoundError:
        return ClickLog.from_pages([])
    try:
        pages = read_observed_pages(engine, key, start_us, end_us, guards)
        return ClickLog.from_pages(page for page in pages if not typed or make_question_key(page.query))
    finally:
        engine.dispose()


def _find_named(*names: tuple[str, str]) -> tuple[str, str] | None:
    """Returns the first pair whose second part is not empty."""
    return next((name for name in names if name[1]), None)


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

    def make_table(
        self, values: "array[int] | array[float] | bytearray", kind: type[np.generic], nothing: float
    ) -> NDArray[Any]:
        """Makes a row for each page, filled up with ``nothing``."""
        sizes = np.array(self.sizes, np.int64)
        width = int(sizes.max(initial=0))
        flat = np.array(values, kind)
        if (sizes == width).all():
            return flat.reshape(len(sizes), width)
        found = np.full((len(sizes), width), nothing, kind)
        found[np.arange(width) < sizes[:, None]] = flat
        return found
