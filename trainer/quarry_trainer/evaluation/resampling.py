"""Intervals of means by bootstrap over queries, paired where several things are measured on the same ones."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Float64 = NDArray[np.float64]

RESAMPLES = 4_000
LEVEL = 0.95
_CELLS = 2_000_000
"""Of the table of weights that is in memory at a time."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and its interval.

    Attributes:
        lower: at most ``value`` unless the resamples are all on one side of it. So is ``upper``, at least.
    """

    value: float
    lower: float
    upper: float

    def widen(self, level: float) -> "Interval":
        """Widens the interval to a higher level, both sides stretched as a normal distribution's would be.

        Percentiles so far out would rest on a handful of resamples.
        """
        stretch = float(stats.norm.isf((1 - level) / 2) / stats.norm.isf((1 - LEVEL) / 2))
        return Interval(
            self.value,
            self.value - stretch * (self.value - self.lower),
            self.value + stretch * (self.upper - self.value),
        )


UNKNOWN = Interval(0.0, -math.inf, math.inf)


def estimate_mean_intervals(
    values: Float64,
    clusters: Sequence[object] | None = None,
    limits: tuple[float, float] = (-1.0, 1.0),
    seed: int = 0,
) -> list[Interval]:
    """Estimates 95 % intervals of the means of several columns, all from the same resamples.

    Percentiles rather than BCa: differences of nDCG are mostly exact zeros, on which BCa's acceleration is
    no more than noise, or not defined. Percentile intervals are too narrow by ``sqrt((n - 1) / n)`` and by
    the tails of Student's t; taking percentiles further out makes up for both (Hesterberg, *What Teachers
    Should Know About the Bootstrap*, The American Statistician 2015, section 4.3).

    Args:
        values: float64, shape ``(n, columns)``; rows are queries.
        clusters: of each row; rows of one are drawn together, since one does not tell what the other does
            not. None: each row is drawn by itself.
        limits: lowest and highest difference that there can be; they are the interval where there are fewer
            than two clusters, for nothing is known of the spread then.
    """
    rows, columns = values.shape
    if rows == 0:
        return [Interval(float("nan"), *limits) for _ in range(columns)]
    sums, sizes = _sum_by_cluster(values, clusters)
    means = values.mean(axis=0)
    if len(sizes) < 2:
        return [Interval(float(mean), *limits) for mean in means]
    samples = _resample_means(sums, sizes, seed)
    return [make_percentile_interval(float(means[n]), samples[:, n], len(sizes)) for n in range(columns)]


def estimate_standard_error(values: Float64, clusters: Sequence[object]) -> float:
    """Estimates the standard error of the mean of queries in clusters, as in ``estimate_mean_intervals``.

    Infinite of fewer than two.
    """
    sums, _ = _sum_by_cluster((values - values.mean())[:, None], clusters)
    number = len(sums)
    return math.sqrt(number / (number - 1) * (sums**2).sum()) / len(values) if number > 1 else math.inf


def make_percentile_interval(value: float, samples: Float64, clusters: int) -> Interval:
    """Makes the 95 % interval of ``value`` that its resamples give; see ``estimate_mean_intervals``.

    Args:
        samples: float64, shape ``(resamples,)``.
        clusters: that were drawn from, 2 or more.
    """
    lower, upper = np.quantile(samples, _choose_tails(clusters)).tolist()
    return Interval(value, lower, upper)


def _sum_by_cluster(values: Float64, clusters: Sequence[object] | None) -> tuple[Float64, Float64]:
    """Sums each cluster's rows, shape ``(clusters, columns)``, and counts them."""
    if clusters is None:
        return values, np.ones(len(values))
    names: dict[object, int] = {}
    number = np.array([names.setdefault(name, len(names)) for name in clusters], np.int64)
    sums = np.zeros((len(names), values.shape[1]))
    np.add.at(sums, number, values)
    return sums, np.bincount(number).astype(np.float64)


def _choose_tails(clusters: int) -> tuple[float, float]:
    """Chooses which quantiles of the resamples are the interval's ends."""
    wide = stats.t.isf((1 - LEVEL) / 2, clusters - 1) * np.sqrt(clusters / (clusters - 1))
    tail = float(stats.norm.sf(wide))
    return tail, 1 - tail


def _resample_means(sums: Float64, sizes: Float64, seed: int) -> Float64:
    """Averages each resample of clusters, shape ``(RESAMPLES, columns)``."""
    clusters = len(sizes)
    random = np.random.default_rng(seed)
    step = max(1, _CELLS // clusters)
    found: list[Float64] = []
    for start in range(0, RESAMPLES, step):
        some = min(step, RESAMPLES - start)
        weights = random.multinomial(clusters, np.full(clusters, 1 / clusters), size=some).astype(np.float64)
        found.append((weights @ sums) / (weights @ sizes)[:, None])
    return np.concatenate(found)
