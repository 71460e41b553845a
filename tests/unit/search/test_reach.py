"""How far paging comes, and what of it no word matched."""

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.search.fakes import FixedArm, FixedDocuments, FixedScorer, Stack

from quarry.deadline import Deadline
from quarry.errors import RetrieverUnavailableError
from quarry.models.calibration import Calibration
from quarry.ranking.queries import MAX_RANKED, ArmPlan, RerankPlan, Rrf, WeightedSum
from quarry.ranking.ranking import Ranking, Reach, ReachLimit, RestByWords, Total

EXACT_0 = Total(0, exact=True)
CALIBRATION = Calibration(
    slope=1.0, intercept=0.0, source="judgments", queries=9, pairs=90, relevant=9, ece=0.02, ece_all=0.01
)
FUSIONS = (WeightedSum(), Rrf())


@pytest.fixture(scope="module")
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as made:
        yield made


def rank(threads: ThreadPoolExecutor, arms: Sequence[FixedArm], depth: int = 5, **changes: Any) -> Ranking:
    scorer = changes.pop("scorer", None)
    documents = FixedDocuments({n: {"text": "x" * (1 + n % 5)} for n in range(2_000)})
    stack = Stack(arms, threads, {}, scorer=scorer)
    plans = tuple(ArmPlan(arm.name, depth) for arm in arms)
    query = stack.make_query(**{"arms": plans, **changes})
    return asyncio.run(stack.searcher(documents).rank(query, Deadline.set_after(60.0)))


def bm25(count: int, **changes: Any) -> FixedArm:
    return FixedArm("bm25", {n: 9.0 - n / 1_000 for n in range(count)}, **changes)


def dense(*docnos: int) -> FixedArm:
    return FixedArm("dense", {n: 0.9 - n / 10_000 for n in docnos})


def exact(count: int) -> Total:
    return Total(count, exact=True)


def test_a_word_that_nothing_has_leaves_what_was_found_by_meaning(threads: ThreadPoolExecutor) -> None:
    for fusion in FUSIONS:
        ranking = rank(threads, [bm25(0), dense(7, 8, 9)], fusion=fusion)
        assert ranking.total == EXACT_0
        assert ranking.reach == Reach(exact(3), ReachLimit.NONE, exact(3))


def test_all_that_matches_can_be_reached_if_no_arm_cut_its_list(threads: ThreadPoolExecutor) -> None:
    for fusion in FUSIONS:
        ranking = rank(threads, [bm25(4), dense(3, 8)], fusion=fusion)
        assert (ranking.total, ranking.rest) == (exact(4), None)
        assert ranking.reach == Reach(exact(5), ReachLimit.NONE, exact(1))


def test_the_depth_that_a_search_states_limits_what_it_reaches(threads: ThreadPoolExecutor) -> None:
    """Document 20 matches a word: BM25 scores it, but has it below its depth."""
    ranking = rank(threads, [bm25(30), dense(3, 20, 50)])
    assert (ranking.total, ranking.rest) == (exact(30), None)
    assert ranking.reach == Reach(exact(7), ReachLimit.ARM_DEPTH, exact(1))


def test_rank_fusion_cannot_tell_which_of_the_dense_hits_match(threads: ThreadPoolExecutor) -> None:
    """One of the two may match, or both; of 26 that match beyond the depth it would take two."""
    ranking = rank(threads, [bm25(30), dense(3, 20, 50)], fusion=Rrf())
    assert ranking.reach == Reach(exact(7), ReachLimit.ARM_DEPTH, Total(0, exact=False))
    one = rank(threads, [bm25(6), dense(3, 20, 50)], fusion=Rrf())
    assert one.reach == Reach(exact(7), ReachLimit.ARM_DEPTH, Total(1, exact=False))


def test_a_list_that_goes_on_reaches_what_matches_below_it(threads: ThreadPoolExecutor) -> None:
    ranking = rank(threads, [bm25(30), dense(3, 20, 50)], deepens=True)
    assert ranking.reach == Reach(exact(31), ReachLimit.NONE, exact(1))
    assert isinstance(ranking.rest, RestByWords)
    assert ranking.rest.highest == ranking.documents[-1].score
    fused = rank(threads, [bm25(30), dense(3, 20, 50)], deepens=True, fusion=Rrf())
    assert fused.reach == Reach(Total(30, exact=False), ReachLimit.NONE, Total(0, exact=False))


def test_no_list_is_longer_than_a_thousand(threads: ThreadPoolExecutor) -> None:
    for fusion in FUSIONS:
        ranking = rank(threads, [bm25(1_500), dense(3)], deepens=True, fusion=fusion)
        assert ranking.reach.hits == exact(MAX_RANKED)
        assert ranking.reach.limit is ReachLimit.LIST_SIZE
        whole = rank(threads, [bm25(1_500), dense(3, 1_800)], depth=1_000, deepens=True, fusion=fusion)
        assert (whole.reach.hits, whole.reach.limit) == (exact(MAX_RANKED), ReachLimit.LIST_SIZE)
        assert whole.rest is None


def test_without_bm25_nobody_knows_what_matches(threads: ThreadPoolExecutor) -> None:
    """If it is not asked, what matches is counted all the same; if it fails, it is not."""
    ranking = rank(threads, [dense(3, 20)])
    assert ranking.reach == Reach(exact(2), ReachLimit.NONE, exact(2))
    failed = bm25(9, error=RetrieverUnavailableError("bm25", "away"))
    ranking = rank(threads, [failed, dense(3, 20)], deepens=True)
    assert ranking.reach == Reach(exact(2), ReachLimit.DEGRADED, Total(0, exact=False))
    assert ranking.rest is None


def test_with_a_bound_of_relevance_what_nobody_read_is_out_of_reach(threads: ThreadPoolExecutor) -> None:
    scorer = FixedScorer(calibration=CALIBRATION)
    arms = [bm25(4), dense(3, 8)]
    for depth, limit in ((2, ReachLimit.RERANK_DEPTH), (9, ReachLimit.NONE)):
        plan = RerankPlan("model", depth, min_relevance=0.1)
        ranking = rank(threads, arms, rerank=plan, scorer=scorer, deepens=True)
        kept = len(ranking.documents)
        assert (ranking.reach.hits, ranking.reach.limit, ranking.rest) == (exact(kept), limit, None)


def test_what_is_relevant_and_was_found_by_meaning_is_counted(threads: ThreadPoolExecutor) -> None:
    """Documents 3, 28 and 53 are relevant, and the first two match a word; BM25 has 28 below its depth."""
    arms = [bm25(30), dense(3, 28, 53)]
    plan = RerankPlan("model", 9, min_relevance=0.98)
    for fusion, by_meaning in ((WeightedSum(), exact(1)), (Rrf(), Total(0, exact=False))):
        scorer = FixedScorer(calibration=CALIBRATION)
        ranking = rank(threads, arms, 4, rerank=plan, scorer=scorer, fusion=fusion)
        assert {int(document.docno) for document in ranking.documents} == {3, 28, 53}
        assert ranking.reach == Reach(exact(3), ReachLimit.NONE, by_meaning)


@settings(deadline=None, max_examples=150)
@given(
    words=st.integers(0, 40),
    meant=st.sets(st.integers(0, 60), max_size=12),
    depth=st.integers(1, 20),
    deepens=st.booleans(),
    fusion=st.sampled_from(FUSIONS),
)
def test_what_is_said_of_the_reach_is_true(
    threads: ThreadPoolExecutor, words: int, meant: set[int], depth: int, deepens: bool, fusion: Any
) -> None:
    """Documents 0 to ``words - 1`` match; the dense arm knows those of ``meant``."""
    ranking = rank(threads, [bm25(words), dense(*meant)], depth, deepens=deepens, fusion=fusion)
    listed = {int(document.docno) for document in ranking.documents}
    reached = listed | set(range(words)) if ranking.rest is not None else listed
    by_meaning = sum(1 for docno in reached if docno >= words)
    for said, meant_count in (
        (ranking.reach.hits, len(reached)),
        (ranking.reach.found_by_meaning, by_meaning),
    ):
        assert said.count == meant_count if said.exact else said.count <= meant_count
    if ranking.reach.limit is ReachLimit.NONE:
        assert set(range(words)) <= reached
    if isinstance(fusion, WeightedSum):
        assert ranking.reach.hits.exact
        assert ranking.reach.found_by_meaning.exact


@settings(deadline=None, max_examples=100)
@given(
    words=st.integers(0, 40),
    meant=st.sets(st.integers(0, 60), max_size=12),
    depth=st.integers(1, 20),
    read=st.integers(1, 40),
    fusion=st.sampled_from(FUSIONS),
)
def test_what_is_said_of_relevant_hits_is_true(
    threads: ThreadPoolExecutor, words: int, meant: set[int], depth: int, read: int, fusion: Any
) -> None:
    """Documents are as before, and three fifths of them are not relevant."""
    ranking = rank(
        threads,
        [bm25(words), dense(*meant)],
        depth,
        rerank=RerankPlan("model", read, min_relevance=0.9),
        scorer=FixedScorer(calibration=CALIBRATION),
        deepens=True,
        fusion=fusion,
    )
    by_meaning = sum(1 for document in ranking.documents if document.docno >= words)
    said = ranking.reach.found_by_meaning
    assert ranking.reach.hits == exact(len(ranking.documents))
    assert said.count == by_meaning if said.exact else said.count <= by_meaning
    if isinstance(fusion, WeightedSum):
        assert said.exact
