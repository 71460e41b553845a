"""Examination from exploration: neighbours that chance put into the other order.

A policy that swaps ranks k and k + 1 by chance shows like documents at both, so the ratio of their click
rates is that of examination; neighbours chained give the curve.

Source: swap interventions, Joachims, Swaminathan and Schnabel, WSDM 2017; pairs of neighbours swapped at
random, Radlinski and Joachims, AAAI 2006.
"""

import numpy as np

from quarry.clicks.counts import pair_keys
from quarry.clicks.examination.fixed_effects import Displays, examination_within
from quarry.clicks.examination.ranks import impressions_by_rank
from quarry.clicks.log import Bool, ClickLog, Examination, Int64


def swapped_examination(log: ClickLog) -> Examination:
    """Compares hits that kept their place with hits of that place that were swapped with a neighbour.

    Where the log has the probabilities of its policy, all hits of one place before exploration, each weighed
    by the inverse of its probability, are one stratum: queries asked once count, too. Where it has not, a
    stratum is one pair at one place before exploration by one ranker, and only pairs displayed both ways
    tell.

    A log without swaps gives NaN, but for rank 1 itself if it was clicked.
    """
    moved = swapped(log)
    kept = log.shown & (log.rank == log.rank_before) & ~log.refused
    probability = log.rank_probability
    if probability is not None and (probability[moved] < 1).any():
        # Without a known chance of having been moved, a place tells nothing of the policy's choice.
        moved, kept = moved & (probability < 1), kept & (probability < 1)
        stratum, weight = log.rank_before.astype(np.int64), 1 / probability
    else:
        stratum, weight = _pair_place_ranker(log), np.ones(log.rank.shape)
    told = (moved & ~log.refused) | kept
    sessions = np.broadcast_to(log.session.astype(np.int64)[:, None], log.rank.shape)
    displays = Displays(
        stratum=stratum[told],
        rank=log.rank[told].astype(np.int64),
        clicked=log.clicked[told],
        session=sessions[told],
        weight=weight[told],
    )
    return examination_within(displays, impressions_by_rank(log))


def swapped(log: ClickLog) -> Bool:
    """Hits that stand at the place of their neighbour, and the neighbour at theirs, shape ``(n, r)``.

    What moved otherwise, as all hits do when an advertisement is put above them, was not swapped.
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


def _pair_place_ranker(log: ClickLog) -> Int64:
    """One number for each pair, place before exploration and ranker, shape ``(n, r)``."""
    _, pair = np.unique(pair_keys(log), return_inverse=True)
    ranker = log.ranker.astype(np.int64)[:, None] - log.ranker.min(initial=0)
    before = log.rank_before.astype(np.int64)
    place = pair.reshape(before.shape) * (before.max(initial=0) + 1) + before
    key: Int64 = place * (ranker.max(initial=0) + 1) + ranker
    return key
