"""Intervals by bootstrap, against scipy's and against how often they hold the truth."""

import numpy as np
import pytest
from scipy import stats

from quarry_trainer.evaluation.resampling import Interval, estimate_mean_intervals, estimate_standard_error


def test_many_values_have_scipys_interval() -> None:
    values = np.random.default_rng(0).beta(0.5, 2, 2_000)
    (interval,) = estimate_mean_intervals(values[:, None])
    found = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=4_000, rng=1, batch=100)
    width = found.confidence_interval.high - found.confidence_interval.low
    assert interval.value == pytest.approx(values.mean())
    assert interval.lower == pytest.approx(found.confidence_interval.low, abs=0.05 * width)
    assert interval.upper == pytest.approx(found.confidence_interval.high, abs=0.05 * width)


@pytest.mark.parametrize("n", [10, 40])
def test_of_a_hundred_intervals_some_five_miss_the_truth(n: int) -> None:
    random = np.random.default_rng(n)
    missed = 0
    for seed in range(250):
        (interval,) = estimate_mean_intervals(random.standard_normal((n, 1)), seed=seed, limits=(-10, 10))
        missed += not interval.lower <= 0 <= interval.upper
    assert 0.015 <= missed / 250 <= 0.09


def test_differences_of_paired_values_are_narrower_than_values() -> None:
    random = np.random.default_rng(3)
    base = random.random(200)
    better = base + 0.02 + 0.01 * random.standard_normal(200)
    one, other, difference = estimate_mean_intervals(np.column_stack([base, better, better - base]))
    assert difference.value == pytest.approx(other.value - one.value)
    assert difference.lower > 0
    assert difference.upper - difference.lower < 0.1 * (one.upper - one.lower)


def test_rows_that_say_the_same_count_once() -> None:
    values = np.random.default_rng(4).random((30, 1))
    (alone,) = estimate_mean_intervals(values)
    repeated = np.repeat(values, 10, axis=0)
    (clustered,) = estimate_mean_intervals(repeated, [n // 10 for n in range(300)])
    (naive,) = estimate_mean_intervals(repeated)
    assert clustered.lower == pytest.approx(alone.lower)
    assert clustered.upper == pytest.approx(alone.upper)
    assert naive.upper - naive.lower < 0.5 * (clustered.upper - clustered.lower)


def test_nothing_is_known_of_the_spread_of_one_cluster() -> None:
    values = np.array([[0.4], [0.6]])
    assert estimate_mean_intervals(values, ["a", "a"]) == [Interval(0.5, -1, 1)]
    assert estimate_mean_intervals(values[:1], limits=(0, 1)) == [Interval(0.4, 0, 1)]
    (none,) = estimate_mean_intervals(values[:0])
    assert np.isnan(none.value)


def test_values_that_are_all_alike_have_no_spread() -> None:
    assert estimate_mean_intervals(np.zeros((50, 1))) == [Interval(0, 0, 0)]


def test_a_wider_interval_is_a_normal_distributions() -> None:
    interval = Interval(0.0, -1.96, 3.92)
    wide = interval.widen(0.99)
    assert wide.lower == pytest.approx(-2.576, abs=0.01)
    assert wide.upper == pytest.approx(5.152, abs=0.01)
    same = interval.widen(0.95)
    assert (same.lower, same.upper) == pytest.approx((interval.lower, interval.upper))


def test_the_standard_error_is_of_clusters() -> None:
    values = np.random.default_rng(5).random(30)
    alone = estimate_standard_error(values, range(30))
    assert alone == pytest.approx(stats.sem(values))
    repeated, clusters = np.repeat(values, 10), [n // 10 for n in range(300)]
    assert estimate_standard_error(repeated, clusters) == pytest.approx(alone)
    assert estimate_standard_error(values, ["a"] * 30) == np.inf
