"""Rules on similarities: a worked example of each, and the inequality that defines it on any pair."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.miner.presets.pairs import any_pairs, pair

from quarry_miner.examples import PairCandidates
from quarry_miner.presets.ambiguous import SimAns
from quarry_miner.presets.base import Preset
from quarry_miner.presets.controls import Bm25, InBatch, Random
from quarry_miner.presets.enterprise import Enterprise2025
from quarry_miner.presets.intra_sample import IntraSample
from quarry_miner.presets.positive_aware import (
    MarginPos,
    PercPos,
    SampledTopK,
    TopK,
    TopKAbs,
    TopKShifted,
    TopOneSampled,
)
from quarry_miner.presets.registry import PRESETS
from quarry_miner.presets.semi_hard import SemiHard

CORPUS = 60
S_QD = [0.9, 0.8, 0.5, 0.476, 0.474, 0.44, 0.3]


def select(preset: Preset, one: PairCandidates, count: int = 3, seed: int = 0) -> list[int]:
    return [c.document for c in preset.select(one, count, CORPUS, np.random.default_rng(seed))]


@pytest.mark.parametrize(
    ("preset", "chosen"),
    [
        (TopK(), [1, 2, 3]),
        (TopKShifted(shift=2), [3, 4, 5]),
        (TopKAbs(ceiling=0.7), [3, 4, 5]),
        (MarginPos(margin=0.05), [6, 7]),
        (PercPos(share=0.95), [5, 6, 7]),  # s(q, p) is 0.5, so the line is at 0.475
    ],
)
def test_the_published_rules_choose_what_a_hand_would(preset: Preset, chosen: list[int]) -> None:
    assert select(preset, pair(S_QD)) == chosen


def test_below_zero_the_line_lies_under_the_positive_and_not_above_it() -> None:
    below_zero = pair([-0.15, -0.2, -0.205, -0.22], s_qp=-0.2)
    assert select(PercPos(share=0.95), below_zero) == [4]  # the line is at -0.21; 0.95 x -0.2 would be -0.19


@given(one=any_pairs(), share=st.floats(0, 1))
def test_no_negative_of_perc_pos_is_above_its_share_of_the_positive(
    one: PairCandidates, share: float
) -> None:
    line = np.float32(one.s_qp) - abs(np.float32(one.s_qp)) * np.float32(1 - share)
    places = np.searchsorted(one.documents, select(PercPos(share=share), one, 40))
    assert (one.s_qd[places] <= line).all()
    assert len(places) == (one.s_qd <= line).sum()


@given(one=any_pairs(), margin=st.floats(0, 2))
def test_every_negative_of_margin_pos_is_that_much_less_similar(one: PairCandidates, margin: float) -> None:
    chosen = select(MarginPos(margin=margin), one, 40)
    assert all(one.s_qd[d - 1] + np.float32(margin) <= np.float32(one.s_qp) for d in chosen)


@given(one=any_pairs(), ceiling=st.floats(-1, 1), shift=st.integers(0, 40))
def test_a_ceiling_and_a_shift_leave_out_the_most_similar_only(
    one: PairCandidates, ceiling: float, shift: int
) -> None:
    kept = [int(d) for d, s in zip(one.documents, one.s_qd, strict=True) if s < ceiling]
    assert select(TopKAbs(ceiling=ceiling), one, 40) == kept
    assert select(TopKShifted(shift=shift), one, 40) == one.documents[shift:].tolist()


@given(one=any_pairs(), count=st.integers(1, 12), seed=st.integers(0, 99))
def test_sampling_draws_from_the_first_ten_survivors(one: PairCandidates, count: int, seed: int) -> None:
    survivors = select(PercPos(), one, 10)
    drawn = select(SampledTopK(), one, count, seed)
    with_first = select(TopOneSampled(), one, count, seed)
    assert set(drawn) <= set(survivors)
    assert len(drawn) == len(with_first) == min(count, len(survivors))
    assert with_first[:1] == survivors[:1]
    assert len(set(with_first)) == len(with_first)


def test_the_2025_rule_wants_query_and_candidate_to_be_the_shortest_side() -> None:
    one = pair([0.9, 0.8, 0.7, 0.6, 0.5], s_pd=[0.95, 0.8, 0.6, 0.5, 0.1], s_qp=0.6)
    # 1 and 2 are at least as near to the positive, 4 is as near to the query as the positive is, 5 farther
    assert select(Enterprise2025(), one) == [3]


@given(one=any_pairs())
def test_the_2025_rule_keeps_exactly_the_strictly_shorter_sides(one: PairCandidates) -> None:
    expected = [
        int(d)
        for d, q, p in zip(one.documents, one.s_qd, one.s_pd, strict=True)
        if 1 - q < 1 - np.float32(one.s_qp) and 1 - float(q) < 1 - float(p)
    ]
    # float32 distances can tie where similarities do not; the rule compares similarities
    assert set(expected) <= set(select(Enterprise2025(), one, 40))
    assert all(one.s_qd[d - 1] > max(one.s_qp, one.s_pd[d - 1]) for d in select(Enterprise2025(), one, 40))


@given(one=any_pairs())
def test_the_2025_rule_and_perc_pos_choose_no_document_in_common(one: PairCandidates) -> None:
    if one.s_qp >= 0:
        assert not set(select(Enterprise2025(), one, 40)) & set(select(PercPos(), one, 40))


def test_each_teacher_brings_its_best_survivor_and_agreement_is_weight() -> None:
    one = pair(
        [0.9, 0.4, 0.3, 0.2],
        ranks=[[1, 2, 3, 4], [0, 1, 2, 0], [3, 2, 1, 0]],
        scores=[[0.9, 0.4, 0.3, 0.2], [0, 8.0, 7.0, 0], [0.1, 0.2, 0.3, 0]],
        positive_scores=[0.5, 10.0, float("nan")],
    )
    chosen = IntraSample().select(one, 2, CORPUS, np.random.default_rng(0))
    assert [(c.document, c.weight) for c in chosen] == [(2, 2.0), (3, 2.0)]  # lsa does not know the positive


@given(one=any_pairs(), count=st.integers(1, 10))
def test_every_teachers_pick_is_below_its_own_line(one: PairCandidates, count: int) -> None:
    for chosen in IntraSample().select(one, count, CORPUS, np.random.default_rng(0)):
        place = chosen.document - 1
        below = one.scores[:, place] <= one.positive_scores * np.float32(0.95) + 1e-6
        assert 1 <= chosen.weight <= below.sum()


def test_semi_hard_leaves_out_what_is_too_near_to_and_too_far_from_the_positive() -> None:
    one = pair([0.46, 0.45, 0.44, 0.43, 0.42], s_pd=[0.95, 0.6, 0.5, 0.4, -0.1], s_qp=0.5)
    assert select(SemiHard(floor=0.2, top=0.8), one, 10) == [2, 3, 4]


@given(one=any_pairs())
def test_semi_hard_lies_in_both_bands(one: PairCandidates) -> None:
    chosen = select(SemiHard(), one, 10)
    line = np.float32(one.s_qp) - abs(np.float32(one.s_qp)) * np.float32(0.05)
    assert all(one.s_qd[d - 1] <= line and one.s_pd[d - 1] < 0.9 for d in chosen)


def test_simans_prefers_candidates_as_similar_as_the_positive() -> None:
    chances = SimAns().weigh_candidates(pair([0.7, 0.5, 0.4], s_qp=0.5))
    # differences of 4, 0 and -2 in its own scale: exp(-0.5 x 16), exp(0), exp(-0.5 x 4)
    assert chances == pytest.approx([np.exp(-8), 1, np.exp(-2)], rel=1e-4)


@given(one=any_pairs())
def test_simans_chances_fall_with_the_distance_from_the_positive(one: PairCandidates) -> None:
    chances, apart = SimAns().weigh_candidates(one), np.abs(one.s_qd.astype(float) - one.s_qp)
    assert (np.diff(chances[np.argsort(apart)]) <= 1e-6).all()


def test_bm25_takes_the_lexical_order() -> None:
    assert select(Bm25(), pair([0.9, 0.5, 0.1], ranks=[[1, 2, 3], [0, 2, 1], [0, 0, 0]])) == [3, 2]


@given(one=any_pairs(), seed=st.integers(0, 99))
def test_random_draws_are_no_positive_and_each_once(one: PairCandidates, seed: int) -> None:
    chosen = select(Random(), one, 20, seed)
    assert len(set(chosen)) == 20
    assert 0 not in chosen
    assert set(select(InBatch(), one, 20, seed)) == {3, 5, 7}


@given(
    one=any_pairs(), count=st.integers(1, 12), seed=st.integers(0, 9), name=st.sampled_from(sorted(PRESETS))
)
def test_every_preset_gives_at_most_what_is_asked_each_once_and_never_the_positive(
    one: PairCandidates, count: int, seed: int, name: str
) -> None:
    chosen = PRESETS[name]().select(one, count, CORPUS, np.random.default_rng(seed))
    negatives = [c.document for c in chosen if c.label == 0]
    assert len(negatives) <= count
    assert len({c.document for c in chosen}) == len(chosen)
    assert 0 not in {c.document for c in chosen}
    assert all(c.weight > 0 and c.rule and c.rung for c in chosen)
    again = PRESETS[name]().select(one, count, CORPUS, np.random.default_rng(seed))
    assert again == chosen
