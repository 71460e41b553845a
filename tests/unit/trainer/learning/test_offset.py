"""How much the fused score counts from the start of a training on."""

from collections.abc import Sequence

import numpy as np
import pytest

from quarry.models.base import PairScore
from quarry_trainer.data.dataset import TextGroup
from quarry_trainer.learning.offset import MOST, fit_offset


class Silent:
    """A model that has learned nothing."""

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[PairScore]:
        return [PairScore(0.0, False)] * len(pairs)


def drawn_groups(count: int, offset: float, size: int = 8) -> list[TextGroup]:
    """Groups whose positive is drawn by a softmax of ``offset`` times the fused score."""
    random = np.random.default_rng(1)
    made = []
    for _ in range(count):
        fused = random.random(size)
        weight = np.exp(offset * fused)
        first = int(random.choice(size, p=weight / weight.sum()))
        order = [first, *(place for place in range(size) if place != first)]
        names = tuple(f"d{place}" for place in order)
        relevant = (True, *(False for _ in range(size - 1)))
        made.append(
            TextGroup(
                "q", names, names, tuple(float(fused[place]) for place in order), relevant, (1.0,) * size
            )
        )
    return made


@pytest.mark.parametrize("offset", [3.0, 30.0])
def test_it_finds_the_multiple_that_positives_were_drawn_by(
    offset: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quarry_trainer.learning.offset.FITTED_GROUPS", 2_000)
    assert fit_offset(drawn_groups(2_000, offset), Silent()) == pytest.approx(offset, rel=0.1)


def test_a_fused_score_that_says_nothing_counts_nothing() -> None:
    group = TextGroup("q", ("a", "b"), ("a", "b"), (0.1, 0.9), (True, False), (1.0, 1.0))
    assert fit_offset([group], Silent()) < 0.01


def test_a_fused_order_that_is_always_right_decides_alone() -> None:
    group = TextGroup("q", ("a", "b"), ("a", "b"), (0.9, 0.1), (True, False), (1.0, 1.0))
    assert 0 < fit_offset([group], Silent()) <= MOST


def test_another_relevant_document_of_the_group_is_no_rival() -> None:
    rivals = TextGroup(
        "q", ("a", "b", "c"), ("a", "b", "c"), (0.5, 0.9, 0.1), (True, True, False), (1.0,) * 3
    )
    assert fit_offset([rivals], Silent()) > 1
