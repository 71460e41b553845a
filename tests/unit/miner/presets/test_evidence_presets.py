"""Rules on clicks and re-rankers, and Quarry's own: worked examples, and what must hold of any pair."""

from typing import Any

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


def test_negatives_are_drawn_from_the_first_of_every_member() -> None:
    """The fourth is beyond the pool of the first member, and within that of the second."""
    one = pair([0.9, 0.8, 0.7, 0.6], ranks=[[1, 2, 3, 4], [0, 0, 0, 1], [0] * 4])
    drawn = {c.document for seed in range(50) for c in select(Quarry(pool=2), one, 1, seed)}
    assert drawn == {1, 2, 4}


def test_the_chance_to_be_drawn_falls_with_the_place() -> None:
    one = pair([0.9, 0.8, 0.7], ranks=[[1, 2, 3], [0] * 3, [0] * 3])
    drawn = [select(Quarry(spread=1.0), one, 1, seed)[0].document for seed in range(3_000)]
    expected = np.exp([0.0, -1.0, -2.0]) / np.exp([0.0, -1.0, -2.0]).sum()
    shares = [drawn.count(document) / len(drawn) for document in (1, 2, 3)]
    assert shares == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize(
    "evidence",
    [
        {"clicked": [1, 0]},
        {"clicked_near": [1, 0]},
        {"coclick": [0.5, 0.0]},
        {"rerank": [0.6, 0.2], "rerank_positive": 0.1},
        {"s_pd": [0.97, 0.1]},
    ],
)
def test_a_likely_answer_is_no_negative(evidence: dict[str, Any]) -> None:
    chosen = select(Quarry(), pair([0.6, 0.6], **evidence), 1)
    assert [(c.document, c.rung) for c in chosen] == [(2, "pool")]


def test_a_sure_answer_becomes_a_positive() -> None:
    one = pair([0.6, 0.6], rerank=[0.95, 0.2], rerank_positive=0.9)
    assert [(c.document, c.label) for c in select(Quarry(), one, 1)] == [(2, 0), (1, 1)]


def test_what_nothing_is_known_of_is_neither_dropped_nor_relabelled() -> None:
    """Without a calibrated re-ranker the geometry alone says what a negative is."""
    assert [(c.document, c.label) for c in select(Quarry(), pair([0.9, 0.8]), 2)] == [(1, 0), (2, 0)]


def test_what_is_missing_is_drawn_from_the_whole_collection() -> None:
    chosen = select(Quarry(), pair([0.9, 0.2], clicked=[1, 0]), 3)
    assert [c.rung for c in chosen] == ["pool", "random", "random"]
    assert all(c.document > 2 for c in chosen[1:])


def test_what_was_examined_and_not_chosen_weighs_more() -> None:
    one = pair([0.3, 0.2], shown=[4, 0], refusals=[2, 0])
    assert {c.document: c.weight for c in select(Quarry(), one, 2)} == pytest.approx({1: 1.5, 2: 1.0})


@given(one=any_pairs(), count=st.integers(1, 12))
def test_every_pair_is_filled_and_no_likely_answer_becomes_a_negative(
    one: PairCandidates, count: int
) -> None:
    preset = Quarry()
    negatives = [c for c in select(preset, one, count) if c.label == 0]
    assert len(negatives) == len({c.document for c in negatives}) == count
    for place in (c.document - 1 for c in negatives if c.document <= len(one)):
        assert not one.clicked[place]
        assert one.s_pd[place] < preset.duplicate
        assert not one.rerank[place] >= preset.belief
        assert not one.coclick[place] >= preset.together
        assert one.ranks[:, place].max() > 0


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
