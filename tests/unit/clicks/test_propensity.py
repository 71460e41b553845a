"""Examination from swaps, harvested moves and the position-based model, on clicks whose curve is known."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from tests.unit.clicks.logs import clicked_logs, page

from quarry.clicks.examination.harvest import harvest_examination
from quarry.clicks.examination.swaps import estimate_from_swaps, find_swapped
from quarry.clicks.log import ClickLog
from quarry.clicks.model import Examination
from quarry.clicks.models.pbm import estimate_position_based
from quarry.clicks.propensity import choose_examination
from quarry.clicks.registry import CLICK_MODELS
from quarry.clicks.simulation import SimulatedWorld, simulate_log
from quarry.clicks.users import UserBehaviour

USERS = UserBehaviour(trust=0.0)
TRUTH = 1 / np.arange(1, 11)
RANKERS = SimulatedWorld(queries=200)
SWAPS = SimulatedWorld(queries=200, rankers=1, swaps=True)
Estimator = Callable[[ClickLog], Examination]

HALVES = [page("q", "ab", "ab")] * 20 + [page("q", "ab", "a")] * 60 + [page("q", "ab")] * 20
HALVES_SWAPPED = [page("q", "ba", "ab", before=(2, 1))] * 40 + [page("q", "ba", "", before=(2, 1))] * 60


@pytest.mark.parametrize("estimated", [estimate_from_swaps, harvest_examination])
def test_the_curve_is_the_ratio_of_click_rates_of_the_same_hits(estimated: Estimator) -> None:
    """a: 80 of 100 at rank 1, 40 of 100 at rank 2; b: 40 and 20."""
    curve = estimated(replace(ClickLog.from_pages(HALVES + HALVES_SWAPPED), rank_probability=None))
    assert curve.value == pytest.approx([1, 0.5])
    assert curve.lower[1] < 0.5 < curve.upper[1]


def test_swaps_are_told_from_hits_that_all_moved() -> None:
    """An advertisement above moves both; exploration exchanges them."""
    log = ClickLog.from_pages([page("q", "ab", ranks=(2, 3), before=(1, 2)), page("q", "ba", before=(2, 1))])
    assert find_swapped(log).tolist() == [[False, False], [True, True]]


def test_with_known_probabilities_queries_asked_once_tell() -> None:
    seen = []
    for number in range(400):
        moved = number % 2 == 1
        clicked = "ab" if number % 8 in (0, 2) else "b" if number % 8 == 1 else ""
        documents, before = ("ba", (2, 1)) if moved else ("ab", (1, 2))
        seen.append(page(str(number), documents, clicked, before=before, probabilities=(0.5, 0.5)))
    known = estimate_from_swaps(ClickLog.from_pages(seen))
    assert np.isfinite(known.value).all()
    unknown = estimate_from_swaps(replace(ClickLog.from_pages(seen), rank_probability=None))
    assert np.isnan(unknown.value[1])


def test_what_nothing_tells_is_unknown() -> None:
    log = ClickLog.from_pages(
        [page("q", "abc", "a")] * 5 + [page("q", "bac", "b")] * 5 + [page("q", "abc", "bc")]
    )
    curve = harvest_examination(log)
    assert np.isnan(curve.value[2]) and np.isnan(curve.upper[2])
    assert np.isfinite(curve.value[:2]).all()
    assert np.isnan(estimate_from_swaps(log).value[1:]).all()


@settings(max_examples=40, deadline=None)
@given(log=clicked_logs())
def test_any_log_gives_a_curve_or_says_that_it_is_unknown(log: ClickLog) -> None:
    for estimated in (estimate_from_swaps, harvest_examination):
        curve = estimated(log)
        known = np.isfinite(curve.value)
        assert len(curve.value) == log.max_rank
        assert (curve.lower[known] <= curve.value[known]).all()
        assert (curve.value[known] <= curve.upper[known]).all()
    assert choose_examination(log).notes


@pytest.mark.parametrize(
    ("estimated", "world"),
    [
        (lambda log: estimate_position_based(log)[0], RANKERS),
        (harvest_examination, RANKERS),
        (estimate_from_swaps, SWAPS),
        (lambda log: estimate_from_swaps(replace(log, rank_probability=None)), SWAPS),
    ],
    ids=["pbm", "harvest", "swaps", "swaps, probabilities unknown"],
)
def test_a_known_curve_is_found_and_held_by_its_intervals(
    estimated: Estimator, world: SimulatedWorld
) -> None:
    """Three seeds of 40,000 pages; ``benchmarks/quality/click_models.py`` takes twenty of 200,000."""
    errors, held = [], []
    for seed in range(3):
        curve = estimated(simulate_log(world, USERS, 40_000, seed)[0])
        errors.append(curve.value / TRUTH - 1)
        held.append((curve.lower <= TRUTH) & (curve.upper >= TRUTH))
    assert np.sqrt(np.mean(np.square(errors))) < 0.07
    assert np.mean(held) >= 0.85


@pytest.mark.parametrize("told", [0.5, 1.0])
@pytest.mark.parametrize(
    ("estimated", "world"),
    [
        (harvest_examination, RANKERS),
        (estimate_from_swaps, SWAPS),
        (lambda log: estimate_from_swaps(replace(log, rank_probability=None)), SWAPS),
    ],
    ids=["harvest", "swaps", "swaps, probabilities unknown"],
)
def test_what_users_say_they_refused_counts_as_displayed(
    estimated: Estimator, world: SimulatedWorld, told: float
) -> None:
    """Users say of a share of what they passed over that they did. Without it rank 2 seemed examined 0.38."""
    log, relevance = simulate_log(world, USERS, 60_000, 0)
    random = np.random.default_rng(0)
    attraction = USERS.noise + (1 - USERS.noise) * relevance[log.document]
    theta = USERS.examine(log.rank)
    examined = log.clicked | (
        random.random(log.rank.shape) < theta * (1 - attraction) / (1 - theta * attraction)
    )
    refused = examined & ~log.clicked & (random.random(log.rank.shape) < told)
    assert estimated(replace(log, refused=refused)).value[:5] == pytest.approx(TRUTH[:5], rel=0.1)


def test_a_swap_across_pages_tells_nothing() -> None:
    """Whoever clicks on the first page, of five hits, does not see the second, so a hit that was moved up
    from there would count only where nothing else was clicked.
    """
    log, _ = simulate_log(SWAPS, USERS, 60_000, 0)
    first, second = split_pages(log, 5)
    unsated = ~first.clicked.any(axis=1)
    seen = join_pages(first, second.select_rows(unsated))
    curve = estimate_from_swaps(seen).value
    assert curve[:5] == pytest.approx(TRUTH[:5], rel=0.1)
    assert np.isnan(curve[5:]).all()


def split_pages(log: ClickLog, size: int) -> tuple[ClickLog, ClickLog]:
    """The first ``size`` places of each page, and the others."""
    names = ("document", "rank", "clicked", "refused", "rank_before", "rank_probability")
    halves = [
        {name: getattr(log, name)[:, part] for name in names} for part in (slice(size), slice(size, None))
    ]
    return replace(log, **halves[0]), replace(log, **halves[1])


def join_pages(first: ClickLog, second: ClickLog) -> ClickLog:
    """All pages of two logs that number everything alike."""
    names = ("query", "search", "session", "owner", "time_us", "document", "rank", "clicked", "refused")
    names = (*names, "rank_before", "ranker", "rendered", "rank_probability")
    return replace(
        first, **{name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in names}
    )


def test_trust_is_told_from_examination() -> None:
    users = UserBehaviour(trust=0.3)
    log, _ = simulate_log(RANKERS, users, 60_000, 0)
    ranks = np.arange(1, 11)
    alpha = users.examine(ranks) * (1 - users.compute_irrelevant_clicks(ranks))
    affine, plain = (CLICK_MODELS[name].fit(log).examination for name in ("affine", "pbm"))
    assert affine is not None and plain is not None
    off_affine, off_plain = (
        np.abs(curve.value[1:] / (alpha / alpha[0])[1:] - 1).mean() for curve in (affine, plain)
    )
    assert off_affine < off_plain / 2


def test_the_best_source_is_swaps_then_moves_then_the_model() -> None:
    explored, _ = simulate_log(SWAPS, USERS, 10_000, 0)
    ranked, _ = simulate_log(RANKERS, USERS, 10_000, 0)
    fixed, _ = simulate_log(replace(RANKERS, rankers=1), USERS, 10_000, 0)
    chosen = [choose_examination(log) for log in (explored, ranked, fixed)]
    assert [one.source for one in chosen] == ["swaps", "harvest", "pbm"]
    assert any("equally relevant" in note for note in chosen[2].notes)


@pytest.mark.parametrize("model", ["pbm", "ubm", "coec"])
def test_a_rank_displayed_once_and_clicked_does_not_set_the_scale(model: str) -> None:
    """Else nothing at rank 1 would count as examined: so it was with a real log of a few deep pages."""
    seen = [page("q", "ab", "a")] * 20 + [page("q", "ab", "")] * 20 + [page("r", "cd", "c")] * 20
    deep = page("r", "xy", "y", ranks=(49, 50))
    fitted = CLICK_MODELS[model].fit(ClickLog.from_pages([*seen, deep]))
    refusals = fitted.estimates.refusals[0]
    assert fitted.estimates.clicks[0] == 20
    assert refusals == pytest.approx(20, abs=0.5)
