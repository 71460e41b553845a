"""Chooses how arms are merged from how good each choice is, query by query, and keeps near the default.

The share of the dense arm is ``sigmoid(a + b . traits)``, where ``a`` and ``b`` maximize what the queries
gain less a penalty: the further the choice lies from the default, the more queries it takes to move it there
(a ridge; with a normal prior it would be the most probable choice). The penalty does not grow with the
number of queries, so twenty queries hardly move anything and a thousand may.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize
from scipy.interpolate import CubicSpline

from quarry.ranking.queries import DEFAULT_DEPTH
from quarry.ranking.weighting import (
    MAX_LOGIT,
    SHARED,
    QueryWeights,
    Trait,
    compute_logit,
    compute_sigmoid,
    list_traits,
)
from quarry.retrieval.registry import compute_default_share
from quarry_trainer.evaluation.resampling import estimate_standard_error

Float64 = NDArray[np.float64]

SHARES: Float64 = np.round(np.linspace(0.0, 1.0, 41), 3)
"""Shares of the dense arm that are tried; between them gains are interpolated."""
DEFAULT_SHARE = compute_default_share(SHARED)
SMOOTHING = 0.05
"""Width, in shares, of what a query's gain is averaged over: nDCG is a staircase of the share."""
SHARE_PENALTY, TRAIT_PENALTY, SCALE_PENALTY = 1.0, 10.0, 4.0
"""In nDCG@10 of one query: half of it is what it costs to move the logit of the share by 1; to move it by 1
for a trait that lies one standard deviation off, and nearly what it costs to double or halve the title's."""
LEAST_GAIN = 1e-6
"""Of nDCG@10, summed over queries: less is rounding."""
LEAST_SHARE = 0.02
"""A share at the border could not be told from no arm at all, and its logit is infinite."""


class Setting(NamedTuple):
    """The way the arms are asked.

    Attributes:
        scale: what the boosts of the schema's fields are multiplied by, the title's above all.
        depth: candidates of each arm.
    """

    scale: float = 1.0
    depth: int = DEFAULT_DEPTH


USUAL = Setting()


@dataclass(frozen=True, slots=True, eq=False)
class Gains:
    """The quality of the queries' orders by each way to merge, the arms asked in one way.

    Attributes:
        by_share: nDCG@10, float64, shape ``(queries, len(SHARES))``.
        by_rrf: nDCG@10 of reciprocal rank fusion, shape ``(queries,)``.
        traits: what is known of each query before merging, shape ``(queries, traits)``, in the order of
            ``list_traits``.
    """

    by_share: Float64
    by_rrf: Float64
    traits: Float64

    def take(self, rows: NDArray[np.int64]) -> "Gains":
        return Gains(self.by_share[rows], self.by_rrf[rows], self.traits[rows])


@dataclass(frozen=True, slots=True)
class MergeChoice:
    """The chosen way to merge.

    Attributes:
        setting: how the arms are asked.
        share: of the dense arm, 0 to 1; with ``by_query`` that of a query with average traits.
        by_query: how the share depends on the query; None: it does not.
        rrf: reciprocal rank fusion instead of the weighted sum.
    """

    setting: Setting = USUAL
    share: float = DEFAULT_SHARE
    by_query: QueryWeights | None = None
    rrf: bool = False


def fit(gains: Mapping[Setting, Gains], clusters: Sequence[object]) -> MergeChoice:
    """Fits the choice for queries like these.

    Args:
        gains: by how the arms are asked; the default among them.
        clusters: the question that each query asks; queries of one question are not told apart.
    """
    usual = [setting for setting in gains if setting.depth == DEFAULT_DEPTH]
    won = {
        setting: _find_best_share(gains[setting])[1] - _compute_scale_cost(setting.scale) for setting in usual
    }
    setting = max(usual, key=lambda one: (won[one], -_compute_scale_cost(one.scale)))
    share, _ = _find_best_share(gains[setting])
    setting = _with_depth(gains, setting, share, clusters)
    own = gains[setting]
    if _is_surely_better(own.by_rrf, _interpolate(own, share), clusters):
        return MergeChoice(setting, rrf=True)
    by_query = _fit_query_weights(own, share)
    return MergeChoice(setting, *(by_query or (share, None)))


def _compute_scale_cost(scale: float) -> float:
    return SCALE_PENALTY / 2 * math.log2((scale + 0.25) / 1.25) ** 2


def _find_best_share(gains: Gains) -> tuple[float, float]:
    """Finds the share that wins most, and what it wins over all queries less the penalty."""
    inside = np.clip(SHARES, LEAST_SHARE, 1 - LEAST_SHARE)
    away = np.log(inside / (1 - inside)) - compute_logit(DEFAULT_SHARE)
    won = _smooth(gains.by_share).sum(axis=0) - SHARE_PENALTY / 2 * away**2
    best = int(np.argmax(won))
    return float(inside[best]), float(won[best])


def _with_depth(
    gains: Mapping[Setting, Gains], setting: Setting, share: float, clusters: Sequence[object]
) -> Setting:
    """Tries another depth, and takes it where it is surely better than the default one."""
    deeper = [one for one in gains if one.scale == setting.scale and one != setting]
    best = max(deeper, key=lambda one: float(_interpolate(gains[one], share).mean()), default=setting)
    better = _is_surely_better(
        _interpolate(gains[best], share), _interpolate(gains[setting], share), clusters
    )
    return best if better else setting


def _is_surely_better(values: Float64, others: Float64, clusters: Sequence[object]) -> bool:
    """Tells whether the mean is higher by more than a standard error of the difference."""
    ahead = values - others
    return bool(ahead.mean() > estimate_standard_error(ahead, clusters))


def _interpolate(gains: Gains, share: float) -> Float64:
    """Interpolates nDCG@10 of each query with this share."""
    place = share * (len(SHARES) - 1)
    left = min(int(place), len(SHARES) - 2)
    below, above = gains.by_share[:, left], gains.by_share[:, left + 1]
    between: Float64 = below + (above - below) * (place - left)
    return between


def _fit_query_weights(gains: Gains, share: float) -> tuple[float, QueryWeights] | None:
    """Fits the share of an average query, and how it moves with the traits.

    None if nothing is gained by that.
    """
    means, deviations = gains.traits.mean(axis=0), gains.traits.std(axis=0)
    varies = deviations > 0
    scaled = (gains.traits - means) / np.where(varies, deviations, 1.0)
    won, usual = _Curves(_smooth(gains.by_share)), compute_logit(DEFAULT_SHARE)

    def compute_loss(point: Float64) -> tuple[float, Float64]:
        z = np.clip(point[0] + scaled @ point[1:], -MAX_LOGIT, MAX_LOGIT)
        shares = 1 / (1 + np.exp(-z))
        value, slope = won.interpolate(shares)
        pull = slope * shares * (1 - shares)
        cost = SHARE_PENALTY / 2 * (point[0] - usual) ** 2 + TRAIT_PENALTY / 2 * float(point[1:] @ point[1:])
        ridge = np.r_[SHARE_PENALTY * (point[0] - usual), TRAIT_PENALTY * point[1:]]
        return cost - float(value.sum()), ridge - np.r_[pull.sum(), scaled.T @ pull]

    one_for_all = np.r_[compute_logit(share), np.zeros(scaled.shape[1])]
    starts = (one_for_all, np.r_[usual, np.zeros(scaled.shape[1])])
    found = min(
        (optimize.minimize(compute_loss, start, jac=True, method="L-BFGS-B") for start in starts),
        key=lambda one: float(one.fun),
    )
    if compute_loss(one_for_all)[0] - found.fun <= LEAST_GAIN:
        return None
    traits = {
        name: Trait(float(found.x[1 + n]), float(means[n]), float(deviations[n]))
        for n, name in enumerate(list_traits())
        if varies[n]
    }
    middle = min(1 - LEAST_SHARE, max(LEAST_SHARE, compute_sigmoid(float(found.x[0]))))
    return middle, QueryWeights(traits)


class _Curves:
    """The gain of each query by its share, as a curve without corners, for a method that follows slopes."""

    def __init__(self, by_share: Float64) -> None:
        self._pieces = CubicSpline(SHARES, by_share.T).c
        self._rows = np.arange(len(by_share))

    def interpolate(self, shares: Float64) -> tuple[Float64, Float64]:
        """Interpolates the value of each query at its share, and the slope there."""
        left = np.clip(np.searchsorted(SHARES, shares, side="right") - 1, 0, len(SHARES) - 2)
        a, b, c, d = self._pieces[:, left, self._rows]
        x = shares - SHARES[left]
        return ((a * x + b) * x + c) * x + d, (3 * a * x + 2 * b) * x + c


def _smooth(by_share: Float64) -> Float64:
    near = np.exp(-0.5 * ((SHARES[:, None] - SHARES[None, :]) / SMOOTHING) ** 2)
    smoothed: Float64 = by_share @ (near / near.sum(axis=1, keepdims=True)).T
    return smoothed
