import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.clicks.logs import page

from quarry.clicks.evaluation import evaluate, measure_agreement, split_by_session
from quarry.clicks.log import ClickLog, Float64
from quarry.clicks.model import Estimates, FittedModel


def estimates(relevance: dict[int, float]) -> Estimates:
    count = len(relevance)
    values, zero = np.array(list(relevance.values())), np.zeros(count, np.int64)
    documents = np.array(list(relevance), np.int32)
    query = np.zeros(count, np.int32)
    return Estimates(
        query, documents, values, values, values, zero, zero, zero.astype(np.float64), zero.astype(np.float64)
    )


class Fixed:
    """Foretells 1/2 at rank 1 and 1/4 at rank 2."""

    name = "fixed"

    def fit(self, log: ClickLog) -> FittedModel:
        return FittedModel(self.name, estimates({0: 0.5, 1: 0.5, 2: 0.1}), None)

    def predict_clicks(self, fitted: FittedModel, log: ClickLog) -> Float64:
        return np.where(log.rank == 1, 0.5, 0.25)


def test_perplexity_and_likelihood_are_those_of_a_worked_example() -> None:
    """Rank 1: 1/2 whatever happens, so 2. Rank 2: 1/4 and 3/4 happened, so 1 / sqrt(3/16)."""
    log = ClickLog.from_pages([page("q", "ab", "ab"), page("q", "ab", "")])
    measured = evaluate(Fixed(), Fixed().fit(log), log)
    assert measured.perplexity == pytest.approx([2, 1 / math.sqrt(3 / 16)])
    assert measured.log_likelihood == pytest.approx((2 * math.log(0.5) + math.log(3 / 16)) / 4)
    assert measured.places.tolist() == [2, 2]
    assert math.isnan(measured.agreement)


def test_agreement_counts_pairs_of_unlike_grades_and_ties_half() -> None:
    """Grades a 2, b 1, c 0; relevance a = b > c: (a, b) half, (a, c) and (b, c) whole. z has no estimate."""
    log = ClickLog.from_pages([page("q", "abc", "a")])
    judged = {" Q": {"a": 2, "b": 1, "c": 0, "z": 3}, "other": {"a": 1, "b": 0}}
    assert measure_agreement(judged, estimates({0: 0.5, 1: 0.5, 2: 0.1}), log) == (2.5 / 3, 3, 1)


@given(seed=st.integers(0, 99), share=st.floats(0, 0.9))
def test_no_session_is_on_both_sides(seed: int, share: float) -> None:
    log = ClickLog.from_pages([page("q", "a", session=str(number % 7)) for number in range(20)])
    learned, held_out = split_by_session(log, share, seed)
    assert not set(learned.session) & set(held_out.session)
    assert len(learned) + len(held_out) == 20
    assert len(set(held_out.session)) == round(share * 7)
    assert np.array_equal(split_by_session(log, share, seed)[1].session, held_out.session)


def test_nothing_held_out_measures_nothing() -> None:
    log = ClickLog.from_pages([page("q", "ab", "a")])
    _, none = split_by_session(log, 0.0, 0)
    assert math.isnan(evaluate(Fixed(), Fixed().fit(log), none).log_likelihood)
