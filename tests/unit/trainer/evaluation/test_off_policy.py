"""Estimates from clicks, against users whose truth is known."""

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from tests.unit.trainer.evaluation.simulated import World

from quarry.clicks.examination.swaps import estimate_from_swaps
from quarry.clicks.log import ClickLog
from quarry.training.spec import Subject
from quarry_trainer.evaluation.examination import Explored
from quarry_trainer.evaluation.off_policy import OffPolicy, estimate
from quarry_trainer.evaluation.searches import find_latest_pages

WORLD = World.observe(documents=10)


def noisy(world: World, noise: float, seed: int) -> dict[str, list[str]]:
    """A ranking by attraction and noise."""
    random = np.random.default_rng(seed)
    return world.orders(world.attraction + noise * random.standard_normal(world.attraction.shape))


def value_of(
    found: OffPolicy, subject: Subject, estimator: Literal["snips", "doubly_robust"] = "doubly_robust"
) -> tuple[float, float, float]:
    (one,) = (e for e in found.estimates if (e.subject, e.estimator) == (subject, estimator))
    return one.value, one.lower, one.upper


def test_examination_is_found_from_swaps_whatever_is_displayed_where() -> None:
    log = WORLD.log(20_000, seed=1)
    explored = Explored.from_displays(log)
    (curve,) = explored.estimate_curve(np.ones((1, len(log.queries))))
    assert explored.depth == 10
    assert curve == pytest.approx(1 / np.arange(1, 11), rel=0.2)
    rates = log.clicked.sum(axis=0)
    assert rates[4] / rates[0] < 0.8 * curve[4], "click rates alone take a rank's documents for the rank"


def test_examination_is_the_same_that_mining_learns() -> None:
    log = WORLD.log(3_000, seed=1)
    refused = ~log.clicked & (np.random.default_rng(0).random(log.rank.shape) < 0.3)
    log = replace(log, refused=refused)
    explored = Explored.from_displays(log)
    (curve,) = explored.estimate_curve(np.ones((1, len(log.queries))))
    assert curve == pytest.approx(estimate_from_swaps(log).value, rel=1e-7)


def test_the_curve_ends_where_nothing_links_a_rank_to_the_first() -> None:
    """Pages of five hits: neighbours of ranks 5 and 6 stand on two pages, and are no swap."""
    log = WORLD.log(20_000, seed=1)
    names = ("document", "rank", "clicked", "refused", "rank_before", "rank_probability")
    pages = [{name: getattr(log, name)[:, part] for name in names} for part in (slice(0, 5), slice(5, 10))]
    whole = ("query", "search", "session", "owner", "time_us", "ranker", "rendered")
    both = {name: np.concatenate([getattr(log, name)] * 2) for name in whole}
    split = replace(log, **both, **{name: np.concatenate([p[name] for p in pages]) for name in names})
    explored = Explored.from_displays(split)
    assert explored.depth == 5
    assert explored.clicks < Explored.from_displays(log).clicks
    (curve,) = explored.estimate_curve(np.ones((1, len(log.queries))))
    assert curve == pytest.approx(1 / np.arange(1, 6), rel=0.2)


def test_a_log_of_a_few_searches_makes_no_trouble() -> None:
    """Some resamples have no click at some rank."""
    for seed in range(5):
        log = WORLD.log(120, seed=seed)
        found = estimate(log, find_latest_pages(log, 0.3), noisy(WORLD, 0.1, 0), WORLD.logged(), seed=seed)
        assert found.estimates
        assert all(np.isfinite([e.value, e.lower, e.upper]).all() for e in found.estimates)


def test_hits_that_all_moved_down_were_not_swapped() -> None:
    """An advertisement above them is no exploration."""
    log = WORLD.log(20_000, seed=1)
    pushed = log.search % 2 == 0
    rank = np.where(pushed[:, None], log.rank_before + 1, log.rank).astype(np.int32)
    below, half = replace(log, rank=rank), log.select_rows(~pushed)
    one = np.ones((1, len(log.queries)))
    assert Explored.from_displays(below).clicks == Explored.from_displays(half).clicks
    assert Explored.from_displays(below).estimate_curve(one) == pytest.approx(
        Explored.from_displays(half).estimate_curve(one)
    )


def test_without_exploration_nothing_is_estimated() -> None:
    log = WORLD.log(5_000, seed=1, swap=0.0)
    found = estimate(log, find_latest_pages(log, 0.3), noisy(WORLD, 0.1, 0), WORLD.logged())
    assert found.estimates == ()
    assert found.basis.explored_clicks == 0
    assert found.basis.queries == 60


def test_estimates_hold_the_truth_within_their_intervals() -> None:
    missed = {"candidate": 0, "serving": 0, "difference": 0}
    errors: list[float] = []
    runs = 30
    for seed in range(runs):
        log = WORLD.log(3_000, seed=seed)
        held_out = find_latest_pages(log, 0.3)
        candidate, serving = noisy(WORLD, 0.1, seed), WORLD.logged()
        found = estimate(log, held_out, candidate, serving, seed=seed)
        asked = log.query[held_out]
        truth = {"candidate": WORLD.worth(candidate, asked), "serving": WORLD.worth(serving, asked)}
        truth["difference"] = truth["candidate"] - truth["serving"]
        for subject in ("candidate", "serving", "difference"):
            value, lower, upper = value_of(found, subject)  # type: ignore[arg-type]  # it is a Subject
            missed[subject] += not lower <= truth[subject] <= upper
            if subject == "difference":
                errors.append(value - truth[subject])
        assert found.support == pytest.approx(1, abs=0.02)
    assert max(missed.values()) <= 5  # 1.5 are expected
    assert abs(np.mean(errors)) < 2.5 * np.std(errors) / np.sqrt(runs)


@pytest.mark.parametrize("seed", range(3))
def test_a_worse_ranking_is_recognised_although_users_click_what_stands_on_top(seed: int) -> None:
    log = WORLD.log(6_000, seed=seed)
    held_out = find_latest_pages(log, 0.3)
    worse = WORLD.orders(-WORLD.attraction)
    found = estimate(log, held_out, worse, WORLD.logged(), seed=seed)
    assert found.doubly_robust.upper < 0
    assert found.snips.upper < 0
    better = estimate(log, held_out, noisy(WORLD, 0.0, seed), WORLD.logged(), seed=seed)
    assert better.doubly_robust.lower > 0
    assert better.snips.value > 0


def test_the_same_ranking_differs_by_nothing() -> None:
    log = WORLD.log(2_000, seed=0)
    found = estimate(log, find_latest_pages(log, 0.3), WORLD.logged(), WORLD.logged(), base_name="fused")
    assert value_of(found, "difference") == (0, 0, 0)
    assert value_of(found, "candidate") == value_of(found, "fused")
    assert {e.subject for e in found.estimates} == {"candidate", "fused", "difference"}


def test_documents_that_were_never_displayed_are_no_support() -> None:
    world = World.observe(documents=30)
    log = world.log(3_000, seed=0)
    strange = {query: ids[10:] for query, ids in world.logged().items()}
    found = estimate(log, find_latest_pages(log, 0.3), strange, world.logged())
    assert found.support == 0
    half = {query: ids[:5] + ids[15:] for query, ids in world.logged().items()}
    found = estimate(log, find_latest_pages(log, 0.3), half, world.logged())
    assert found.support == pytest.approx(0.5, abs=0.02)


def test_an_estimate_that_rests_on_few_clicks_says_so() -> None:
    many, few = WORLD.log(6_000, seed=0), WORLD.log(600, seed=0)
    candidate = noisy(WORLD, 0.1, 0)
    rich = estimate(many, find_latest_pages(many, 0.3), candidate, WORLD.logged())
    poor = estimate(few, find_latest_pages(few, 0.3), candidate, WORLD.logged())
    assert poor.effective_sample < 0.3 * rich.effective_sample
    clicks = int(many.clicked[find_latest_pages(many, 0.3)].sum())
    assert rich.effective_sample < clicks


def test_who_has_most_clicks_is_known() -> None:
    log = WORLD.log(2_000, seed=0)
    one = replace(log, owner=np.where(np.arange(2_000) % 4 > 0, 7, log.owner).astype(np.int32))
    found = estimate(one, find_latest_pages(one, 0.3), WORLD.logged(), WORLD.logged())
    assert found.basis.owner_share == pytest.approx(0.75, abs=0.05)


def test_an_empty_log_gives_nothing() -> None:
    found = estimate(ClickLog.from_pages([]), np.zeros(0, bool), {}, {})
    assert found.estimates == ()
    assert found.basis.queries == 0


def test_a_held_out_query_that_is_not_ranked_does_not_count() -> None:
    log = WORLD.log(4_000, seed=0)
    some = {query: ids for query, ids in WORLD.logged().items() if query < "q3"}
    found = estimate(log, find_latest_pages(log, 0.3), some, some)
    assert found.basis.queries == len(some)
