"""What holds for every click model, whatever the log."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.clicks.logs import clicked_logs, page, pages

from quarry.clicks.log import ClickLog
from quarry.clicks.model import ClickModel
from quarry.clicks.registry import CLICK_MODELS
from quarry.errors import NoFeedbackError
from quarry.feedback.types import ObservedPage

MODELS = pytest.mark.parametrize("model", CLICK_MODELS.values(), ids=CLICK_MODELS.keys())
SOME = settings(max_examples=25, deadline=None)


@MODELS
@SOME
@given(log=clicked_logs())
def test_estimates_lie_in_range_whatever_the_log(model: ClickModel, log: ClickLog) -> None:
    fitted = model.fit(log)
    made = fitted.estimates
    assert ((made.lower >= 0) & (made.lower <= made.relevance)).all()
    assert ((made.relevance <= made.upper) & (made.upper <= 1)).all()
    assert ((made.clicks <= made.impressions) & (made.clicks >= 0)).all()
    assert made.impressions.sum() == log.shown.sum()
    unclicked = made.impressions - made.clicks
    assert ((made.refusals >= 0) & (made.refusals <= unclicked + 1e-9)).all()
    order = np.lexsort((made.document, made.query))
    assert (order == np.arange(len(order))).all()
    predicted = model.predict_clicks(fitted, log)
    assert predicted.shape == log.rank.shape
    assert ((predicted > 0) & (predicted < 1)).all()


@MODELS
@SOME
@given(log=clicked_logs())
def test_examination_is_1_at_rank_1_or_unknown_and_within_its_interval(
    model: ClickModel, log: ClickLog
) -> None:
    curve = model.fit(log).examination
    if curve is None:
        return
    assert len(curve.value) == log.max_rank
    assert curve.value[0] == 1 or np.isnan(curve.value[0])
    known = np.isfinite(curve.value)
    assert (curve.value[known] >= 0).all()
    inside = (curve.lower <= curve.value * (1 + 1e-9)) & (curve.value <= curve.upper * (1 + 1e-9))
    assert (inside | np.isnan(curve.lower))[known].all()


@MODELS
@SOME
@given(seen=st.lists(pages(), min_size=1, max_size=8), random=st.randoms())
def test_estimates_know_neither_names_nor_the_order_of_pages(
    model: ClickModel, seen: list[ObservedPage], random: Random
) -> None:
    log = ClickLog.from_pages(seen)
    if not log.clicked.any():
        return
    renamed = [replace(p, documents=tuple("abcdef"["zyxwvu".index(d)] for d in p.documents)) for p in seen]
    other = ClickLog.from_pages(random.sample(renamed, len(renamed)))
    expected = {
        (log.queries[q], "abcdef"["zyxwvu".index(log.documents[d])]): value
        for q, d, value in _by_pair(model, log)
    }
    found = {(other.queries[q], other.documents[d]): value for q, d, value in _by_pair(model, other)}
    assert found == pytest.approx(expected, abs=1e-3)


def _by_pair(model: ClickModel, log: ClickLog) -> list[tuple[int, int, float]]:
    made = model.fit(log).estimates
    return list(zip(made.query.tolist(), made.document.tolist(), made.relevance.tolist(), strict=True))


@MODELS
def test_without_a_click_there_is_nothing_to_learn_from(model: ClickModel) -> None:
    for log in (
        ClickLog.from_pages([]),
        ClickLog.from_pages([page("q", "")]),
        ClickLog.from_pages([page("q", "ab")]),
    ):
        with pytest.raises(NoFeedbackError):
            model.fit(log)


@MODELS
@given(clicks=st.integers(1, 19))
@settings(max_examples=8, deadline=None)
def test_a_further_click_never_lowers_a_document(model: ClickModel, clicks: int) -> None:
    """Of 20 displays at the same rank beside the same others."""

    def relevance(count: int) -> float:
        seen = [page("q", "ab", "a" if number < count else "") for number in range(20)]
        log = ClickLog.from_pages([*seen, *[page("p", "cd", "d")] * 10, *[page("p", "cd", "c")] * 10])
        return float(model.fit(log).estimates.relevance[0])

    assert relevance(clicks + 1) >= relevance(clicks) - 1e-6


@MODELS
def test_a_pair_never_seen_is_predicted_by_the_mean(model: ClickModel) -> None:
    log = ClickLog.from_pages(
        [page("q", "ab", "a")] * 5 + [page("q", "ab", "b")] * 5 + [page("p", "xy"), page("q", "")]
    )
    fitted = model.fit(log.select_rows(np.arange(10)))
    predicted = model.predict_clicks(fitted, log)[10]
    assert (predicted > 1e-5).all()


@MODELS
def test_a_fit_is_the_same_when_it_is_made_again(model: ClickModel) -> None:
    log = ClickLog.from_pages([page("q", "abc", "a"), page("q", "bac", "b"), page("p", "cab", "ab")])
    once, again = (model.fit(log).estimates for _ in range(2))
    assert np.array_equal(once.relevance, again.relevance)
    assert np.array_equal(once.upper, again.upper)


@MODELS
def test_what_is_said_to_be_refused_counts_as_examined_once(model: ClickModel) -> None:
    seen = [page("q", "ab", "a")] * 4 + [page("q", "ba", "b")] * 2
    plain = model.fit(ClickLog.from_pages([*seen, page("q", "ab", "a")])).estimates
    refused = model.fit(ClickLog.from_pages([*seen, page("q", "ab", "a", refused="b")])).estimates
    assert refused.refusals[1] >= plain.refusals[1] - 0.05
    assert refused.refusals[1] >= 1 - 1e-9
