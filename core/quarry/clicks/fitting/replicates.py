"""A parametric bootstrap: how far learned contexts would move if the same pages were clicked anew.

Relevance is learned from the same clicks as the contexts, one number for each pair, so the contexts' maximum
is off by about the inverse of the displays of a pair, and their Fisher information is too hopeful. Clicks
drawn from what was learned, and learned from again, show both.

Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, sections 6.5 and 10.6.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import t as student

from quarry.clicks.counts import Cells
from quarry.clicks.fitting.alternating import Learned
from quarry.clicks.fitting.linear import bound_probability
from quarry.clicks.fitting.shrinkage import approximate_posterior, fit_prior
from quarry.clicks.log import Float64

REPLICATES = 20
MOST_CELLS = 100_000
_SEED = 0


@dataclass(frozen=True, slots=True, eq=False)
class Moves:
    """The moves of an estimate over replicates.

    Attributes:
        bias: float64, shape ``(r,)``: of the estimate, at most one standard deviation either way, for more
            is chance or a rank that has hardly a click.
        covariance: float64, shape ``(r, r)``, of the estimate less ``bias``.
        quantile: of Student's t, that a deviation is multiplied by for a 95 % interval.
    """

    bias: Float64
    covariance: Float64
    quantile: float


def measure_moves(cells: Cells, learned: Learned, refit: Callable[[Cells], Float64]) -> Moves:
    """Measures the bias and covariance of ``refit``, from clicks drawn with what was ``learned`` from
    ``cells``.

    Of many cells, a share of the pairs is drawn: bias depends on the displays of a pair, not on how many
    pairs there are, and covariance falls with their number.
    """
    random = np.random.default_rng(_SEED)
    contexts = learned.contexts
    prior = fit_prior(cells, contexts.alpha, contexts.beta)
    relevance = approximate_posterior(cells, contexts.alpha, contexts.beta, prior).mean
    drawn = np.ones(len(cells.starts), bool)
    if len(cells.pair) > MOST_CELLS:
        drawn = random.random(len(cells.starts)) < MOST_CELLS / len(cells.pair)
    some = cells.select_pairs(drawn)
    chances = bound_probability(
        contexts.alpha[some.context] * relevance[drawn][some.pair] + contexts.beta[some.context]
    )
    shown = some.shown.astype(np.int64)
    truth = refit(replace(some, clicked=shown * chances))
    found = np.array(
        [
            refit(replace(some, clicked=random.binomial(shown, chances).astype(float)))
            for _ in range(REPLICATES)
        ]
    )
    share = len(some.pair) / len(cells.pair)
    covariance = np.cov(found, rowvar=False)
    deviation = np.sqrt(np.diag(covariance))
    bias = np.clip(found.mean(axis=0) - truth, -deviation, deviation)
    known = share * (1 + 1 / (REPLICATES * share))  # the bias itself is known no better than that
    return Moves(bias, covariance * known, float(student.ppf(0.975, REPLICATES - 1)))
