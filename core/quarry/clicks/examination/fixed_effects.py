"""Examination from clicks on the same thing at different ranks, whatever its relevance.

A *stratum* is displays that are alike but for their rank: of one pair, or of hits that chance alone placed.
Within it clicks fall on ranks in proportion to ``displays * theta``, whatever the relevance is, so relevance
need not be estimated: the equations ``clicks at k = sum over strata of clicks * share of k`` are unbiased for
Bernoulli clicks however few displays a stratum has. (They are those of a Poisson model with an effect for
each stratum, conditional on its clicks; Palmgren, Biometrika 1981.)

They hold for displays that were chosen without regard to what became of them: all that were clicked, passed
over or refused. Without those that users say they refused, a rank that is examined often would look as if
few of its hits were passed over.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from quarry.clicks.examination.ranks import count_impressions_by_rank, make_relative_curve
from quarry.clicks.log import Bool, ClickLog, Float64, Int32, Int64
from quarry.clicks.model import Examination

_STEPS = 50
_TOLERANCE = 1e-10
_LARGEST_STEP = 2.0
_VANISHED = 1e-12
"""A rank whose theta falls below this was never clicked: its maximum is 0, which no step reaches."""

Equations = Callable[[Float64], tuple[Float64, Float64]]
"""From theta, shape ``(tables, ranks)``, to the score in log theta, of that shape, and its information."""


@dataclass(frozen=True, slots=True, eq=False)
class ComparedHits:
    """Hits of a log to compare, all arrays of shape ``(m,)``.

    Attributes:
        page: int64, into the pages of the log.
        stratum: int64 from 0.
        rank: int64 from 1.
        clicked: bool.
        weight: float64, over 0; the inverse of the probability of being displayed there, if strata differ in
            it; else 1.
    """

    page: Int64
    stratum: Int64
    rank: Int64
    clicked: Bool
    weight: Float64

    @classmethod
    def from_pages(
        cls, log: ClickLog, chosen: Bool, stratum: Int64, weight: Float64 | None = None
    ) -> "ComparedHits":
        """Collects the hits of ``log`` that are ``chosen``; all have the shape of its places, ``(n, r)``."""
        page, _ = np.nonzero(chosen)
        return cls(
            page=page,
            stratum=stratum[chosen],
            rank=log.rank[chosen].astype(np.int64),
            clicked=log.clicked[chosen],
            weight=np.ones(len(page)) if weight is None else weight[chosen],
        )


def estimate_within(log: ClickLog, displays: ComparedHits) -> Examination:
    """Estimates the curve relative to rank 1; NaN for ranks that no chain of clicks links to rank 1, both
    ways.

    Intervals are by the sandwich formula with sessions as clusters, for displays of one session need not be
    independent of each other, and the delta method.
    """
    impressions = count_impressions_by_rank(log)
    ranks = len(impressions)
    _, stratum = np.unique(displays.stratum, return_inverse=True)
    shape = (int(stratum.max(initial=-1)) + 1, ranks)
    at = (stratum, displays.rank - 1)
    shown = sparse.csr_array((displays.weight, at), shape)
    clicked = sparse.csr_array((displays.weight * displays.clicked, at), shape)
    linked = find_linked_ranks(shown, clicked)
    log_value = np.full(ranks, np.nan)
    spread = np.full((ranks, ranks), np.nan)
    if linked.sum() > 1:
        chosen = np.flatnonzero(linked)
        number = np.cumsum(linked) - 1
        kept = linked[displays.rank - 1]
        some = (stratum[kept], number[displays.rank[kept] - 1])
        theta, information, share = _solve(shown[:, chosen], clicked[:, chosen])
        session = log.session[displays.page[kept]]
        scores = _compute_session_scores(displays, kept, session, some, share)
        inverse = _invert(information)
        log_value[chosen] = np.log(theta)
        spread[np.ix_(chosen, chosen)] = inverse @ (scores.T @ scores) @ inverse
    return make_relative_curve(log_value, spread, impressions)


def fit_curves(shown: Float64, clicked: Float64) -> Float64:
    """Estimates theta relative to rank 1 of many tables at once, shape ``(tables, ranks)``, without bounds.

    All ranks should be linked (``find_linked_ranks``); what is not is 1 or of no meaning.

    Args:
        shown: weighed displays, shape ``(tables, strata, ranks)``. ``clicked`` likewise, of the clicked ones.
    """
    by_rank, of_stratum = clicked.sum(axis=1), clicked.sum(axis=2)

    def make_equations(theta: Float64) -> tuple[Float64, Float64]:
        expected = shown * theta[:, None]
        total = expected.sum(axis=2, keepdims=True)
        share = expected / np.where(total > 0, total, 1)
        counted = share * of_stratum[:, :, None]
        fitted = counted.sum(axis=1)
        own = np.eye(fitted.shape[1]) * fitted[:, None]
        return by_rank - fitted, own - share.transpose(0, 2, 1) @ counted

    return _climb(make_equations, np.ones(by_rank.shape))


def find_linked_ranks(shown: sparse.csr_array, clicked: sparse.csr_array) -> Bool:
    """Finds ranks whose ratio to rank 1 has a finite estimate: Ford's condition, a cycle of clicks through
    both.

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
    """Estimates theta of one table, with its information and each stratum's shares of clicks."""
    by_rank = np.asarray(clicked.sum(axis=0)).ravel()
    of_stratum = np.asarray(clicked.sum(axis=1)).ravel()

    def make_equations(theta: Float64) -> tuple[Float64, Float64]:
        share, information = _compute_shares(shown, of_stratum, theta[0])
        return (by_rank - of_stratum @ share)[None], information[None]

    theta = _climb(make_equations, np.ones((1, len(by_rank))))[0]
    share, information = _compute_shares(shown, of_stratum, theta)
    return theta, information, share


def _climb(equations: Equations, theta: Float64) -> Float64:
    """Takes Newton's steps in log theta, of all tables at once; rank 1 stays: only ratios are told."""
    for _ in range(_STEPS):
        score, information = equations(theta)
        step = (_invert(information) @ score[..., None])[..., 0]
        theta = theta * np.exp(np.clip(step, -_LARGEST_STEP, _LARGEST_STEP))
        if np.abs(step).max(initial=0.0, where=theta > _VANISHED) < _TOLERANCE:
            break
    return theta


def _invert(information: Float64) -> Float64:
    """Inverts the information on theta relative to rank 1, shape ``(..., ranks, ranks)``."""
    inverse = np.zeros_like(information)
    inverse[..., 1:, 1:] = np.linalg.pinv(information[..., 1:, 1:], hermitian=True)
    return inverse


def _compute_shares(
    shown: sparse.csr_array, of_stratum: Float64, theta: Float64
) -> tuple[sparse.csr_array, Float64]:
    expected = shown.multiply(theta[None]).tocsr()
    total = np.asarray(expected.sum(axis=1)).ravel()
    share = expected.multiply((1 / np.where(total > 0, total, 1))[:, None]).tocsr()
    within = (share.T @ share.multiply(of_stratum[:, None]).tocsr()).toarray()
    return share, np.diag(of_stratum @ share) - within


def _compute_session_scores(
    displays: ComparedHits, kept: Bool, session: Int32, at: tuple[Int64, Int64], share: sparse.csr_array
) -> Float64:
    """Computes each session's part of the equations, shape ``(sessions, linked ranks)``.

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
    _, cluster = np.unique(session, return_inverse=True)
    size = int(cluster.max()) + 1
    own = np.bincount(cluster * ranks + rank, rest, size * ranks).reshape(size, ranks)
    mixing = sparse.csr_array((rest, (cluster, stratum)), (size, share.shape[0]))
    scores: Float64 = own - (mixing @ share).toarray()
    return scores
