"""Shrinkage: the belief about a pair before it was seen, a Beta prior, and after, a Beta posterior.

Clicks of a pair are binomial with probability ``alpha * g + beta`` in each context, ``g`` its relevance. The
prior of ``g`` is fitted to the spread of all pairs (empirical Bayes), so a pair that was seen seldom is drawn
to their mean.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv

from quarry.clicks.counts import Cells
from quarry.clicks.log import Float64

TINY = 1e-9
_STRENGTHS = (0.5, 1_000.0)
_UNKNOWN_STRENGTH = 2.0
_STEPS = 60


@dataclass(frozen=True, slots=True)
class BetaPrior:
    """Belief about the relevance of a pair that was never seen: Beta(``a``, ``b``), both over 0."""

    a: float
    b: float

    @property
    def mean(self) -> float:
        return self.a / (self.a + self.b)


@dataclass(frozen=True, slots=True, eq=False)
class BetaPosterior:
    """Belief about each pair, Beta(``a``, ``b``); both float64 over 0, shape ``(p,)``."""

    a: Float64
    b: Float64

    @property
    def mean(self) -> Float64:
        return self.a / (self.a + self.b)

    @property
    def variance(self) -> Float64:
        total = self.a + self.b
        return self.a * self.b / (total * total * (total + 1))

    def find_interval(self, level: float = 0.95) -> tuple[Float64, Float64]:
        """Finds the central interval that holds the truth with probability ``level``.

        Widened to hold the mean, if need be.
        """
        tail = (1 - level) / 2
        lower, upper = betaincinv(self.a, self.b, tail), betaincinv(self.a, self.b, 1 - tail)
        return np.minimum(lower, self.mean), np.maximum(upper, self.mean)


def match_beta(mean: Float64, variance: Float64) -> BetaPosterior:
    """Finds the Beta of this mean in (0, 1) and this variance."""
    strength = np.maximum(mean * (1 - mean) / np.maximum(variance, TINY**2) - 1, TINY)
    return BetaPosterior(mean * strength, (1 - mean) * strength)


def fit_prior(cells: Cells, alpha: Float64, beta: Float64) -> BetaPrior:
    """Fits the prior by moments: the mean relevance, and how far pairs spread about it beyond what chance
    explains.

    Args:
        alpha: shape ``(contexts,)``, in [0, 1]. ``beta`` likewise, ``alpha + beta`` at most 1.
    """
    slope, offset = alpha[cells.context], beta[cells.context]
    exposure = cells.sum_by_pair(cells.shown * slope)
    surplus = cells.sum_by_pair(cells.clicked - cells.shown * offset)
    mean = float(np.clip(surplus.sum() / max(exposure.sum(), TINY), TINY, 1 - TINY))
    expected = slope * mean + offset
    chance = cells.sum_by_pair(cells.shown * expected * (1 - expected))
    again = exposure**2 - cells.sum_by_pair(cells.shown * slope**2)
    weight = 1 / np.maximum(exposure, TINY)
    evidence = float((weight * np.maximum(again, 0)).sum())
    if evidence < TINY:  # no pair was shown twice: nothing tells chance from difference
        return BetaPrior(mean * _UNKNOWN_STRENGTH, (1 - mean) * _UNKNOWN_STRENGTH)
    spread = float((weight * ((surplus - mean * exposure) ** 2 - chance)).sum()) / evidence
    strength = mean * (1 - mean) / max(spread, TINY) - 1
    strength = float(np.clip(strength, *_STRENGTHS))
    return BetaPrior(mean * strength, (1 - mean) * strength)


def find_mode(
    cells: Cells,
    alpha: Float64,
    beta: Float64,
    prior: BetaPrior,
    start: Float64 | None = None,
    tolerance: float = TINY,
) -> Float64:
    """Finds where the posterior density of each pair's log-odds is highest, in (0, 1), shape ``(p,)``.

    The log posterior is concave, so Newton's steps, held within a shrinking bracket, find it: to the square
    of ``tolerance``, about, for that bounds the last step.
    """
    low, high = np.zeros(len(cells.starts)), np.ones(len(cells.starts))
    at = np.full(len(low), prior.mean) if start is None else np.clip(start, TINY, 1 - TINY)
    slope, offset = alpha[cells.context], beta[cells.context]
    missed = cells.shown - cells.clicked
    for _ in range(_STEPS):
        first, second = _compute_derivatives(cells, slope, offset, missed, prior, at)
        low, high = np.where(first > 0, at, low), np.where(first > 0, high, at)
        # The slope times g (1 - g) is nearly a line in g, which Newton's steps like.
        bent = at * (1 - at) * second + (1 - 2 * at) * first
        new = at - at * (1 - at) * first / np.where(bent < 0, bent, -TINY)
        new = np.where((new >= low) & (new <= high), new, (low + high) / 2)
        moved = float(np.abs(new - at).max(initial=0.0))
        at = np.clip(new, TINY, 1 - TINY)
        if moved < tolerance:
            break
    return at


def approximate_posterior(cells: Cells, alpha: Float64, beta: Float64, prior: BetaPrior) -> BetaPosterior:
    """Approximates the posterior by the Beta whose log-odds have its mode and curvature.

    Exact where ``alpha`` is 1 and ``beta`` 0; elsewhere Laplace's approximation, taken in log-odds, where it
    is best, and kept within [0, 1].
    """
    at = find_mode(cells, alpha, beta, prior)
    missed = cells.shown - cells.clicked
    _, second = _compute_derivatives(cells, alpha[cells.context], beta[cells.context], missed, prior, at)
    strength = np.maximum(-second * at * (1 - at), prior.a + prior.b)
    return BetaPosterior(at * strength, (1 - at) * strength)


def _compute_derivatives(
    cells: Cells, slope: Float64, offset: Float64, missed: Float64, prior: BetaPrior, at: Float64
) -> tuple[Float64, Float64]:
    """Computes the derivatives of ``a log g + b log(1 - g)`` plus the log-likelihood, by ``g``."""
    clicking = slope * at[cells.pair] + offset
    up = slope / np.maximum(clicking, TINY)
    down = slope / np.maximum(1 - clicking, TINY)
    rises, falls = cells.clicked * up, missed * down
    first = prior.a / at - prior.b / (1 - at) + cells.sum_by_pair(rises - falls)
    second = -prior.a / at**2 - prior.b / (1 - at) ** 2 - cells.sum_by_pair(rises * up + falls * down)
    return first, second
