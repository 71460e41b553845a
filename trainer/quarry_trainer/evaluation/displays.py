"""The feedback log as off-policy estimates read it: what was displayed where, and whether it was clicked."""

from array import array
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from quarry.feedback.types import ObservedPage
from quarry.questions import question_key

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

Thing = TypeVar("Thing")


@dataclass(frozen=True, slots=True, eq=False)
class Displays:
    """``s`` searches, and the ``m`` hits that were on a screen.

    Attributes:
        queries: distinct ones, as ``question_key`` has it; ``query`` points into it.
        texts: one form of each, as it was typed.
        documents: distinct ids; ``document`` points into it.
        query: int32, shape ``(s,)``.
        time_us: int64, shape ``(s,)``, of the first page.
        owner: int32, shape ``(s,)``: a number for the user, without one for the session, without one for
            the search.
        search: int32, shape ``(m,)``.
        document: int32, shape ``(m,)``.
        rank: int32, shape ``(m,)``, from 1, pages counted together.
        rank_before: int32, shape ``(m,)``: without exploration.
        probability: float64, shape ``(m,)``, in (0, 1]: of the place, under the policy that explored.
        clicked: bool, shape ``(m,)``.
        simulated: a program made any of it.
    """

    queries: Sequence[str]
    texts: Sequence[str]
    documents: Sequence[str]
    query: Int32
    time_us: Int64
    owner: Int32
    search: Int32
    document: Int32
    rank: Int32
    rank_before: Int32
    probability: Float64
    clicked: Bool
    simulated: bool = False

    def latest(self, share: float) -> Bool:
        """Whether a search is among the latest ``share`` of all, shape ``(s,)``; ties count as later."""
        if not len(self.time_us):
            return np.zeros(0, bool)
        order = np.sort(self.time_us)
        first = min(len(order) - 1, round((1 - share) * len(order)))
        held_out: Bool = self.time_us >= order[first]
        return held_out

    def searches_for(self, queries: Collection[str]) -> Bool:
        """Whether a search is for one of these, however they are written; shape ``(s,)``."""
        names = {question_key(query) for query in queries}
        wanted = np.array([name in names for name in self.queries], bool)
        return wanted[self.query] if len(self.query) else np.zeros(0, bool)

    def asked(self) -> dict[str, int]:
        """How many searches were for each query, as ``question_key`` has it."""
        counts = np.bincount(self.query, minlength=len(self.queries)).tolist()
        return dict(zip(self.queries, counts, strict=True))

    def chosen(self) -> dict[str, set[str]]:
        """Documents that were ever clicked, by query as ``question_key`` has it."""
        found: dict[str, set[str]] = {}
        for place in np.flatnonzero(self.clicked).tolist():
            query = self.queries[self.query[self.search[place]]]
            found.setdefault(query, set()).add(self.documents[self.document[place]])
        return found

    @classmethod
    def of(cls, pages: Iterable[ObservedPage]) -> "Displays":
        """Pages of searches that typed something; browsing has no order to judge."""
        queries, documents, searches = _Numbers[str](), _Numbers[str](), _Numbers[str]()
        owners = _Numbers[tuple[str, str]]()
        texts: list[str] = []
        query, owner, search, document = (array("i") for _ in range(4))
        rank, before, time_us = array("i"), array("i"), array("q")
        probability, clicked, simulated = array("d"), bytearray(), False
        for page in pages:
            if not (name := question_key(page.query)):
                continue
            number = searches[page.search_id]
            if number == len(query):
                query.append(queries[name])
                texts += [page.query.strip()] * (len(queries) > len(texts))
                names = (("u", page.user_id), ("s", page.session_id), ("p", page.search_id))
                owner.append(owners[next(one for one in names if one[1])])
                time_us.append(page.time_us)
            simulated |= page.simulated
            for place, displayed in enumerate(page.displayed):
                if displayed:
                    search.append(number)
                    document.append(documents[page.documents[place]])
                    rank.append(page.ranks[place])
                    before.append(page.ranks_before[place])
                    probability.append(page.rank_probabilities[place])
                    clicked.append(page.clicked[place])
        return cls(
            list(queries),
            texts,
            list(documents),
            np.array(query, np.int32),
            np.array(time_us, np.int64),
            np.array(owner, np.int32),
            np.array(search, np.int32),
            np.array(document, np.int32),
            np.array(rank, np.int32),
            np.array(before, np.int32),
            np.array(probability, np.float64),
            np.array(clicked, np.bool_),
            simulated,
        )


class _Numbers(dict[Thing, int]):
    """Numbers things 0, 1, ... in the order in which they are first asked for."""

    def __missing__(self, thing: Thing) -> int:
        self[thing] = number = len(self)
        return number
