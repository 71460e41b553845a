"""Verdicts by clicks."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from tests.unit.trainer.evaluation.simulated import World

from quarry.clicks.log import ClickLog
from quarry_trainer.evaluation import click_evaluation
from quarry_trainer.evaluation.click_evaluation import OrdersOf, evaluate_clicks
from quarry_trainer.evaluation.training_gate import TrainingGatePolicy
from quarry_trainer.measures import Orders

WORLD = World.observe(documents=10)


def giving(candidate: Orders, base: Orders) -> OrdersOf:
    def orders(queries: Mapping[str, str]) -> tuple[Orders, Orders]:
        assert all(text == name.upper() for name, text in queries.items())
        return {n: candidate[n] for n in queries}, {n: base[n] for n in queries}

    return orders


def refuse(queries: Mapping[str, str]) -> tuple[Orders, Orders]:
    raise AssertionError("nothing is to be ranked")


def test_a_better_and_a_worse_ranking_are_told_by_clicks() -> None:
    log = WORLD.log(6_000, seed=0)
    best, worst = WORLD.orders(WORLD.attraction), WORLD.orders(-WORLD.attraction)
    better = evaluate_clicks(log, giving(best, WORLD.logged()), "serving", compared_with="faq@1")
    assert better.verdict == "IMPROVED"
    assert (better.source, better.compared_with, better.queries) == ("clicks", "faq@1", 60)
    assert {e.subject for e in better.off_policy} == {"candidate", "serving", "difference"}
    assert better.metrics == ()
    assert better.details["held_out_searches"] == 1_800
    worse = evaluate_clicks(log, giving(worst, WORLD.logged()), "fused")
    assert worse.verdict == "REGRESSED"
    same = evaluate_clicks(log, giving(WORLD.logged(), WORLD.logged()), "fused")
    assert same.verdict == "NO_IMPROVEMENT"
    assert type(better).model_validate_json(better.model_dump_json()) == better


def test_clicks_on_documents_that_training_did_not_see_are_held_apart() -> None:
    """Known queries are ordered as well as can be, the others as badly."""
    log, policy = WORLD.log(6_000, seed=0), TrainingGatePolicy(min_unseen=5)
    best, worst = WORLD.orders(WORLD.attraction), WORLD.orders(-WORLD.attraction)
    unseen = sorted(best)[:5]
    mixed = giving({name: (worst if name in unseen else best)[name] for name in best}, WORLD.logged())
    typed = [f" {name.upper()} " for name in unseen]
    told = evaluate_clicks(log, mixed, "fused", unseen=typed, policy=policy)
    assert told.verdict == "NO_IMPROVEMENT"
    assert "documents that training did not see" in told.advice[0]
    assert told.details["unseen_queries"] == 5
    hidden = evaluate_clicks(log, mixed, "fused", policy=policy)
    assert (hidden.verdict, hidden.cautions) == ("IMPROVED", ("FEW_UNSEEN",))
    assert "0 of the queries, under 5" in " ".join(hidden.advice)
    good = evaluate_clicks(log, giving(best, WORLD.logged()), "fused", unseen=typed, policy=policy)
    assert (good.verdict, good.cautions) == ("IMPROVED", ())


def test_where_the_log_is_too_little_nothing_is_ranked() -> None:
    assert evaluate_clicks(ClickLog.from_pages([]), refuse, "fused").verdict == "INSUFFICIENT_DATA"
    unexplored = evaluate_clicks(WORLD.log(6_000, seed=0, swap=0.0), refuse, "fused")
    assert unexplored.verdict == "INSUFFICIENT_DATA"
    assert "swap_probability" in unexplored.advice[0]
    mine = WORLD.log(6_000, seed=0)
    poisoned = evaluate_clicks(replace(mine, owner=np.zeros_like(mine.owner)), refuse, "fused")
    assert poisoned.verdict == "BAD_DATA"


def test_a_ranking_of_what_nobody_saw_is_not_judged() -> None:
    world = World.observe(documents=30)
    strange = {query: ids[10:] for query, ids in world.logged().items()}
    found = evaluate_clicks(world.log(6_000, seed=0), giving(strange, world.logged()), "fused")
    assert found.verdict == "INSUFFICIENT_DATA"
    assert "displayed" in found.advice[0]


def test_what_was_decided_before_makes_it_harder() -> None:
    log = WORLD.log(6_000, seed=0)
    orders = giving(WORLD.orders(WORLD.attraction), WORLD.logged())
    later = evaluate_clicks(log, orders, "fused", earlier_decisions=1_000)
    assert later.verdict in ("IMPROVED", "NO_IMPROVEMENT")
    assert later.details["decides"] == {
        "level": pytest.approx(1 - 0.05 / 1_001**2),
        "earlier_decisions": 1_000,
    }


def test_no_more_queries_are_ranked_than_can_be_paid_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(click_evaluation, "MAX_QUERIES", 45)
    asked: list[set[str]] = []

    def orders(queries: Mapping[str, str]) -> tuple[Orders, Orders]:
        asked.append(set(queries))
        return giving(WORLD.orders(WORLD.attraction), WORLD.logged())(queries)

    log = WORLD.log(6_000, seed=0)
    for seed in (0, 0, 1):
        assert evaluate_clicks(log, orders, "fused", seed=seed).queries == 45
    assert asked[0] == asked[1] != asked[2]
