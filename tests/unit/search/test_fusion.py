import math
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from quarry.ranking.fusion import ArmRun, Fused, fuse_reciprocal_ranks, fuse_weighted_sums
from quarry.types import Candidate, Docno


def run(
    arm: str, scores: dict[int, float], weight: float = 1.0, low: float = 0.0, high: float = 10.0
) -> ArmRun:
    order = sorted(scores, key=lambda n: (-scores[n], n))
    return ArmRun(arm, [Candidate(Docno(n), scores[n]) for n in order], weight, low, high)


def scores(fused: Sequence[Fused]) -> dict[int, float]:
    return {int(f.docno): f.score for f in fused}


@st.composite
def runs(draw: st.DrawFn) -> list[ArmRun]:
    several = []
    for arm in draw(st.lists(st.sampled_from("abcd"), unique=True, max_size=4)):
        low = draw(st.floats(-10, 0))
        high = draw(st.one_of(st.just(low), st.floats(low, 20)))
        within: SearchStrategy[float] = st.floats(low, high) | st.sampled_from([low, high])
        found = draw(st.dictionaries(st.integers(0, 8), within, max_size=6))
        others = draw(st.dictionaries(st.integers(0, 8), within, max_size=4))
        made = run(arm, found, draw(st.floats(0, 1_000)), low, high)
        several.append(
            ArmRun(arm, made.candidates, made.weight, low, high, {Docno(n): s for n, s in others.items()})
        )
    return several


def test_reciprocal_ranks_are_those_of_a_worked_example() -> None:
    """1 / (60 + rank), by hand: d2 is second and first, d1 first only, d3 third and second."""
    fused = fuse_reciprocal_ranks([run("a", {1: 9, 2: 8, 3: 7}), run("b", {2: 5, 3: 4})])
    assert [f.docno for f in fused] == [2, 3, 1]
    assert scores(fused) == pytest.approx({2: 1 / 62 + 1 / 61, 3: 1 / 63 + 1 / 62, 1: 1 / 61}, abs=1e-15)
    assert fused[2].contributions == {"a": 1 / 61}


def test_reciprocal_ranks_are_weighed() -> None:
    fused = fuse_reciprocal_ranks([run("a", {1: 9}, weight=2.0), run("b", {2: 5}, weight=0.5)], k=1)
    assert scores(fused) == {1: 1.0, 2: 0.25}


def test_a_weighted_sum_is_that_of_a_worked_example() -> None:
    """BM25 of 5 in 0 to 10 is 0.5, a cosine of 0.6 is 0.8; weights 1 and 3 share as 1/4 and 3/4."""
    bm25 = run("bm25", {1: 5.0, 2: 10.0}, weight=1.0)
    dense = ArmRun("dense", [Candidate(Docno(1), 0.6)], 3.0, -1.0, 1.0, {Docno(2): 0.0})
    fused = fuse_weighted_sums([bm25, dense])
    assert scores(fused) == pytest.approx({1: 0.125 + 0.6, 2: 0.25 + 0.375})
    assert fused[0].contributions == pytest.approx({"bm25": 0.125, "dense": 0.6})


def test_what_an_arm_did_not_score_counts_as_its_lowest() -> None:
    fused = fuse_weighted_sums([run("a", {1: 8.0, 2: 4.0}), run("b", {3: 6.0})])
    assert scores(fused) == pytest.approx({1: 0.7, 2: 0.5, 3: 0.5})


def test_an_arm_without_candidates_adds_nothing() -> None:
    assert scores(fuse_weighted_sums([run("a", {1: 8.0}), run("b", {})])) == pytest.approx({1: 0.4})
    assert fuse_weighted_sums([]) == fuse_reciprocal_ranks([]) == []


@pytest.mark.parametrize(
    ("score", "bounded"), [(0.0, 0.0), (10.0, 1.0), (5.0, 0.5), (11.0, 1.0), (-1.0, 0.0)]
)
def test_scores_are_bounded_by_what_the_formula_can_give(score: float, bounded: float) -> None:
    assert run("a", {}).bound_score(score) == bounded
    assert run("a", {}, low=3.0, high=3.0).bound_score(score) == 0.0


@pytest.mark.parametrize("score", [0.0, 5.0, 10.0])
def test_equal_scores_are_in_order_of_docno(score: float) -> None:
    fused = fuse_weighted_sums([run("a", dict.fromkeys((3, 1, 2), score))])
    assert [f.docno for f in fused] == [1, 2, 3]
    assert {f.score for f in fused} == {score / 10}


@given(runs=runs(), random=st.randoms())
def test_fusion_ignores_the_order_of_its_runs(runs: list[ArmRun], random: Random) -> None:
    shuffled = random.sample(runs, len(runs))
    assert fuse_reciprocal_ranks(shuffled) == fuse_reciprocal_ranks(runs)
    assert fuse_weighted_sums(shuffled) == fuse_weighted_sums(runs)


@given(runs=runs())
def test_scores_are_bounded_and_the_sum_of_their_parts(runs: list[ArmRun]) -> None:
    found = {c.docno for r in runs for c in r.candidates}
    for fused in (fuse_weighted_sums(runs), fuse_reciprocal_ranks(runs)):
        assert {f.docno for f in fused} == found
        assert [(-f.score, f.docno) for f in fused] == sorted((-f.score, f.docno) for f in fused)
        for f in fused:
            assert f.score == math.fsum(f.contributions.values())
            assert all(part >= 0 for part in f.contributions.values())
    assert all(0 <= f.score <= 1 + 1e-12 for f in fuse_weighted_sums(runs))


@given(runs=runs(), factor=st.sampled_from([2.0, 0.5, 1024.0]))
def test_only_the_ratio_of_weights_counts(runs: list[ArmRun], factor: float) -> None:
    scaled = [ArmRun(r.arm, r.candidates, min(r.weight, 1.0) * factor, r.low, r.high, r.others) for r in runs]
    plain = [ArmRun(r.arm, r.candidates, min(r.weight, 1.0), r.low, r.high, r.others) for r in runs]
    assert scores(fuse_weighted_sums(scaled)) == pytest.approx(scores(fuse_weighted_sums(plain)))


@given(
    first=st.dictionaries(st.integers(0, 9), st.integers(0, 10).map(float), min_size=1),
    second=st.dictionaries(st.integers(0, 9), st.integers(0, 10).map(float)),
)
def test_all_weight_on_one_arm_gives_its_order(first: dict[int, float], second: dict[int, float]) -> None:
    whole, nothing = run("a", first), run("b", second, weight=0.0)
    for fuse in (fuse_weighted_sums, fuse_reciprocal_ranks):
        order = [f.docno for f in fuse([whole, nothing]) if f.docno in first]
        assert order == [c.docno for c in whole.candidates]


@given(runs=runs(), depth=st.integers(1, 5))
def test_depth_does_not_change_the_score_of_what_is_fully_scored(runs: list[ArmRun], depth: int) -> None:
    """A weighted sum needs nothing but the document's own scores and the query's bounds."""
    known = {r.arm: {**r.others, **{c.docno: c.score for c in r.candidates}} for r in runs}
    shallow = [ArmRun(r.arm, r.candidates[:depth], r.weight, r.low, r.high, known[r.arm]) for r in runs]
    deep = [ArmRun(r.arm, r.candidates, r.weight, r.low, r.high, known[r.arm]) for r in runs]
    reference = scores(fuse_weighted_sums(deep))
    for docno, score in scores(fuse_weighted_sums(shallow)).items():
        if all(docno in known[r.arm] for r in runs):
            assert score == pytest.approx(reference[docno])
