"""From pages to negatives: what was shown and not clicked is no negative unless more speaks for it."""

import numpy as np
import pytest
from tests.unit.miner.clicks.logs import page
from tests.unit.miner.core.small import corpus_of, texts_of
from tests.unit.miner.presets.pairs import pair

from quarry.feedback.types import ObservedPage
from quarry_miner.clicks.base import ClickLog
from quarry_miner.clicks.registry import CLICK_MODELS
from quarry_miner.evidence import Feedback, Seen
from quarry_miner.presets.quarry import Quarry

HIGHEST, LOWEST = 0.9, 0.2


def seen(pages: list[ObservedPage], model: str) -> Seen:
    """Of the query ``q``, the positive ``a`` and the candidates ``b`` and ``c``."""
    log = ClickLog.of(pages)
    estimates = CLICK_MODELS[model].fit(log).estimates
    names = [f"d{number:03}" for number in range(6)]
    letters = dict(zip("abcdef", names, strict=True))
    log.documents[:] = [letters[letter] for letter in log.documents]  # type: ignore[index]
    feedback = Feedback(log, estimates, corpus_of(texts_of(6, seed=0)))
    zero = np.zeros(2, np.int32)
    return feedback.of(["q"], zero, zero, np.array([1, 2], np.int32))


def rules(found: Seen, preset: Quarry) -> dict[int, str]:
    """What `quarry` keeps of two candidates that the geometry suspects, and why."""
    one = pair(
        [HIGHEST, LOWEST],
        s_pd=[HIGHEST, LOWEST],
        shown=found.shown.tolist(),
        refusals=found.refusals.tolist(),
        clicked=found.clicked.tolist(),
        coclick=found.coclick.tolist(),
    )
    chosen = preset.select(one, 2, 60, np.random.default_rng(0))
    return {c.document: c.rule for c in chosen if c.rule.startswith("refuted:")}


def elsewhere(count: int) -> list[ObservedPage]:
    """Another query, whose first hit is chosen half of the time."""
    return [page("other", "def", "d" if number % 2 else "") for number in range(count)]


@pytest.mark.parametrize("model", ["pbm", "sdbn", "ubm"])
@pytest.mark.parametrize("times", [1, 2])
def test_shown_and_skipped_alone_makes_no_negative(model: str, times: int) -> None:
    found = seen([page("q", "bac", "a")] * times + elsewhere(10), model)
    assert found.shown.tolist() == [times, times]
    assert (found.refusals <= times).all()
    assert rules(found, Quarry(bound=-20)) == {}


def test_a_hit_that_nobody_reached_is_shown_and_not_examined() -> None:
    """Below the only click: however often it is shown, sdbn counts no examination."""
    found = seen([page("q", "abc", "a")] * 50, "sdbn")
    assert found.shown.tolist() == [50, 50]
    assert found.refusals.tolist() == [0, 0]
    assert rules(found, Quarry(bound=-20)) == {}


@pytest.mark.parametrize("model", ["pbm", "sdbn", "ubm"])
def test_examined_and_skipped_often_is_refuted(model: str) -> None:
    found = seen([page("q", "bac", "a")] * 40 + elsewhere(10), model)
    assert rules(found, Quarry(bound=-20))[1] == "refuted:examined"


def test_never_clicked_together_refutes_nothing_unless_it_is_asked_for() -> None:
    """Two documents clicked for other needs: in a log of few clicks that says nothing."""
    found = seen([page("q", "a", "a", session="1"), page("r", "bc", "b", session="2")], "sdbn")
    assert found.coclick[0] == 0
    assert rules(found, Quarry(bound=-20)) == {}
    assert rules(found, Quarry(bound=-20, apart=0.02)) == {1: "refuted:coclick"}
