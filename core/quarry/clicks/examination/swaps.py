"""Examination from exploration: neighbours that chance put into the other order.

A policy that swaps ranks k and k + 1 by chance shows like documents at both, so the ratio of their click
rates is that of examination; neighbours chained give the curve.

Source: swap interventions, Joachims, Swaminathan and Schnabel, WSDM 2017; pairs of neighbours swapped at
random, Radlinski and Joachims, AAAI 2006.
"""

import numpy as np

from quarry.clicks.counts import make_pair_keys
from quarry.clicks.examination.fixed_effects import ComparedHits, estimate_within
from quarry.clicks.log import Bool, ClickLog, Int64
from quarry.clicks.model import Examination


def estimate_from_swaps(log: ClickLog) -> Examination:
    """Compares hits that kept their place with hits of that place that were swapped with a neighbour.

    Where the log has the probabilities of its policy, strata are places, so queries asked once count, too;
    else they are pairs at a place, and only pairs displayed both ways tell.

    A log without swaps gives NaN, but for rank 1 itself if it was clicked.
    """
    displays = select_by_place(log)
    if (displays.rank == displays.stratum).all():
        displays = _select_by_pair(log)
    return estimate_within(log, displays)


def select_by_place(log: ClickLog) -> ComparedHits:
    """Groups the hits that the policy might have moved, those of one place before exploration a stratum.

    Each is weighed by the inverse of the probability of its place. Hits whose chance of having been moved is
    not known are left out: their place tells nothing of the policy's choice.
    """
    known = log.rank_probability
    probability = np.ones(log.rank.shape) if known is None else known
    chosen = _find_told(log) & (probability < 1)
    return ComparedHits.from_pages(log, chosen, log.rank_before.astype(np.int64), 1 / probability)


def _select_by_pair(log: ClickLog) -> ComparedHits:
    """Makes a stratum of the hits of one pair, at one place before exploration by one ranker."""
    return ComparedHits.from_pages(log, _find_told(log), _make_pair_place_ranker_keys(log))


def _find_told(log: ClickLog) -> Bool:
    """Marks the hits that kept their place or were swapped, shape ``(n, r)``."""
    told: Bool = find_swapped(log) | (log.shown & (log.rank == log.rank_before))
    return told


def find_swapped(log: ClickLog) -> Bool:
    """Finds hits that stand at the place of their neighbour, and the neighbour at theirs, shape ``(n, r)``.

    What moved otherwise, as all hits do when an advertisement is put above them, was not swapped. Neither is
    what changed places with a hit of another page: whether users go on to that page depends on what they
    click on this one.
    """
    rank, before = log.rank, log.rank_before
    exchanged = (
        (rank[:, :-1] == before[:, 1:])
        & (rank[:, 1:] == before[:, :-1])
        & (rank[:, 1:] == rank[:, :-1] + 1)
        & log.shown[:, :-1]
        & log.shown[:, 1:]
    )
    hits = np.zeros(rank.shape, bool)
    hits[:, :-1] |= exchanged
    hits[:, 1:] |= exchanged
    return hits


def _make_pair_place_ranker_keys(log: ClickLog) -> Int64:
    """Makes one number for each pair, place before exploration and ranker, shape ``(n, r)``."""
    _, pair = np.unique(make_pair_keys(log), return_inverse=True)
    ranker = log.ranker.astype(np.int64)[:, None] - log.ranker.min(initial=0)
    before = log.rank_before.astype(np.int64)
    place = pair.reshape(before.shape) * (before.max(initial=0) + 1) + before
    key: Int64 = place * (ranker.max(initial=0) + 1) + ranker
    return key
