"""Rules on clicks and re-rankers, and Quarry's own: worked examples, and what must hold of any pair."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.miner.presets.pairs import any_pairs, pair

from quarry.errors import InvalidArgumentError
from quarry_miner.examples import Chosen, PairCandidates
from quarry_miner.presets.base import Preset
from quarry_miner.presets.judged import Denoised, Refresh, Relabelled
from quarry_miner.presets.neighborhood import Neighborhood
from quarry_miner.presets.quarry import Quarry
from quarry_miner.presets.registry import ALIASES, PRESETS, make_preset
from quarry_miner.presets.suspicion import hardness, suspicion

CORPUS = 60


def select(preset: Preset, one: PairCandidates, count: int = 3, seed: int = 0) -> list[Chosen]:
    return preset.select(one, count, CORPUS, np.random.default_rng(seed))


def test_the_ceiling_on_overlap_rises_by_epoch_up_to_its_highest() -> None:
    ceilings = [Neighborhood(epoch=e, first_epoch=5, pace=0.1, highest=0.7).ceiling for e in (0, 5, 8, 40)]
    assert ceilings == pytest.approx([0, 0, 0.3, 0.7])


def test_draws_are_in_proportion_to_overlap() -> None:
    one = pair([0.5, 0.4, 0.3, 0.2], coclick=[0.6, 0.2, 0.8, float("nan")])
    drawn = [select(Neighborhood(), one, 1, seed)[0].document for seed in range(2_000)]
    assert set(drawn) == {1, 2}  # 3 is above the ceiling, 4 was never clicked
    assert drawn.count(1) / len(drawn) == pytest.approx(0.75, abs=0.04)


@given(one=any_pairs(), epoch=st.floats(0, 200))
def test_no_overlap_is_above_the_ceiling(one: PairCandidates, epoch: float) -> None:
    preset = Neighborhood(epoch=epoch)
    for chosen in select(preset, one, 10):
        assert 0 < one.coclick[chosen.document - 1] <= preset.ceiling + 1e-5
        assert not one.clicked[chosen.document - 1]


@given(one=any_pairs())
def test_denoised_negatives_are_all_disbelieved(one: PairCandidates) -> None:
    assert all(one.rerank[c.document - 1] < 0.1 for c in select(Denoised(), one, 40))


def test_what_the_reranker_puts_above_the_positive_is_relabelled_and_the_near_is_dropped() -> None:
    one = pair([0.9, 0.8, 0.7, 0.6], rerank=[0.95, 0.7, 0.2, 0.1], rerank_positive=0.9)
    assert [(c.document, c.label) for c in select(Relabelled(), one)] == [(3, 0), (4, 0), (1, 1)]


@given(one=any_pairs())
def test_labels_follow_the_rerankers_order(one: PairCandidates) -> None:
    for chosen in select(Relabelled(), one, 40):
        score = one.rerank[chosen.document - 1]
        assert score > one.rerank_positive if chosen.label else score < one.rerank_positive - 0.3 + 1e-6


def test_refresh_follows_the_model_and_not_the_similarity() -> None:
    one = pair([0.9, 0.8, 0.7], judged=[-8.0, 3.0, 2.0])  # whose scores tell no probability
    assert [c.document for c in select(Refresh(among=2), one)] == [2, 3]


def test_suspicion_is_in_standard_deviations_of_the_pairs_own_candidates() -> None:
    one = pair([0.8, 0.6, 0.4], s_pd=[0.9, 0.1, 0.5], s_qp=0.6)
    spread = np.sqrt(1.5)  # of -1, 0, 1 in standard deviations
    assert suspicion(one, near_query=0.5, positive_first=1.5) == pytest.approx(
        [spread + 0.5 * spread, -spread, -0.5 * spread], abs=1e-5
    )


def test_hardness_takes_a_members_lowest_score_for_what_it_does_not_list() -> None:
    one = pair(
        [0.8, 0.6, 0.4],
        ranks=[[1, 2, 3], [0, 1, 2], [0, 0, 0]],
        scores=[[0.8, 0.6, 0.4], [np.nan, 9.0, 3.0], [np.nan] * 3],
    )
    spread, lexical = np.sqrt(1.5), np.array([-1, 2, -1]) / np.sqrt(2)
    expected = np.array([1, 0, -1]) * spread + 0.5 * lexical
    assert hardness(one, 0.5) == pytest.approx(expected, abs=1e-5)


def test_above_the_positive_only_what_evidence_refutes_is_kept() -> None:
    one = pair(
        [0.9, 0.8, 0.7, 0.65],
        s_pd=[0.9, 0.9, 0.9, 0.9],
        s_qp=0.5,
        shown=[9, 9, 0, 0],
        refusals=[0, 8, 0, 0],
        rerank=[np.nan, np.nan, 0.05, 0.3],
        rerank_positive=0.9,
    )
    chosen = select(Quarry(bound=-20), one, 2)
    assert [(c.document, c.rule, c.rung) for c in chosen] == [
        (2, "refuted:examined", "hard"),
        (3, "refuted:rerank", "hard"),
    ]


def test_a_likely_answer_is_dropped_whatever_refutes_it_and_a_sure_one_is_relabelled() -> None:
    one = pair(
        [0.6, 0.6, 0.6, 0.6, 0.6],
        s_pd=[0.1, 0.97, 0.1, 0.1, 0.1],
        shown=[9] * 5,
        refusals=[9] * 5,
        clicked=[1, 0, 0, 0, 0],
        coclick=[0, 0, 0.5, 0, 0],
        rerank=[0.2, 0.2, 0.2, 0.95, 0.2],
        rerank_positive=0.9,
    )
    chosen = select(Quarry(), one, 1)
    assert [(c.document, c.label) for c in chosen] == [(5, 0), (4, 1)]


def test_the_ladder_goes_down_to_bm25_and_then_to_chance() -> None:
    one = pair([0.9, 0.2, 0.1], s_qp=0.8, ranks=[[1, 2, 3], [2, 0, 1], [0, 0, 0]])
    chosen = select(Quarry(bound=-20), one, 3)
    assert [c.rung for c in chosen] == ["bm25", "random", "random"]
    assert chosen[0].document == 3
    assert chosen[1].document > 3


def test_agreement_and_examination_are_weight() -> None:
    one = pair(
        [0.3, 0.2], ranks=[[1, 2], [1, 0], [1, 0]], shown=[4, 0], refusals=[2, 0], s_qp=0.9, s_pd=[0.1, 0.2]
    )
    weights = {c.document: c.weight for c in select(Quarry(bound=20), one, 2)}
    assert weights == pytest.approx({1: 1.0 * 1.5, 2: 0.5 * 1.0})


@given(one=any_pairs(), count=st.integers(1, 12))
def test_every_pair_is_filled_and_no_suspect_becomes_a_negative(one: PairCandidates, count: int) -> None:
    preset = Quarry()
    chosen = select(preset, one, count)
    negatives = [c for c in chosen if c.label == 0]
    assert len(negatives) == count
    doubts = suspicion(one, preset.near_query, preset.positive_first)
    for place, c in ((c.document - 1, c) for c in negatives if c.document <= len(one)):
        assert not one.clicked[place]
        assert one.s_pd[place] < preset.duplicate
        assert not one.rerank[place] >= preset.belief
        assert not one.rerank[place] > one.rerank_positive
        assert not one.coclick[place] >= preset.together
        if c.rule == "refuted:geometry":
            assert doubts[place] <= preset.bound
        if c.rung == "hard":
            assert c.rule.startswith("refuted:")


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(InvalidArgumentError, match="'perc-pos'"):
        make_preset("perc-poss")
    with pytest.raises(InvalidArgumentError, match="'margin'") as error:
        make_preset("margin-pos", {"margn": 0.1})
    assert error.value.field == "parameters[margn]"


@pytest.mark.parametrize(("name", "value"), [("shift", -1), ("shift", 2.5), ("shift", float("nan"))])
def test_a_constant_out_of_range_is_refused(name: str, value: float) -> None:
    with pytest.raises(InvalidArgumentError) as error:
        make_preset("topk-shifted", {name: value})
    assert error.value.field == "parameters[shift]"


def test_names_and_aliases_lead_to_their_presets() -> None:
    assert make_preset("ensemble-2024") == PRESETS[ALIASES["ensemble-2024"]]()
    assert all(make_preset(name).name == name for name in PRESETS)
    assert make_preset("perc-pos", {"share": 0.8}).share == 0.8  # type: ignore[attr-defined]
