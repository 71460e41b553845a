"""Curves over ranks: clicks predicted from them, and their form relative to rank 1."""

import numpy as np

from quarry.clicks.counts import spread_over_places
from quarry.clicks.fitting.linear import bound_probability
from quarry.clicks.log import ClickLog, Float64, Int64
from quarry.clicks.model import Examination, FittedModel

Z95 = 1.959963984540054
_WIDEST = 4.0
_SHARE = 0.9


def predict_clicks_by_rank(fitted: FittedModel, log: ClickLog) -> Float64:
    """Predicts P(click) of each place, shape ``(n, r)``, where only its rank and its pair matter.

    ``fitted.parameters`` has ``alpha`` and ``beta`` of each rank, and ``mean``. Ranks deeper than any fitted
    are as the deepest.
    """
    alpha, beta = fitted.parameters["alpha"], fitted.parameters["beta"]
    mean = float(fitted.parameters["mean"][0])
    relevance = spread_over_places(log, fitted.estimates, fitted.estimates.relevance, mean)
    at = np.clip(log.rank - 1, 0, len(alpha) - 1)
    return bound_probability(alpha[at] * relevance + beta[at])


def count_impressions_by_rank(log: ClickLog) -> Int64:
    """Counts how many hits stood at each rank, shape ``(max_rank,)``."""
    return np.bincount(log.rank[log.shown] - 1, minlength=log.max_rank).astype(np.int64)


def make_relative_curve(
    log_value: Float64, covariance: Float64, impressions: Int64, quantile: float = Z95
) -> Examination:
    """Makes a curve from logarithms, NaN where unknown, with intervals by the delta method.

    Args:
        log_value: float64, shape ``(r,)``.
        covariance: of ``log_value``, shape ``(r, r)``.
        quantile: deviations from the value to either end of an interval.
    """
    if len(log_value) == 0:
        return Examination(log_value, log_value, log_value, impressions)
    relative = log_value - log_value[0]
    spread = np.diag(covariance) + covariance[0, 0] - 2 * covariance[0]
    deviation = np.sqrt(np.maximum(spread, 0))
    deviation[0] = 0.0 if np.isfinite(relative[0]) else np.nan
    with np.errstate(over="ignore"):
        upper = np.exp(relative + quantile * deviation)
    return Examination(np.exp(relative), np.exp(relative - quantile * deviation), upper, impressions)


def is_conclusive(examination: Examination, clicks: Float64) -> bool:
    """Tells whether a curve is known at the ranks that draw 90 % of the clicks, rank 1 among them.

    Known is a rank whose upper bound is at most four times its lower: within a factor of two, either way.

    Args:
        clicks: at each rank, shape ``(max_rank,)``.
    """
    value, lower, upper = examination.value, examination.lower, examination.upper
    known = np.isfinite(value) & (lower > 0) & (upper <= _WIDEST * lower)
    enough = known[: len(clicks)] @ clicks[: len(known)] >= _SHARE * clicks.sum()
    return bool(enough and known.sum() > 1 and known[0])
