"""Exploration: neighbours change places by chance, so that a place's effect can be told from a document's.

FairPairs (Radlinski and Joachims, AAAI 2006): a coin pairs ranks 1-2, 3-4, ... or 2-3, 4-5, ..., and each
pair is swapped with a probability that is logged.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from quarry.ranking.ranges import EXPLORED_DEPTH, SWAP_PROBABILITY
from quarry.ranking.ranking import LazyDocuments, RankedDocument

DEFAULT_DEPTH = 10
NO_EXPLORATION = "none"


@dataclass(frozen=True, slots=True)
class FairPairs:
    """Exploration by fair pairs.

    Attributes:
        swap_probability: of each pair, 0 (nothing is explored) to 0.5.
        depth: ranks to choose among, 2 to 100.

    Raises:
        InvalidArgumentError: out of range.
    """

    swap_probability: float = 0.0
    depth: int = DEFAULT_DEPTH

    def __post_init__(self) -> None:
        SWAP_PROBABILITY.check(self.swap_probability, "swap_probability")
        EXPLORED_DEPTH.check(self.depth, "depth")

    @property
    def settled(self) -> int:
        """Ranks whose order it may change, from the first on."""
        return self.depth if self.swap_probability else 0

    @property
    def policy(self) -> str:
        """Its name in an impression, with what it was set to."""
        if not self.swap_probability:
            return NO_EXPLORATION
        return f"fair-pairs:{self.swap_probability:g}:{self.depth}"

    def draw_order(self, seed: int, length: int) -> tuple[int, ...]:
        """Draws, for each of the first places, from 0, the place before exploration; the rest stay."""
        size = min(self.depth, length)
        if not self.swap_probability or size < 2:
            return ()
        random = Random(seed)
        order = list(range(size))
        for first in range(random.getrandbits(1), size - 1, 2):
            if random.random() < self.swap_probability:
                order[first], order[first + 1] = first + 1, first
        return tuple(order)

    def compute_probability(self, before: int, shown: int, length: int) -> float:
        """Computes the probability that the hit at place ``before`` of ``length`` is shown at place
        ``shown``; places from 0.

        A place but the first and the last has a partner above under one face of the coin and below under the
        other, so each swap has half the probability of a pair's.
        """
        size = min(self.depth, length)
        swap = self.swap_probability / 2
        if before >= size or size < 2:
            return 1.0 if before == shown else 0.0
        if before == shown:
            return 1.0 - swap * ((before > 0) + (before < size - 1))
        return swap if abs(before - shown) == 1 and shown < size else 0.0


def compute_seed(search_id: str) -> int:
    """Computes the seed of a search's exploration, 63 bits: its pages are explored alike, and it can be
    done again."""
    return int.from_bytes(hashlib.blake2b(search_id.encode(), digest_size=8).digest(), "big") >> 1


class ExploredDocuments(LazyDocuments):
    """A ranked list whose first entries have changed places; each keeps its own score."""

    def __init__(self, documents: Sequence[RankedDocument], order: Sequence[int]) -> None:
        self.ranked, self._order = documents, order

    def __len__(self) -> int:
        return len(self.ranked)

    def apply_order(self, documents: Sequence[RankedDocument]) -> "ExploredDocuments":
        """Gives other ``documents`` the order of these."""
        return ExploredDocuments(documents, self._order)

    def _make(self, place: int) -> RankedDocument:
        return self.ranked[self._order[place] if place < len(self._order) else place]


def explore(
    documents: Sequence[RankedDocument], policy: FairPairs, search_id: str, pinned: int = 0
) -> Sequence[RankedDocument]:
    """Puts ``documents`` in the order that ``policy`` gives this search; the first ones, ``pinned``, stay."""
    order = policy.draw_order(compute_seed(search_id), len(documents) - pinned)
    order = (*range(pinned), *(pinned + place for place in order)) if order and pinned else order
    return ExploredDocuments(documents, order) if order else documents


def join_documents(
    documents: Sequence[RankedDocument], below: Sequence[RankedDocument]
) -> Sequence[RankedDocument]:
    """Puts more documents below an explored list."""
    joined = [*undo_exploration(documents), *below]
    return documents.apply_order(joined) if isinstance(documents, ExploredDocuments) else joined


def undo_exploration(documents: Sequence[RankedDocument]) -> Sequence[RankedDocument]:
    """Returns the list before exploration."""
    return documents.ranked if isinstance(documents, ExploredDocuments) else documents
