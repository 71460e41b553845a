"""Displays counted by (query, document) pair and by the context that decides how they are examined."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quarry.clicks.log import Bool, ClickLog, Float64, Int32, Int64
from quarry.clicks.model import Estimates
from quarry.errors import NoFeedbackError

_DENSE = 8


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """The hits of a log, one after the other, and the pairs they belong to.

    Attributes:
        row: int64, shape ``(m,)``: page of each hit. So are ``rank`` (int64), ``clicked`` and ``refused``
            (said to be refused, and not clicked).
        pair: int64, shape ``(m,)``, into the pairs.
        query: int32, shape ``(p,)``, of each pair; pairs are ordered by query, then document.
        document: int32, shape ``(p,)``.
    """

    row: Int64
    rank: Int64
    clicked: Bool
    refused: Bool
    pair: Int64
    query: Int32
    document: Int32

    @property
    def pair_count(self) -> int:
        return len(self.query)

    def sum_per_pair(self, weight: NDArray[np.generic] | None = None) -> Float64:
        """Sums a weight of each hit, or counts them, shape ``(p,)``."""
        return np.bincount(self.pair, weight, self.pair_count).astype(np.float64)

    @classmethod
    def from_log(cls, log: ClickLog) -> "Places":
        """Collects all hits of ``log``.

        Raises:
            NoFeedbackError: none was clicked.
        """
        shown = log.shown
        row, _ = np.nonzero(shown)
        clicked = log.clicked[shown]
        if not clicked.any():
            raise NoFeedbackError
        keys, pair = np.unique(make_pair_keys(log)[shown], return_inverse=True)
        return cls(
            row=row,
            rank=log.rank[shown].astype(np.int64),
            clicked=clicked,
            refused=log.refused[shown] & ~clicked,
            pair=pair.astype(np.int64),
            query=(keys >> 32).astype(np.int32),
            document=(keys & 0xFFFFFFFF).astype(np.int32),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Displays and clicks of each pair in each context that it was seen in, ordered by pair.

    Attributes:
        pair: int64, shape ``(c,)``. So is ``context``.
        shown: float64, shape ``(c,)``. So is ``clicked``, at most ``shown``.
        starts: int64, shape ``(p,)``: first cell of each pair.
        contexts: how many there are.
    """

    pair: Int64
    context: Int64
    shown: Float64
    clicked: Float64
    starts: Int64
    contexts: int

    def sum_by_pair(self, value: Float64) -> Float64:
        """Sums over each pair's cells, shape ``(p,)``."""
        return np.add.reduceat(value, self.starts)

    def sum_by_context(self, value: Float64) -> Float64:
        """Sums over each context's cells, shape ``(contexts,)``."""
        return np.bincount(self.context, value, self.contexts).astype(np.float64)

    def select_pairs(self, chosen: Bool) -> "Cells":
        """Selects the cells of some of the pairs, shape ``(p,)``, which are numbered anew."""
        kept = chosen[self.pair]
        pair = (np.cumsum(chosen) - 1)[self.pair[kept]]
        starts = np.flatnonzero(np.diff(pair, prepend=-1))
        return Cells(pair, self.context[kept], self.shown[kept], self.clicked[kept], starts, self.contexts)

    @classmethod
    def from_contexts(cls, places: Places, context: Int64, contexts: int) -> "Cells":
        """Counts hits whose contexts are given, shape ``(m,)``, each in [0, ``contexts``)."""
        key = places.pair * contexts + context
        size = places.pair_count * contexts
        if size <= _DENSE * len(key) + 1024:
            shown = np.bincount(key, minlength=size)
            clicked = np.bincount(key[places.clicked], minlength=size)
            cell = np.flatnonzero(shown)
            shown, clicked = shown[cell], clicked[cell]
        else:
            cell, number, shown = np.unique(key, return_inverse=True, return_counts=True)
            clicked = np.bincount(number[places.clicked], minlength=len(cell))
        pair = cell // contexts
        return cls(
            pair=pair,
            context=cell % contexts,
            shown=shown.astype(np.float64),
            clicked=clicked.astype(np.float64),
            starts=np.flatnonzero(np.diff(pair, prepend=-1)),
            contexts=contexts,
        )


def make_pair_keys(log: ClickLog) -> Int64:
    """Makes one number for each hit's query and document, shape ``(n, r)``.

    Rising by query, then document.
    """
    query = log.query.astype(np.int64)[:, None]
    keys: Int64 = (query << 32) | np.maximum(log.document, 0).astype(np.int64)
    return keys


def spread_over_places(log: ClickLog, estimates: Estimates, value: Float64, unseen: float) -> Float64:
    """Spreads a pair's value over each place where it stands, shape ``(n, r)``.

    ``unseen`` for pairs never fitted.
    """
    known = (estimates.query.astype(np.int64) << 32) | estimates.document.astype(np.int64)
    wanted = make_pair_keys(log)
    if len(known) == 0:
        return np.full(wanted.shape, unseen)
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where((known[at] == wanted) & log.shown, value[at], unseen)
