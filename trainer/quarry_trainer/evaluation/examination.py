"""How well each rank is seen, from hits that exploration put where a neighbour had stood.

What stands at a place before exploration is shown there or one place away by chance alone, so its clicks at
the three places, each weighed by the inverse of the place's logged probability, differ by examination only.
Nothing is assumed of how relevant the hits are.

Source: swap interventions, Joachims, Swaminathan and Schnabel, WSDM 2017; pairs of neighbours swapped at
random, Radlinski and Joachims, AAAI 2006.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from quarry_trainer.evaluation.displays import Bool, Displays, Float64

DEPTH = 20
"""Deepest rank whose examination is learned; twice the ten that are measured."""
MIN_CLICKS = 5
"""On hits that were moved to a rank, or the rank and all below it are left out."""
_STEPS = 1_000
_TOLERANCE = 1e-9
_LEAST = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Explored:
    """Weighed displays and clicks of places before exploration at ranks, query by query.

    Attributes:
        depth: ranks whose examination can be learned; 0 or 1 if exploration tells nothing.
        clicks: on hits that were moved, within ``depth``.
        shown: sparse, shape ``(queries, depth * depth)``: sums of inverse probabilities; of each query a
            table of places before (rows) and ranks (columns).
        clicked: likewise, of the displays that were clicked.
    """

    depth: int
    clicks: int
    shown: sparse.csr_array
    clicked: sparse.csr_array

    @classmethod
    def of(cls, log: Displays) -> "Explored":
        swapped = _swapped(log)
        chance = (log.probability < 1) & (swapped | (log.rank == log.rank_before))
        moved = chance & swapped & log.clicked
        by_rank = np.bincount(log.rank[moved], minlength=DEPTH + 1)[1 : DEPTH + 1]
        # The first rank that is told too little about ends the curve.
        depth = int(np.cumprod(by_rank >= MIN_CLICKS).sum())
        within = chance & (log.rank <= depth) & (log.rank_before <= depth)
        tables = [_table(log, within & some, depth) for some in (np.ones(len(log.rank), bool), log.clicked)]
        return cls(depth, int((moved & (log.rank <= depth)).sum()), *tables)

    def curve(self, weights: Float64) -> Float64:
        """Examination relative to rank 1, shape ``(resamples, depth)``, over 0.

        Args:
            weights: of the queries, shape ``(resamples, queries)``; ones for the log itself.
        """
        shape = (len(weights), self.depth, self.depth)
        return _fitted((weights @ self.shown).reshape(shape), (weights @ self.clicked).reshape(shape))


def _swapped(log: Displays) -> Bool:
    """Hits at the place of a neighbour who is at theirs, shape ``(m,)``.

    What moved otherwise, as all hits do when an advertisement is put above them, was not swapped.
    """
    near = np.flatnonzero(np.abs(log.rank - log.rank_before) == 1)
    search = log.search[near].astype(np.int64) << 32
    rank, before = log.rank[near].astype(np.int64), log.rank_before[near].astype(np.int64)
    partner = np.isin(search + (before << 16) + rank, search + (rank << 16) + before)
    swapped = np.zeros(len(log.rank), bool)
    swapped[near[partner]] = True
    return swapped


def _table(log: Displays, chosen: Bool, depth: int) -> sparse.csr_array:
    cell = (log.rank_before[chosen].astype(np.int64) - 1) * depth + log.rank[chosen] - 1
    at = (log.query[log.search[chosen]], cell)
    return sparse.csr_array((1 / log.probability[chosen], at), (len(log.queries), depth * depth))


def _fitted(shown: Float64, clicked: Float64) -> Float64:
    """Maximizes the likelihood of Poisson clicks with means ``shown * place * rank``, by turns.

    Proportional fitting: each step makes the expected clicks of places, then of ranks, the observed ones.
    """
    of_place, of_rank = clicked.sum(axis=2), clicked.sum(axis=1)
    theta = np.ones(of_rank.shape)
    for _ in range(_STEPS):
        place = of_place / np.maximum(np.einsum("rbk,rk->rb", shown, theta), _LEAST)
        found = of_rank / np.maximum(np.einsum("rbk,rb->rk", shown, place), _LEAST)
        found = np.maximum(found / np.maximum(found[:, :1], _LEAST), _LEAST)
        settled = np.abs(found - theta).max(initial=0.0) < _TOLERANCE
        theta = found
        if settled:
            break
    return theta
