"""Examination from clicks on the same thing at different ranks, whatever its relevance.

A *stratum* is displays that are alike but for their rank: of one pair, or of hits that chance alone placed.
Within it clicks fall on ranks in proportion to ``displays * theta``, whatever the relevance is, so relevance
need not be estimated: the equations ``clicks at k = sum over strata of clicks * share of k`` are unbiased for
Bernoulli clicks however few displays a stratum has. (They are those of a Poisson model with an effect for
each stratum, conditional on its clicks; Palmgren, Biometrika 1981.)
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from quarry.clicks.examination.ranks import relative_curve
from quarry.clicks.log import Bool, Examination, Float64, Int64

_STEPS = 50
_TOLERANCE = 1e-10
_LARGEST_STEP = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Displays:
    """Hits to compare, all arrays of shape ``(m,)``.

    Attributes:
        stratum: int64 from 0.
        rank: int64 from 1.
        clicked: bool.
        session: int64; sessions are independent of each other, displays of one need not be.
        weight: float64, over 0; the inverse of the probability of being displayed there, if strata differ in
            it; else 1.
    """

    stratum: Int64
    rank: Int64
    clicked: Bool
    session: Int64
    weight: Float64


def examination_within(displays: Displays, impressions: Int64) -> Examination:
    """The curve relative to rank 1; NaN for ranks that no chain of clicks links to rank 1, both ways.

    Intervals are by the sandwich formula with sessions as clusters, and the delta method.

    Args:
        impressions: of each rank in the whole log, shape ``(max_rank,)``; displays have no deeper ranks.
    """
    ranks = len(impressions)
    _, stratum = np.unique(displays.stratum, return_inverse=True)
    shape = (int(stratum.max(initial=-1)) + 1, ranks)
    at = (stratum, displays.rank - 1)
    shown = sparse.csr_array((displays.weight, at), shape)
    clicked = sparse.csr_array((displays.weight * displays.clicked, at), shape)
    linked = _linked(shown, clicked)
    log_value = np.full(ranks, np.nan)
    spread = np.full((ranks, ranks), np.nan)
    if linked.sum() > 1:
        chosen = np.flatnonzero(linked)
        number = np.cumsum(linked) - 1
        kept = linked[displays.rank - 1]
        some = (stratum[kept], number[displays.rank[kept] - 1])
        theta, information, share = _solve(shown[:, chosen], clicked[:, chosen])
        scores = _session_scores(displays, kept, some, share)
        inverse = _inverse(information)
        log_value[chosen] = np.log(theta)
        spread[np.ix_(chosen, chosen)] = inverse @ (scores.T @ scores) @ inverse
    return relative_curve(log_value, spread, impressions)


def _linked(shown: sparse.csr_array, clicked: sparse.csr_array) -> Bool:
    """Ranks whose ratio to rank 1 has a finite estimate: Ford's condition, a cycle of clicks through both.

    Rank k leads to rank l if a stratum displayed at l was clicked at k.
    """
    ranks = shown.shape[1]
    if ranks == 0:
        return np.zeros(0, bool)
    leads = (clicked > 0).astype(np.float64).T @ (shown > 0).astype(np.float64)
    _, group = sparse.csgraph.connected_components(leads, connection="strong")
    linked: Bool = group == group[0]
    return linked


def _solve(shown: sparse.csr_array, clicked: sparse.csr_array) -> tuple[Float64, Float64, sparse.csr_array]:
    """Newton's steps in log theta; then the information, and each stratum's shares of clicks by rank."""
    by_rank = np.asarray(clicked.sum(axis=0)).ravel()
    of_stratum = np.asarray(clicked.sum(axis=1)).ravel()
    theta = np.ones(len(by_rank))
    for _ in range(_STEPS):
        share, information = _shares(shown, of_stratum, theta)
        score = by_rank - of_stratum @ share
        step = _inverse(information) @ score
        theta = theta * np.exp(np.clip(step, -_LARGEST_STEP, _LARGEST_STEP))
        if float(np.abs(step).max()) < _TOLERANCE:
            break
    share, information = _shares(shown, of_stratum, theta)
    return theta, information, share


def _inverse(information: Float64) -> Float64:
    """Of the information on theta relative to rank 1, which stays as it is: only ratios are told."""
    inverse = np.zeros_like(information)
    inverse[1:, 1:] = np.linalg.pinv(information[1:, 1:], hermitian=True)
    return inverse


def _shares(shown: sparse.csr_array, of_stratum: Float64, theta: Float64) -> tuple[sparse.csr_array, Float64]:
    expected = shown.multiply(theta[None]).tocsr()
    total = np.asarray(expected.sum(axis=1)).ravel()
    share = expected.multiply((1 / np.where(total > 0, total, 1))[:, None]).tocsr()
    within = (share.T @ share.multiply(of_stratum[:, None]).tocsr()).toarray()
    return share, np.diag(of_stratum @ share) - within


def _session_scores(
    displays: Displays, kept: Bool, at: tuple[Int64, Int64], share: sparse.csr_array
) -> Float64:
    """Each session's part of the equations, shape ``(sessions, linked ranks)``.

    A display's part is its click, less the rate of its stratum and rank, times (own rank - shares of the
    stratum). A rate of ``n`` displays is too near to each of them; ``n / (n - 1)`` makes up for it, and a
    click displayed once is not centred.
    """
    stratum, rank = at
    ranks = share.shape[1]
    clicked = displays.clicked[kept].astype(np.float64)
    _, cell = np.unique(stratum * ranks + rank, return_inverse=True)
    count = np.bincount(cell)[cell]
    rate = np.bincount(cell, clicked)[cell] / count
    rest = np.where(count > 1, (clicked - rate) * np.sqrt(count / np.maximum(count - 1, 1)), clicked)
    rest = rest * displays.weight[kept]
    _, session = np.unique(displays.session[kept], return_inverse=True)
    size = int(session.max()) + 1
    own = np.bincount(session * ranks + rank, rest, size * ranks).reshape(size, ranks)
    mixing = sparse.csr_array((rest, (session, stratum)), (size, share.shape[0]))
    scores: Float64 = own - (mixing @ share).toarray()
    return scores
