"""From pages to negatives: what was examined and not chosen weighs more, what nobody reached does not."""

from pathlib import Path

import numpy as np
import pytest
from tests.unit.clicks.logs import page
from tests.unit.feedback.samples import KEY, event, log_with
from tests.unit.feedback.samples import page as logged_page
from tests.unit.miner.presets.pairs import pair
from tests.unit.miner.small import draw_texts, make_corpus

from quarry.clicks.log import ClickLog
from quarry.clicks.registry import CLICK_MODELS
from quarry.feedback.reading.observed_pages import read_observed_pages
from quarry.feedback.types import ObservedPage
from quarry_miner.evidence.pair_evidence import FeedbackEvidence, Seen
from quarry_miner.presets.quarry import POOL, Quarry

HIGHEST, LOWEST = 0.9, 0.2


def seen(pages: list[ObservedPage], model: str) -> Seen:
    """Of the query ``q``, the positive ``a`` and the candidates ``b`` and ``c``."""
    log = ClickLog.from_pages(pages)
    estimates = CLICK_MODELS[model].fit(log).estimates
    names = [f"d{number:03}" for number in range(6)]
    letters = dict(zip("abcdef", names, strict=True))
    log.documents[:] = [letters[letter] for letter in log.documents]  # type: ignore[index]
    feedback = FeedbackEvidence(log, estimates, make_corpus(draw_texts(6, seed=0)))
    zero = np.zeros(2, np.int32)
    return feedback.observe(["q"], zero, zero, np.array([1, 2], np.int32))


def weights(found: Seen) -> dict[int, float]:
    """Of the two candidates as negatives by `quarry`; without those that it leaves out."""
    one = pair(
        [HIGHEST, LOWEST],
        shown=found.shown.tolist(),
        refusals=found.refusals.tolist(),
        clicked=found.clicked.tolist(),
        coclick=found.coclick.tolist(),
    )
    chosen = Quarry().select(one, 2, 60, np.random.default_rng(0))
    return {c.document: c.weight for c in chosen if c.rung == POOL}


def elsewhere(count: int) -> list[ObservedPage]:
    """Another query, whose first hit is chosen half of the time."""
    return [page("other", "def", "d" if number % 2 else "") for number in range(count)]


@pytest.mark.parametrize("model", ["pbm", "sdbn", "ubm"])
def test_what_was_examined_and_skipped_weighs_more_than_what_was_not_shown(model: str) -> None:
    """``b`` stands above the hit that was chosen, ``c`` below it."""
    found = seen([page("q", "bac", "a")] * 40 + elsewhere(10), model)
    assert found.shown.tolist() == [40, 40]
    assert (found.refusals <= 40).all()
    assert 1 <= weights(found)[2] < weights(found)[1] <= 2


def test_a_hit_that_nobody_reached_is_shown_and_not_examined() -> None:
    """Below the only click: however often it is shown, sdbn counts no examination."""
    found = seen([page("q", "abc", "a")] * 50, "sdbn")
    assert found.shown.tolist() == [50, 50]
    assert found.refusals.tolist() == [0, 0]
    assert weights(found) == {1: 1.0, 2: 1.0}


def test_what_was_clicked_once_is_no_negative_and_makes_no_other_one() -> None:
    found = seen([page("q", "bac", "b"), *[page("q", "bac", "a")] * 5, *elsewhere(10)], "sdbn")
    assert set(weights(found)) == {2}


def test_what_the_command_line_asked_is_no_evidence(tmp_path: Path) -> None:
    """Trials show ``b`` above the positive and choose it, as somebody does who tries a query out."""
    people = [logged_page(f"s{n}", "ac", user=f"u{n}") for n in range(20)]
    chosen = [event(document="a", search_id=one.search_id) for one in people]
    tried = [logged_page(f"t{n}", "bac", user=f"v{n}", trial=True) for n in range(20)]
    chosen += [event(document="b", search_id=one.search_id) for one in tried[:5]]
    engine = log_with(tmp_path, [*people, *tried], chosen)
    found = seen([*read_observed_pages(engine, KEY), *elsewhere(10)], "sdbn")
    engine.dispose()
    assert found.shown.tolist() == [0, 20]
    assert found.clicked.tolist() == [0, 0]
    assert set(weights(found)) == {1, 2}
