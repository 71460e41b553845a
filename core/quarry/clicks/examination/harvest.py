"""Examination from interventions that happened anyway: pairs that were displayed at different ranks.

Another version of the model, a new document, or a changed weight moves documents between ranks; every such
move compares two ranks on the same relevance.

Source: Agarwal, Zaitsev, Wang, Li, Najork and Joachims, Estimating Position Bias without Intrusive
Interventions, WSDM 2019.
"""

import numpy as np
from scipy.optimize import minimize

from quarry.clicks.counts import Cells, Places
from quarry.clicks.examination.fixed_effects import Displays, examination_within
from quarry.clicks.examination.ranks import impressions_by_rank
from quarry.clicks.fitting.linear import LEAST
from quarry.clicks.log import ClickLog, Examination, Float64


def harvested_examination(log: ClickLog) -> Examination:
    """All ranks of all pairs at once, each pair a stratum; see ``fixed_effects`` for the estimator.

    It uses the moves that AllPairs uses, and in place of one relevance for each pair of ranks none at all;
    so it needs no weights by which each (query, document) would count alike, and a pair seen often tells
    more.

    Raises:
        NoFeedbackError: nothing was clicked.
    """
    places = Places.of(log)
    seen = ~places.refused
    displays = Displays(
        stratum=places.pair[seen],
        rank=places.rank[seen],
        clicked=places.clicked[seen],
        session=log.session[places.row[seen]].astype(np.int64),
        weight=np.ones(int(seen.sum())),
    )
    return examination_within(displays, impressions_by_rank(log))


def all_pairs(log: ClickLog) -> Float64:
    """The paper's own estimate, shape ``(max_rank,)``, 1 at rank 1; here to compare with, without intervals.

    Maximizes the sum over ranks k and l of ``c log(theta_k r_kl) + (1 - c) log(1 - theta_k r_kl)``, ``c`` the
    mean click rate at k of pairs displayed at both, one relevance ``r_kl`` for both orders.
    """
    places, ranks = Places.of(log), log.max_rank
    cells = Cells.of(places, places.rank - 1, ranks)
    rate = np.zeros((places.pair_count, ranks))
    rate[cells.pair, cells.context] = cells.clicked / cells.shown
    seen = np.zeros_like(rate)
    seen[cells.pair, cells.context] = 1.0
    both = seen.T @ seen
    clicked = rate.T @ seen
    missed = both - clicked
    np.fill_diagonal(clicked, 0.0)
    np.fill_diagonal(missed, 0.0)
    upper = np.triu_indices(ranks, 1)
    number = np.zeros((ranks, ranks), np.int64)
    number[upper] = np.arange(len(upper[0])) + ranks
    number = number + number.T

    def loss(at: Float64) -> tuple[float, Float64]:
        """Negative log-likelihood and gradient; ``at`` holds logarithms of all theta and r."""
        log_p = np.minimum(at[:ranks, None] + at[number], -LEAST)
        np.fill_diagonal(log_p, -1.0)
        rest = -np.expm1(log_p)
        slope = clicked - missed * np.exp(log_p) / rest
        gradient = np.concatenate([slope.sum(axis=1), (slope + slope.T)[upper]])
        return -float((clicked * log_p + missed * np.log(rest)).sum()), -gradient

    start = np.full(ranks + len(upper[0]), -1.0)
    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=[(-20, 0)] * len(start), options={"maxiter": 2_000}
    )
    curve: Float64 = np.exp(found.x[:ranks] - found.x[0])
    return curve
