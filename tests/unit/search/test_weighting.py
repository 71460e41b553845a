"""How much an arm counts for one query, by what its lists tell."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarry.errors import InvalidArgumentError
from quarry.ranking.fusion import ArmRun
from quarry.ranking.names import make_ranking_name, parse_ranking_name
from quarry.ranking.queries import ArmPlan, Query, RerankPlan, Rrf, WeightedSum, plan_default_arms
from quarry.ranking.ranking_configuration import RankingConfiguration
from quarry.ranking.weighting import QueryWeights, Trait, list_traits, measure_traits, weigh_by_query
from quarry.types import Candidate, Docno

ARMS = ("bm25", "dense")
AGREEMENT = QueryWeights({"agreement": Trait(slope=1.0, mean=0.5, deviation=0.25)})


def run(arm: str, scores: dict[int, float], weight: float = 1.0) -> ArmRun:
    low, high = (0.0, 10.0) if arm == "bm25" else (-1.0, 1.0)
    return ArmRun(arm, [Candidate(Docno(n), s) for n, s in scores.items()], weight, low, high)


RUNS = [run("bm25", {1: 5.0, 2: 4.0}, 0.25), run("dense", {2: 0.6, 3: 0.5}, 0.75)]


def test_traits_are_those_of_a_worked_example() -> None:
    """Two words, a ceiling of 10 for both; 5 of 10 and 0.6 of -1 to 1; of ten documents one is in both."""
    assert measure_traits("red  shoe", RUNS) == pytest.approx(
        {"words": math.log(3), "rarity": 5.0, "bm25_best": 0.5, "dense_best": 0.8, "agreement": 0.1}
    )
    assert set(measure_traits("red shoe", RUNS)) == set(list_traits())


def test_traits_of_lists_that_are_empty_or_missing_are_numbers() -> None:
    for runs in ([], [run("bm25", {}), run("dense", {})], RUNS[:1]):
        assert all(math.isfinite(value) for value in measure_traits("", runs).values())


def test_a_share_is_moved_by_deviations_from_the_mean() -> None:
    """Agreement 0.1 is 1.6 deviations under the mean: odds of 3 to 1 become 3 * exp(-1.6) to 1."""
    odds = 3 * math.exp(-1.6)
    assert AGREEMENT.compute_share(0.75, {"agreement": 0.1}) == pytest.approx(odds / (1 + odds))
    assert AGREEMENT.compute_share(0.75, {"agreement": 0.5}) == pytest.approx(0.75)


@given(usual=st.floats(0, 1), value=st.floats(-1e9, 1e9), slope=st.floats(-1e9, 1e9))
def test_a_share_stays_between_none_and_all(usual: float, value: float, slope: float) -> None:
    by = QueryWeights({"words": Trait(slope, 0.0, 1e-6)})
    assert 0 <= by.compute_share(usual, {"words": value}) <= 1


def test_weights_of_a_query_add_up_to_one_and_need_both_arms() -> None:
    traits = measure_traits("red shoe", RUNS)
    bm25, dense = weigh_by_query(RUNS, traits, AGREEMENT)
    assert dense == AGREEMENT.compute_share(0.75, traits)
    assert bm25 + dense == pytest.approx(1)
    assert weigh_by_query(RUNS[:1], traits, AGREEMENT) == [0.25]


@pytest.mark.parametrize(
    ("slope", "mean", "deviation"), [(math.nan, 0, 1), (0, math.inf, 1), (0, 0, 0), (0, 0, -1)]
)
def test_a_trait_is_of_finite_numbers(slope: float, mean: float, deviation: float) -> None:
    with pytest.raises(InvalidArgumentError):
        Trait(slope, mean, deviation)


def test_a_trait_has_a_known_name() -> None:
    with pytest.raises(InvalidArgumentError, match="colour"):
        QueryWeights({"colour": Trait(1, 0, 1)})


def test_hashes_of_rankings_without_a_configuration_are_as_old_as_the_log() -> None:
    """As an earlier version computed them: clicks of then and of now are on the same ranker."""
    usual = plan_default_arms(ARMS, WeightedSum())
    assert Query("words", usual).hash_configuration() == "77ce279526e6a6eb"
    reciprocal = Query("words", plan_default_arms(ARMS, Rrf()), fusion=Rrf(), rerank=RerankPlan("m"))
    assert reciprocal.hash_configuration() == "6b628df92cfa887e"


def test_whatever_a_configuration_changes_changes_the_hash() -> None:
    usual = plan_default_arms(ARMS, WeightedSum())
    asked = [
        Query("words", usual),
        Query("words", usual, fusion=WeightedSum(AGREEMENT)),
        Query("words", (ArmPlan("bm25", weight=0.25, boost_scale=2.0), usual[1])),
        Query("words", usual, tuned="faq/ranking@1"),
    ]
    assert len({query.hash_configuration() for query in asked}) == len(asked)


def test_a_configuration_says_how_to_ask_and_to_merge_the_arms_that_there_are() -> None:
    tuned = RankingConfiguration(
        weights={"bm25": 0.4, "dense": 0.6}, boost_scale=2.0, depth=200, by_query=dict(AGREEMENT.traits)
    )
    assert tuned.method == WeightedSum(AGREEMENT)
    assert tuned.plan_arms(ARMS) == (ArmPlan("bm25", 200, 0.4, 2.0), ArmPlan("dense", 200, 0.6))
    assert tuned.plan_arms(("bm25",)) == (ArmPlan("bm25", 200, 0.4, 2.0),)
    assert RankingConfiguration.model_validate_json(tuned.model_dump_json()) == tuned
    assert RankingConfiguration(fusion="rrf").method == Rrf()
    assert RankingConfiguration().plan_arms(ARMS) == plan_default_arms(ARMS, WeightedSum())


def test_names_of_configurations_are_read_as_they_are_written() -> None:
    assert parse_ranking_name(make_ranking_name("faq", 12)) == ("faq", 12)
    for name in ("faq@1", "faq/ranking@0", "faq/ranking@", "Faq/ranking@1", ""):
        assert parse_ranking_name(name) is None
