"""Each model against figures worked by hand."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import beta
from tests.unit.clicks.logs import page

from quarry.clicks.counts import Cells, Places
from quarry.clicks.fitting.alternating import Freedom, fit_contexts
from quarry.clicks.fitting.linear import LEAST, Contexts, count_refusals, make_rank_contexts
from quarry.clicks.fitting.shrinkage import BetaPrior, approximate_posterior, fit_prior
from quarry.clicks.log import ClickLog, Float64
from quarry.clicks.model import Examination
from quarry.clicks.models.pbm import PositionBased
from quarry.clicks.models.sdbn import SimplifiedDbn
from quarry.clicks.registry import CLICK_MODELS


def cells(shown: list[float], clicked: list[float], pair: list[int], context: list[int]) -> Cells:
    starts = np.flatnonzero(np.diff(np.array(pair), prepend=-1))
    of = np.array
    return Cells(of(pair), of(context), of(shown), of(clicked), starts, max(context) + 1)


def test_where_all_is_examined_the_posterior_is_the_beta_of_the_textbook() -> None:
    """Beta(1, 3) and 4 clicks of 6 displays make Beta(5, 5)."""
    belief = approximate_posterior(
        cells([6.0], [4.0], [0], [0]), np.ones(1), np.zeros(1), BetaPrior(1.0, 3.0)
    )
    assert (belief.a[0], belief.b[0]) == pytest.approx((5, 5))
    lower, upper = belief.find_interval()
    assert (lower[0], upper[0]) == pytest.approx(tuple(beta.ppf([0.025, 0.975], 5, 5)))


def test_half_examined_the_mode_solves_the_equation() -> None:
    """theta 1/2, 2 clicks of 6: 3/g - 1/(1-g) - 4 * 0.5/(1 - 0.5 g) = 0, g the mode."""
    belief = approximate_posterior(
        cells([6.0], [2.0], [0], [0]), np.array([0.5]), np.zeros(1), BetaPrior(1.0, 1.0)
    )
    g = belief.mean[0]
    assert 3 / g - 1 / (1 - g) - 2 / (1 - 0.5 * g) == pytest.approx(0, abs=1e-6)


def test_the_prior_takes_the_spread_that_chance_does_not_explain() -> None:
    """Ten pairs of 0 of 10 and ten of 10 of 10: mean 1/2, spread all there can be, so the weakest prior."""
    seen = cells([10.0] * 20, [0.0] * 10 + [10.0] * 10, list(range(20)), [0] * 20)
    assert fit_prior(seen, np.ones(1), np.zeros(1)) == BetaPrior(0.25, 0.25)


def test_the_prior_is_strong_where_pairs_do_not_differ() -> None:
    seen = cells([10.0] * 20, [5.0] * 20, list(range(20)), [0] * 20)
    assert fit_prior(seen, np.ones(1), np.zeros(1)) == BetaPrior(500.0, 500.0)


def test_the_rate_of_clicks_is_clicks_by_displays_drawn_to_the_mean() -> None:
    log = ClickLog.from_pages([page("q", "ab", "a")] * 30 + [page("q", "ab", "")] * 10)
    fitted = CLICK_MODELS["ctr"].fit(log)
    assert fitted.estimates.clicks.tolist() == [30, 0]
    assert fitted.estimates.relevance == pytest.approx([30 / 40, 0], abs=0.02)
    assert fitted.estimates.refusals.tolist() == pytest.approx([10, 40])


def test_coec_divides_by_the_clicks_that_ranks_draw() -> None:
    """Rank 1 draws 40 of 80, rank 2 20 of 80. d and f have the rates of their ranks: COEC 1, times 1/2."""
    log = ClickLog.from_pages(
        [page("q", "df", "d")] * 20 + [page("q", "df", "f")] * 10 + [page("q", "df")] * 10
    )
    fitted = CLICK_MODELS["coec"].fit(log)
    assert fitted.parameters["alpha"] == pytest.approx([1, 0.5])
    assert fitted.estimates.relevance == pytest.approx([0.5, 0.5], abs=0.01)


def test_sdbn_counts_displays_down_to_the_last_click() -> None:
    """Pages abc with clicks on a and b, on b, and on none.

    a: seen 3 times, clicked once, never last. b: seen 3, clicked 2, last 2. c: seen on the last page alone.
    a was passed over once.
    """
    fitted = SimplifiedDbn().fit(
        ClickLog.from_pages([page("q", "abc", "ab"), page("q", "abc", "b"), page("q", "abc")])
    )
    one, nil = np.ones(1), np.zeros(1)
    a = fit_prior(cells([3.0, 3.0, 1.0], [1.0, 2.0, 0.0], [0, 1, 2], [0, 0, 0]), one, nil)
    s = fit_prior(cells([1.0, 2.0, 0.0], [0.0, 2.0, 0.0], [0, 1, 2], [0, 0, 0]), one, nil)
    expected = [
        (a.a + clicks) / (a.a + a.b + seen) * (s.a + last) / (s.a + s.b + clicks)
        for seen, clicks, last in ((3, 1, 0), (3, 2, 2), (1, 0, 0))
    ]
    assert fitted.estimates.relevance == pytest.approx(expected)
    assert fitted.estimates.refusals.tolist() == [1, 0, 0]


def test_sdbn_reads_on_after_a_click_that_does_not_satisfy() -> None:
    """With attraction and satisfaction 1/2: P(examined) at rank 2 is 1/2 after a click, 1 after none."""
    log = ClickLog.from_pages([page("q", "ab", "a"), page("q", "ab", "b")])
    half = {name: np.full(2, 0.5) for name in ("attraction", "satisfaction")}
    half |= {f"mean_{name}": np.full(1, 0.5) for name in ("attraction", "satisfaction")}
    fitted = SimplifiedDbn().fit(log)
    predicted = SimplifiedDbn().predict_clicks(replace(fitted, parameters=half), log)
    assert predicted.tolist() == [[0.5, 0.25], [0.5, 0.5]]


def test_the_position_based_model_finds_theta_and_relevance() -> None:
    """a and b at either rank; a: 80 and 40 of 100, b: 40 and 20: theta is 1/2 exactly."""
    log = ClickLog.from_pages(
        [page("q", "ab", clicked) for clicked in ["ab"] * 20 + ["a"] * 60 + [""] * 20]
        + [page("q", "ba", clicked) for clicked in ["ab"] * 40 + [""] * 60]
    )
    fitted = PositionBased().fit(log)
    assert fitted.examination is not None
    assert fitted.examination.value == pytest.approx([1, 0.5], abs=0.005)
    assert fitted.estimates.relevance == pytest.approx([0.8, 0.4], abs=0.03)


def em_step(cells: Cells, theta: Float64, relevance: Float64, prior: BetaPrior) -> tuple[Float64, Float64]:
    """Makes one step of textbook EM without trust: ``theta`` of the contexts and the relevance of the
    pairs."""
    examination, attraction = theta[cells.context], relevance[cells.pair]
    missed = cells.shown - cells.clicked
    unclicked = np.maximum(1 - examination * attraction, LEAST * LEAST)
    examined = cells.clicked + missed * examination * (1 - attraction) / unclicked
    relevant = cells.clicked + missed * attraction * (1 - examination) / unclicked
    shown = np.maximum(cells.sum_by_context(cells.shown), LEAST)
    pseudo = prior.a + prior.b
    return (
        cells.sum_by_context(examined) / shown,
        (prior.a + cells.sum_by_pair(relevant)) / (pseudo + cells.sum_by_pair(cells.shown)),
    )


def test_em_leaves_the_maximum_where_it_is() -> None:
    seen = cells([50.0, 40.0, 30.0, 60.0], [30.0, 10.0, 6.0, 8.0], [0, 0, 1, 1], [0, 1, 0, 1])
    freedom = Freedom(np.array([True, True]), scaled=True)
    learned = fit_contexts(seen, Contexts.make_examined(np.array([1.0, 0.4])), freedom, 1e-6)
    theta, relevance = em_step(seen, learned.contexts.alpha, learned.relevance, learned.prior)
    assert theta == pytest.approx(learned.contexts.alpha, abs=1e-4)
    assert relevance == pytest.approx(learned.relevance, abs=1e-4)


def test_a_given_curve_is_held() -> None:
    curve = np.array([1.0, 0.25])
    given = Examination(curve, curve, curve, np.array([0, 0]))
    log = ClickLog.from_pages([page("q", "ab", "a")] * 8 + [page("q", "ab", "b")] * 2)
    fitted = PositionBased(given).fit(log)
    assert fitted.examination is given
    assert fitted.parameters["alpha"].tolist() == [1.0, 0.25]
    assert fitted.estimates.relevance[1] == pytest.approx(0.8, abs=0.1)


def test_refusals_are_displays_without_a_click_weighed_by_their_examination() -> None:
    """theta 1/2, relevance 1/2: P(E=1 | c=0) = 0.25 / 0.75; of 6 displays 3 were clicked."""
    found = count_refusals(
        cells([6.0], [3.0], [0], [0]), Contexts.make_examined(np.array([0.5])), np.array([0.5])
    )
    assert found == pytest.approx([3 / 3])


def test_ubm_tells_contexts_of_one_rank_apart() -> None:
    """After a click at rank 1, rank 2 is always looked at; without one it never is."""
    log = ClickLog.from_pages(
        ([page("q", "ab", "ab")] * 5 + [page("q", "ab", "a")] * 5 + [page("q", "ab")] * 10) * 5
        + ([page("q", "ba", "ba")] * 5 + [page("q", "ba", "b")] * 5 + [page("q", "ba")] * 10) * 5
    )
    model = CLICK_MODELS["ubm"]
    predicted = model.predict_clicks(model.fit(log), log)
    assert predicted[0, 1] == pytest.approx(0.5, abs=0.06)
    assert predicted[19, 1] < 0.03


def test_a_refused_hit_is_counted_where_all_is_examined() -> None:
    places = Places.from_log(ClickLog.from_pages([page("q", "ab", "a", refused="b")]))
    counted, ranks = make_rank_contexts(places, 2)
    assert counted.context.tolist() == [0, ranks]
