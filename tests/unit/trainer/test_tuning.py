"""Fitting how arms are merged: little moves little, what helps is found, and parts share nothing."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from google.longrunning import operations_pb2
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.training.samples import tuning_spec

from quarry.errors import Cancelled
from quarry.jobs.waited_for import read_operation
from quarry.mining.spec import JudgedQuery
from quarry.ranking.queries import DEFAULT_DEPTH
from quarry.ranking.ranking_configuration import RankingConfiguration
from quarry.ranking.weighting import list_traits
from quarry.training.spec import EvaluationReport, ModelVerdict
from quarry_trainer.data.linked_queries import number_components
from quarry_trainer.tuning.advice import with_advice
from quarry_trainer.tuning.fitting import (
    DEFAULT_SHARE,
    SHARES,
    USUAL,
    Float64,
    Gains,
    MergeChoice,
    Setting,
    fit,
)
from quarry_trainer.tuning.folds import split_folds
from quarry_trainer.tuning.tuning_data import MAX_QUERIES, draw_queries, read_chosen
from quarry_trainer.tuning.tuning_data import keep_judged as judged_data
from quarry_trainer.tuning.tuning_job import make_configuration
from quarry_trainer.tuning.verdict import Comparison, rule_by_judgments

BOTH = ("bm25", "dense")


def peaked(best: Float64, traits: Float64 | None = None, height: float = 0.2) -> Gains:
    """Queries whose nDCG@10 is highest at a share of their own, and ``height`` less far from it."""
    by_share = 0.9 - height * np.clip(np.abs(SHARES[None, :] - best[:, None]) / 0.5, 0, 1)
    none = np.zeros((len(best), len(list_traits())))
    return Gains(by_share, np.full(len(best), 0.1), none if traits is None else traits)


def shares_of(gains: Gains, choice: MergeChoice) -> list[float]:
    """Of each query, as a search works them out."""
    by = choice.by_query
    rows = [dict(zip(list_traits(), row, strict=True)) for row in gains.traits.tolist()]
    return [choice.share if by is None else by.compute_share(choice.share, row) for row in rows]


def worth(gains: Gains, choice: MergeChoice) -> float:
    """Mean nDCG@10 of queries that are merged by the choice."""
    merged = zip(gains.by_share, shares_of(gains, choice), strict=True)
    return float(np.mean([np.interp(share, SHARES, by_share) for by_share, share in merged]))


def fitted(gains: Gains, more: dict[Setting, Gains] | None = None) -> MergeChoice:
    return fit({USUAL: gains, **(more or {})}, range(len(gains.by_rrf)))


def test_few_queries_move_the_share_little_and_many_move_it_all_the_way() -> None:
    few, many = (fitted(peaked(np.full(n, 0.3))) for n in (4, 2_000))
    assert many.share == pytest.approx(0.3, abs=0.05)
    assert abs(few.share - DEFAULT_SHARE) < abs(many.share - DEFAULT_SHARE) / 2


def test_queries_that_do_not_care_leave_everything_at_the_default() -> None:
    traits = np.random.default_rng(0).normal(size=(50, len(list_traits())))
    flat = Gains(np.full((50, len(SHARES)), 0.5), np.full(50, 0.5), traits)
    assert fitted(flat, {Setting(2.0): flat, Setting(1.0, 200): flat}) == MergeChoice()


def test_a_share_that_depends_on_a_trait_is_found() -> None:
    random = np.random.default_rng(1)
    traits = random.normal(size=(600, len(list_traits())))
    best = np.where(traits[:, 4] > 0, 0.9, 0.3)
    gains = peaked(best, traits)
    choice = fitted(gains)
    assert choice.by_query is not None
    assert max(choice.by_query.traits, key=lambda n: abs(choice.by_query.traits[n].slope)) == "agreement"  # type: ignore[union-attr]
    unseen = random.normal(size=(200, len(list_traits())))
    held_out = peaked(np.where(unseen[:, 4] > 0, 0.9, 0.3), unseen)
    one_for_all = MergeChoice(choice.setting, choice.share)
    assert worth(held_out, choice) - worth(held_out, one_for_all) > 0.03
    assert all(0 < share < 1 for share in shares_of(held_out, choice))


def test_a_trait_that_is_the_same_for_all_queries_is_left_out() -> None:
    traits = np.random.default_rng(2).normal(size=(400, len(list_traits())))
    traits[:, 0] = 7.0
    choice = fitted(peaked(np.where(traits[:, 4] > 0, 0.9, 0.3), traits))
    assert choice.by_query is not None
    assert "words" not in choice.by_query.traits


def test_a_title_weight_is_taken_where_it_pays_and_a_depth_where_that_is_sure() -> None:
    usual, better = peaked(np.full(200, 0.75)), peaked(np.full(200, 0.75), height=0.0)
    lifted = Gains(better.by_share + 0.05, better.by_rrf, better.traits)
    assert fitted(usual, {Setting(4.0): lifted}).setting == Setting(4.0)
    assert fitted(usual, {Setting(1.0, 200): lifted}).setting == Setting(1.0, 200)
    noise = np.random.default_rng(3).normal(scale=0.1, size=(200, 1))
    hardly = Gains(usual.by_share + noise - noise.mean() + 1e-3, usual.by_rrf, usual.traits)
    assert fitted(usual, {Setting(1.0, 200): hardly}).setting.depth == DEFAULT_DEPTH


def test_reciprocal_ranks_are_taken_where_they_are_surely_better() -> None:
    gains = peaked(np.full(100, 0.6))
    assert fitted(Gains(gains.by_share, np.full(100, 0.95), gains.traits)).rrf
    assert not fitted(Gains(gains.by_share, np.full(100, 0.9), gains.traits)).rrf


def test_a_choice_becomes_a_configuration_of_the_arms_that_there_are() -> None:
    assert make_configuration(MergeChoice(), BOTH) == RankingConfiguration(
        weights={"bm25": 0.25, "dense": 0.75}
    )
    assert make_configuration(MergeChoice(rrf=True), BOTH).weights == {"bm25": 1.0, "dense": 1.0}
    assert make_configuration(MergeChoice(Setting(2.0, 50)), ("bm25",)) == RankingConfiguration(
        weights={"bm25": 0.25}, boost_scale=2.0, depth=50
    )


def query(id: str, text: str, *relevant: str, other: str = "") -> JudgedQuery:
    judgments = dict.fromkeys(relevant, 1) | ({other: 0} if other else {})
    return JudgedQuery(id=id, text=text, judgments=judgments)


def test_queries_that_share_a_relevant_document_or_a_text_are_one_component() -> None:
    queries = [
        query("1", "a", "d1"), query("2", "b", "d1", "d2"), query("3", "c", "d2"),
        query("4", "D ", "d3"), query("5", "d", "d4"), query("6", "e", "d5", other="d1"),
    ]  # fmt: skip
    found = number_components(queries)
    assert found[0] == found[1] == found[2]
    assert found[3] == found[4]
    assert len(set(found)) == 3


@given(components=st.lists(st.integers(0, 12), min_size=1, max_size=60), seed=st.integers(0, 9))
def test_parts_keep_components_whole(components: list[int], seed: int) -> None:
    parts = split_folds(components, seed)
    for component in set(components):
        assert len({part for part, own in zip(parts, components, strict=True) if own == component}) == 1
    assert split_folds(components, seed) == parts


def test_parts_of_single_queries_are_of_one_size() -> None:
    parts = split_folds(range(50), 0)
    assert [parts.count(part) for part in range(5)] == [10] * 5


def compared(tuned_first: bool, queries: int = 60) -> Comparison:
    asked = [query(f"q{n}", f"text {n}", f"d{n}") for n in range(queries)]
    first = {q.id: (f"d{q.id[1:]}", "x") for q in asked}
    second = {q.id: ("x", f"d{q.id[1:]}") for q in asked}
    return Comparison.search(asked, *((first, second) if tuned_first else (second, first)))


def test_the_gate_looks_at_what_people_would_see() -> None:
    better = rule_by_judgments(compared(True), 0, "")
    assert (better.verdict, better.queries, better.cautions) == ("IMPROVED", 60, ())
    assert rule_by_judgments(compared(False), 0, "").verdict == "REGRESSED"
    same = compared(True)
    unchanged = Comparison(same.judged, same.clusters, same.tuned, same.tuned, same.found, changed=False)
    assert rule_by_judgments(unchanged, 0, "").verdict == "NO_IMPROVEMENT"
    assert rule_by_judgments(compared(True, 10), 0, "").verdict == "INSUFFICIENT_DATA"


def advised(verdict: ModelVerdict, **serving: Any) -> EvaluationReport:
    return with_advice(EvaluationReport(verdict=verdict, advice=("first",)), tuning_spec(**serving))


def test_what_ends_the_relevance_of_hits_is_a_caution_and_says_what_to_do() -> None:
    found = advised("IMPROVED", reranker="faq@3", calibrated=("faq@3",))
    assert found.cautions == ("NO_RELEVANCE",)
    assert found.advice[0] == "first"
    assert "the relevance of faq@3" in found.advice[-1]
    assert "train the re-ranker again" in found.advice[-1]
    assert "quarry tune faq --rollback" in found.advice[-1]
    unproven = advised("NO_IMPROVEMENT", reranker="faq@3", calibrated=("faq@3",))
    assert (unproven.cautions, unproven.advice) == ((), found.advice)
    without = advised("IMPROVED", reranker="faq@3")
    assert (without.cautions, without.advice) == ((), found.advice[:-1])


def test_judgments_of_documents_that_nobody_holds_are_bad_data() -> None:
    asked = [query(f"q{n}", f"text {n}", f"d{n}") for n in range(30)]
    orders = {q.id: ("x", "y") for q in asked}
    assert rule_by_judgments(Comparison.search(asked, orders, orders), 0, "").verdict == "BAD_DATA"


def test_of_many_queries_some_are_drawn_the_same_ones_by_the_same_seed() -> None:
    many = judged_data([query(f"q{n}", f"text {n}", f"d{n}") for n in range(MAX_QUERIES + 500)])
    some = draw_queries(many, 1)
    assert len(some.queries) == MAX_QUERIES
    kept = {q.id for q in some.queries}
    assert [q.id for q in some.queries] == [q.id for q in many.queries if q.id in kept]
    assert draw_queries(many, 1) == some
    assert draw_queries(many, 2) != some
    one = JudgedQuery(id="a", text="red fruit", judgments={"d": 1})
    other = JudgedQuery(id="b", text="Red fruit?", judgments={"d": 0})
    settled = judged_data([one, other])
    assert [query.judgments for query in settled.queries] == [{"d": 1}, {"d": 1}]
    assert settled.disputed == (("red fruit", "d"),), "as in mining, it counts as relevant and is named"
    few = judged_data([query("q", "text", "d"), JudgedQuery(id="n", text="none", judgments={"d": 0})])
    assert draw_queries(few, 0) == few
    assert [q.id for q in few.queries] == ["q"]


class MiningUntilCancelled:
    """A server that begins to mine, and of which nobody gets the result."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.noted = folder, ""
        self.mining = SimpleNamespace(MineHardNegatives=None)

    def ask(self, _call: object, _request: object) -> operations_pb2.Operation:
        return operations_pb2.Operation(name="operations/mine-1")

    def finish(self, _operation: object, _heard: object) -> operations_pb2.Operation:
        self.noted = read_operation(self._folder)
        raise Cancelled("cancelled")


def test_the_mining_that_is_waited_for_is_written_down(tmp_path: Path) -> None:
    server = MiningUntilCancelled(tmp_path)
    with pytest.raises(Cancelled):
        read_chosen(server, tuning_spec(), tmp_path, tmp_path)  # type: ignore[arg-type]
    assert server.noted == "mine-1"
