"""FairPairs: what is logged as a probability is one."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarry.errors import InvalidArgumentError
from quarry.ranking.ranking import RankedDocument
from quarry.search.exploration import FairPairs, compute_seed, explore, undo_exploration
from quarry.types import Docno

policies = st.builds(FairPairs, st.floats(0, 0.5), st.integers(2, 12))


def ranking(length: int) -> list[RankedDocument]:
    return [RankedDocument(Docno(n), f"d{n}", 1, 1.0 - n / 100) for n in range(length)]


@given(policies, st.integers(0, 14))
def test_probabilities_sum_to_one_over_places_and_over_hits(policy: FairPairs, length: int) -> None:
    table = [[policy.compute_probability(b, s, length) for s in range(length)] for b in range(length)]
    for row in table:
        assert sum(row) == pytest.approx(1)
    for column in zip(*table, strict=True):
        assert sum(column) == pytest.approx(1)


@pytest.mark.parametrize("length", [1, 2, 5, 9])
@pytest.mark.parametrize(("swap", "depth"), [(0.5, 10), (0.2, 4), (0.35, 3), (0.0, 10)])
def test_probabilities_are_those_of_the_orders_that_come_out(length: int, swap: float, depth: int) -> None:
    policy = FairPairs(swap, depth)
    trials = 6_000
    seen: Counter[tuple[int, int]] = Counter()
    for seed in range(trials):
        order = policy.draw_order(seed, length) or tuple(range(length))
        order = (*order, *range(len(order), length))
        assert sorted(order) == list(range(length))
        seen.update((before, shown) for shown, before in enumerate(order))
    for before in range(length):
        for shown in range(length):
            expected = policy.compute_probability(before, shown, length)
            deviation = (expected * (1 - expected) / trials) ** 0.5
            assert abs(seen[before, shown] / trials - expected) <= 5 * deviation + 1e-12


@given(policies, st.integers(0, 20), st.uuids())
def test_an_order_is_the_same_each_time_and_scores_stay_with_their_hits(
    policy: FairPairs, length: int, search: object
) -> None:
    before = ranking(length)
    after = explore(before, policy, str(search))
    assert list(after) == list(explore(before, policy, str(search)))
    assert sorted(after, key=lambda d: d.docno) == before
    assert list(undo_exploration(after)) == before
    assert list(after)[policy.depth :] == before[policy.depth :]
    for place, document in enumerate(after):
        assert policy.compute_probability(int(document.docno), place, length) > 0


def test_a_search_has_one_seed_and_others_have_others() -> None:
    assert compute_seed("a") == compute_seed("a")
    assert len({compute_seed(str(n)) for n in range(1_000)}) == 1_000
    assert 0 <= compute_seed("a") < 2**63


@pytest.mark.parametrize(
    ("swap", "depth", "field"),
    [
        (0.51, 10, "swap_probability"),
        (-0.1, 10, "swap_probability"),
        (float("nan"), 10, "swap_probability"),
        (0.1, 1, "depth"),
        (0.1, 101, "depth"),
    ],
)
def test_what_is_out_of_range_is_refused(swap: float, depth: int, field: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        FairPairs(swap, depth)
    assert caught.value.field == field


def test_without_a_probability_nothing_moves_and_the_policy_is_none() -> None:
    before = ranking(5)
    assert explore(before, FairPairs(), "s") is before
    assert FairPairs().policy == "none"
    assert FairPairs(0.25, 4).policy == "fair-pairs:0.25:4"
