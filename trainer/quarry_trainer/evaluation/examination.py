"""Estimates of how well each rank is seen, from exploration, for resamples of the queries."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from quarry.clicks.examination.fixed_effects import ComparedHits, find_linked_ranks, fit_curves
from quarry.clicks.examination.swaps import select_by_place
from quarry.clicks.log import Bool, ClickLog, Float64

DEPTH = 20
"""Deepest rank whose examination is learned; twice the ten that are measured."""
MIN_CLICKS = 5
"""On hits that were moved to a rank, or the rank and all below it are left out."""


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
    def from_displays(cls, log: ClickLog) -> "Explored":
        """Ends the curve at the first rank that is told too little about, or that nothing links to rank 1."""
        displays = select_by_place(log)
        moved = displays.clicked & (displays.rank != displays.stratum)
        by_rank = np.bincount(displays.rank[moved], minlength=DEPTH + 1)[1 : DEPTH + 1]
        depth = int(np.cumprod(by_rank >= MIN_CLICKS).sum())
        parts = (np.ones(len(moved), np.bool_), displays.clicked)
        if depth:
            shown, clicked = (_add_up_tables(log, displays, part, depth).sum(axis=0) for part in parts)
            shape = (depth, depth)
            linked = find_linked_ranks(*(sparse.csr_array(one.reshape(shape)) for one in (shown, clicked)))
            depth = int(np.cumprod(linked).sum())
        tables = [_add_up_tables(log, displays, part, depth) for part in parts]
        return cls(depth, int((moved & (displays.rank <= depth)).sum()), *tables)

    def estimate_curve(self, weights: Float64) -> Float64:
        """Estimates examination relative to rank 1, shape ``(resamples, depth)``, over 0.

        Args:
            weights: of the queries, shape ``(resamples, queries)``; ones for the log itself.
        """
        shape = (len(weights), self.depth, self.depth)
        return fit_curves((weights @ self.shown).reshape(shape), (weights @ self.clicked).reshape(shape))


def _add_up_tables(log: ClickLog, displays: ComparedHits, chosen: Bool, depth: int) -> sparse.csr_array:
    """Counts one table a query, of the ``chosen`` displays at the first ``depth`` places and ranks."""
    kept = chosen & (displays.rank <= depth) & (displays.stratum <= depth)
    cell = (displays.stratum[kept] - 1) * depth + displays.rank[kept] - 1
    at = (log.query[displays.page[kept]], cell)
    return sparse.csr_array((displays.weight[kept], at), (len(log.queries), depth * depth))
