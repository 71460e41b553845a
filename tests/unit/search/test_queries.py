import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarry.errors import InvalidArgumentError
from quarry.filters import Exists
from quarry.ranking.cascade import RerankStage
from quarry.ranking.queries import (
    MAX_QUERY_BYTES,
    ArmPlan,
    Query,
    RerankPlan,
    Rrf,
    WeightedSum,
    check_query_text,
    plan_default_arms,
)

QUERY = Query("words", plan_default_arms(("bm25", "dense"), WeightedSum()))


@pytest.mark.parametrize("depth", [0, -1, 1_001])
def test_depths_have_limits(depth: int) -> None:
    for make in (lambda: ArmPlan("bm25", depth), lambda: RerankPlan("model", depth)):
        with pytest.raises(InvalidArgumentError, match="depth"):
            make()


@pytest.mark.parametrize("weight", [-0.1, 1_000.1, math.inf, math.nan])
def test_weights_have_limits(weight: float) -> None:
    with pytest.raises(InvalidArgumentError, match="weight"):
        ArmPlan("bm25", weight=weight)


@pytest.mark.parametrize("k", [0.0, 0.99, 10_001, math.inf, math.nan])
def test_k_has_limits(k: float) -> None:
    with pytest.raises(InvalidArgumentError, match="k"):
        Rrf(k)


@pytest.mark.parametrize("budget_s", [0.0, -1.0])
def test_a_budget_is_some_time(budget_s: float) -> None:
    with pytest.raises(InvalidArgumentError, match="budget"):
        RerankPlan("model", budget_s=budget_s)


def test_texts_are_measured_in_bytes() -> None:
    check_query_text("é" * (MAX_QUERY_BYTES // 2))
    with pytest.raises(InvalidArgumentError, match="query"):
        check_query_text("é" * (MAX_QUERY_BYTES // 2) + "x")


def test_default_weights_depend_on_the_fusion() -> None:
    weights = {a.name: a.weight for a in plan_default_arms(("bm25", "dense"), WeightedSum())}
    assert weights == {"bm25": 0.25, "dense": 0.75}
    assert {a.weight for a in plan_default_arms(("bm25", "dense"), Rrf())} == {1.0}


@given(text=st.text(max_size=20))
def test_a_configuration_is_of_the_ranking_not_of_the_question(text: str) -> None:
    asked = replace(QUERY, text=text, filter=Exists("tag"))
    assert asked.hash_configuration() == QUERY.hash_configuration()


def test_whatever_changes_the_order_changes_the_configuration() -> None:
    arm = ArmPlan("bm25")
    changed = [
        QUERY,
        replace(QUERY, arms=QUERY.arms[:1]),
        replace(QUERY, arms=(arm,)),
        replace(QUERY, arms=(replace(arm, depth=5),)),
        replace(QUERY, fusion=Rrf()),
        replace(QUERY, fusion=Rrf(k=7)),
        replace(QUERY, rerank=RerankPlan("a")),
        replace(QUERY, rerank=RerankPlan("b")),
        replace(QUERY, rerank=RerankPlan("b", depth=3)),
        replace(QUERY, rerank=RerankPlan("b", depth=3, min_relevance=0.5)),
        replace(QUERY, rerank=RerankPlan("b", depth=3, min_relevance=0.25)),
        replace(QUERY, rerank=RerankPlan("b", depth=3, before=(RerankStage("a", 9),))),
        replace(QUERY, rerank=RerankPlan("b", depth=3, before=(RerankStage("a", 8),))),
        replace(QUERY, rerank=RerankPlan("b", depth=3, before=(RerankStage("c", 9),))),
        replace(QUERY, rerank=RerankPlan("b", depth=3, before=(RerankStage("c", 9), RerankStage("a", 8)))),
    ]
    assert len({query.hash_configuration() for query in changed}) == len(changed)


def test_a_search_without_a_cascade_has_the_configuration_that_it_had_before_there_were_any() -> None:
    """What was logged by then goes on to be one configuration with what is logged now."""
    asked = replace(QUERY, rerank=RerankPlan("a-model", depth=20, budget_s=1.5))
    assert asked.hash_configuration() == "d8fdf36f0e577624"
