"""An arm or a re-ranker that is late, down or behind: the answer says so, or the call fails as asked."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.unit.search.fakes import PLAN, FixedArm, FixedDocuments, FixedScorer, Stack

from quarry.deadline import Deadline
from quarry.errors import (
    DeadlineExceeded,
    LimitExceededError,
    ModelError,
    QuarryError,
    RetrieverUnavailableError,
    UnavailableError,
)
from quarry.filters import EqualTo
from quarry.ranking.queries import ArmPlan, RerankPlan, Rrf
from quarry.ranking.ranking import Degradation, DegradationReason, DegradedStage, Ranking
from quarry.search.answer_schedule import Slot
from quarry.search.shortfalls import ArmState

BM25 = {1: 5.0, 2: 4.0, 3: 3.0}
DENSE = {3: 0.9, 4: 0.8, 5: 0.7}
DOWN = RetrieverUnavailableError("any", "it is down")


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def past_its_limit() -> Slot:
    """The slot of a search that waits no longer for what its answer can do without, and has for ever for the
    rest: whoever waits for the deadline waits for good."""
    return Slot(Deadline(), limit=Deadline.set_after(0.0), last=Deadline())


def named(ranking: Ranking) -> list[tuple[DegradedStage, DegradationReason]]:
    return [(d.stage, d.reason) for d in ranking.degraded]


def ids(ranking: Ranking) -> list[str]:
    return [document.id for document in ranking.documents]


async def test_both_arms_well_is_a_complete_answer(threads: ThreadPoolExecutor) -> None:
    stack = Stack([FixedArm("bm25", BM25), FixedArm("dense", DENSE, others={1: 0.1, 2: 0.2})], threads)
    ranking = await stack.searcher().rank(stack.make_query(), Deadline.set_after(5))
    assert not ranking.degraded
    assert sorted(ids(ranking)) == ["d1", "d2", "d3", "d4", "d5"]
    assert (ranking.total.count, ranking.total.exact) == (3, True)


async def test_a_late_dense_arm_leaves_bm25s_answer_within_the_deadline(threads: ThreadPoolExecutor) -> None:
    deadline = Deadline.set_after(1.0)
    assert Slot.make_single(deadline).limit.at_s < deadline.at_s
    late = FixedArm("dense", DENSE, stuck=True)
    stack = Stack([FixedArm("bm25", BM25), late], threads)
    async with asyncio.timeout(60):
        ranking = await stack.searcher().rank(stack.make_query(), Deadline(), past_its_limit())
    assert ids(ranking) == ["d1", "d2", "d3"]
    assert named(ranking) == [("dense", DegradationReason.TIMEOUT)]
    assert late.cancelled.is_set()


async def test_the_first_arm_is_waited_for_when_all_are_late(threads: ThreadPoolExecutor) -> None:
    """An answer without any arm is none: the limit is for what an answer can do without."""
    slow, late = FixedArm("bm25", BM25, stuck=True), FixedArm("dense", DENSE, stuck=True)
    deadline = Deadline.set_after(30.0)
    slot = Slot(deadline, limit=Deadline.set_after(0.0), last=deadline)
    stack = Stack([slow, late], threads)
    searching = asyncio.create_task(stack.searcher().rank(stack.make_query(fusion=Rrf()), deadline, slot))
    await asyncio.gather(slow.asked.wait(), late.asked.wait())
    assert not late.cancelled.is_set()
    slow.let_go.set()
    ranking = await searching
    assert ids(ranking) == ["d1", "d2", "d3"]
    assert named(ranking) == [("dense", DegradationReason.TIMEOUT)]


async def test_an_arm_that_is_down_is_named(threads: ThreadPoolExecutor) -> None:
    stack = Stack([FixedArm("bm25", {}, error=DOWN), FixedArm("dense", DENSE)], threads)
    ranking = await stack.searcher().rank(stack.make_query(), Deadline())
    assert ids(ranking) == ["d3", "d4", "d5"]
    assert named(ranking) == [
        ("bm25", DegradationReason.UNAVAILABLE),
        (DegradedStage.TOTAL, DegradationReason.UNAVAILABLE),
    ]
    assert (ranking.total.count, ranking.total.exact) == (0, False)


@pytest.mark.parametrize("error", [ModelError("gave no vector"), LimitExceededError("too much waits")])
async def test_any_error_of_an_arm_is_its_own(threads: ThreadPoolExecutor, error: QuarryError) -> None:
    stack = Stack([FixedArm("bm25", BM25), FixedArm("dense", {}, error=error)], threads)
    ranking = await stack.searcher().rank(stack.make_query(), Deadline())
    assert named(ranking) == [("dense", DegradationReason.UNAVAILABLE)]


async def test_an_arms_own_deadline_is_a_timeout(threads: ThreadPoolExecutor) -> None:
    stack = Stack([FixedArm("bm25", BM25), FixedArm("dense", {}, error=DeadlineExceeded("late"))], threads)
    assert named(await stack.searcher().rank(stack.make_query(), Deadline())) == [
        ("dense", DegradationReason.TIMEOUT)
    ]


async def test_no_arm_at_all_is_an_error(threads: ThreadPoolExecutor) -> None:
    down = Stack([FixedArm("bm25", {}, error=DOWN), FixedArm("dense", {}, error=DOWN)], threads)
    with pytest.raises(UnavailableError):
        await down.searcher().rank(down.make_query(), Deadline())
    late = Stack([FixedArm("bm25", {}, stuck=True), FixedArm("dense", {}, stuck=True)], threads)
    with pytest.raises(DeadlineExceeded):
        await late.searcher().rank(late.make_query(), Deadline.set_after(0.05))


async def test_an_answer_that_must_be_complete_fails_instead(threads: ThreadPoolExecutor) -> None:
    for arm, error in (
        (FixedArm("dense", DENSE, stuck=True), DeadlineExceeded),
        (FixedArm("dense", DENSE, error=DOWN), UnavailableError),
        (FixedArm("dense", DENSE, stuck_completing=True), DeadlineExceeded),
    ):
        stack = Stack([FixedArm("bm25", BM25), arm], threads)
        with pytest.raises(error):
            await stack.searcher().rank(stack.make_query(require_complete=True), Deadline.set_after(0.1))


async def test_a_cut_query_is_flagged_and_still_complete(threads: ThreadPoolExecutor) -> None:
    stack = Stack([FixedArm("bm25", BM25), FixedArm("dense", DENSE, truncated=True)], threads)
    ranking = await stack.searcher().rank(stack.make_query(require_complete=True), Deadline())
    assert named(ranking) == [("dense", DegradationReason.TRUNCATED_QUERY)]


async def test_an_arm_that_cannot_score_the_others_candidates_gives_them_its_floor(
    threads: ThreadPoolExecutor,
) -> None:
    stack = Stack([FixedArm("bm25", BM25), FixedArm("dense", DENSE, stuck_completing=True)], threads)
    ranking = await stack.searcher().rank(stack.make_query(), Deadline(), past_its_limit())
    assert named(ranking) == [("dense", DegradationReason.TIMEOUT)]
    shares = {d.id: d.arms["dense"].contribution for d in ranking.documents}
    assert shares["d1"] == shares["d2"] == shares["d5"] > 0


async def test_rrf_asks_no_arm_for_others_candidates(threads: ThreadPoolExecutor) -> None:
    stack = Stack([FixedArm("bm25", BM25), FixedArm("dense", DENSE, stuck_completing=True)], threads)
    arms = (ArmPlan("bm25"), ArmPlan("dense"))
    ranking = await stack.searcher().rank(stack.make_query(fusion=Rrf(), arms=arms), Deadline.set_after(5))
    assert not ranking.degraded
    assert ids(ranking)[0] == "d3"


async def test_an_arm_that_is_rebuilding_is_flagged(threads: ThreadPoolExecutor) -> None:
    states = {"dense": ArmState(0, "it does not hold all documents yet")}
    stack = Stack([FixedArm("bm25", BM25), FixedArm("dense", DENSE)], threads, states=states)
    ranking = await stack.searcher().rank(stack.make_query(), Deadline())
    assert named(ranking) == [("dense", DegradationReason.REBUILDING)]
    with pytest.raises(UnavailableError):
        await stack.searcher().rank(stack.make_query(require_complete=True), Deadline())
    browsing = Stack([FixedArm("bm25", {})], threads, states={"bm25": ArmState(0, "it lags")})
    assert named(await browsing.searcher().rank(browsing.make_query(""), Deadline())) == [
        ("bm25", DegradationReason.REBUILDING)
    ]


async def test_a_cancelled_search_stops_its_arms(threads: ThreadPoolExecutor) -> None:
    arms = [FixedArm("bm25", {}, stuck=True), FixedArm("dense", {}, stuck=True)]
    stack = Stack(arms, threads)
    search = asyncio.create_task(stack.searcher().rank(stack.make_query(), Deadline()))
    for arm in arms:
        await arm.asked.wait()
    search.cancel()
    with pytest.raises(asyncio.CancelledError):
        await search
    assert all(arm.cancelled.is_set() for arm in arms)


async def test_hits_that_are_gone_or_no_longer_pass_are_dropped(threads: ThreadPoolExecutor) -> None:
    """Indexes lag behind the log; the log decides."""
    documents = {1: {"tag": "a"}, 2: {"tag": "b"}, 4: {"tag": "a"}}
    states = {"bm25": ArmState(0, None), "dense": ArmState(0, None)}
    arms = [FixedArm("bm25", BM25), FixedArm("dense", DENSE)]
    stack = Stack(arms, threads, documents=documents, states=states)  # type: ignore[arg-type]
    ranking = await stack.searcher().rank(stack.make_query(filter=EqualTo("tag", "a")), Deadline())
    assert sorted(ids(ranking)) == ["d1", "d4"]
    assert [d.fused_rank for d in ranking.documents] == [1, 2]


@pytest.mark.parametrize("behind", ["bm25", "dense"])
async def test_while_one_arm_is_behind_no_hit_fails_the_filter(
    threads: ThreadPoolExecutor, behind: str
) -> None:
    """What an arm has not read yet may pass the filter there, however far the other arm is."""
    log = FixedDocuments({n: {"tag": "a"} for n in range(1, 6)}, version=1)
    log.put(4, {"tag": "b"}, version=3)
    states = {name: ArmState(1 if name == behind else 9, None) for name in ("bm25", "dense")}
    stack = Stack([FixedArm("bm25", BM25), FixedArm("dense", DENSE)], threads, states=states)
    ranking = await stack.searcher(log).rank(stack.make_query(filter=EqualTo("tag", "a")), Deadline())
    assert sorted(ids(ranking)) == ["d1", "d2", "d3", "d5"]


async def test_documents_with_equal_scores_stand_in_the_order_of_their_ids(
    threads: ThreadPoolExecutor,
) -> None:
    """Their numbers say in which order they were written, which another copy of the collection need not."""
    stack = Stack([FixedArm("bm25", dict.fromkeys((9, 10, 2, 21), 5.0))], threads)
    ranking = await stack.searcher().rank(stack.make_query(), Deadline())
    assert ids(ranking) == ["d10", "d2", "d21", "d9"]


async def test_a_dense_search_counts_what_matches_by_words(threads: ThreadPoolExecutor) -> None:
    documents = {1: {"text": "red"}, 2: {"text": "red blue"}, 3: {"text": "green"}}
    stack = Stack([FixedArm("dense", dict.fromkeys(documents, 0.5))], threads, documents=documents)  # type: ignore[arg-type]
    ranking = await stack.searcher().rank(stack.make_query("red"), Deadline())
    assert (ranking.total.count, ranking.total.exact, len(ranking.documents)) == (2, True, 3)


@pytest.fixture
def ranked_arms() -> list[FixedArm]:
    return [FixedArm("bm25", {n: 10.0 - n for n in range(1, 9)})]


async def test_the_first_candidates_are_reranked_and_the_rest_stay_below(
    threads: ThreadPoolExecutor, ranked_arms: list[FixedArm]
) -> None:
    stack = Stack(ranked_arms, threads, scorer=FixedScorer())
    ranking = await stack.searcher().rank(stack.make_query(rerank=PLAN), Deadline())
    assert ids(ranking) == ["d3", "d2", "d1", "d4", "d5", "d6", "d7", "d8"]
    assert [d.rerank_score for d in ranking.documents] == [3.0, 2.0, 1.0, *[None] * 5]
    assert (ranking.reranker, ranking.degraded) == ("model", ())


async def test_the_depth_of_reranking_shrinks_with_the_time_that_is_left(
    threads: ThreadPoolExecutor, ranked_arms: list[FixedArm]
) -> None:
    scorer = FixedScorer(fits=2)
    stack = Stack(ranked_arms, threads, scorer=scorer)
    ranking = await stack.searcher().rank(stack.make_query(rerank=PLAN), Deadline.set_after(5))
    assert ids(ranking)[:4] == ["d2", "d1", "d3", "d4"]
    assert named(ranking) == [(DegradedStage.RERANK, DegradationReason.REDUCED_DEPTH)]
    assert 0 < scorer.seconds[0] <= 5
    budgeted = RerankPlan("model", 3, budget_s=1.0)
    await stack.searcher().rank(stack.make_query(rerank=budgeted), Deadline())
    assert 0 < scorer.seconds[1] <= 1
    with pytest.raises(DeadlineExceeded):
        await stack.searcher().rank(stack.make_query(rerank=PLAN, require_complete=True), Deadline())
    scorer.fits = 0
    ranking = await stack.searcher().rank(stack.make_query(rerank=PLAN), Deadline())
    assert (ids(ranking)[0], ranking.reranker) == ("d1", "")
    assert named(ranking) == [(DegradedStage.RERANK, DegradationReason.REDUCED_DEPTH)]


@pytest.mark.parametrize(
    ("scorer", "reason", "error"),
    [
        (FixedScorer(stuck=True), DegradationReason.TIMEOUT, DeadlineExceeded),
        (FixedScorer(error=ModelError("gave NaN")), DegradationReason.UNAVAILABLE, UnavailableError),
        (FixedScorer(error=DeadlineExceeded("too much waits")), DegradationReason.TIMEOUT, DeadlineExceeded),
        (ModelError("it is not loaded"), DegradationReason.UNAVAILABLE, UnavailableError),
    ],
    ids=["late", "failing", "too busy", "absent"],
)
async def test_a_reranker_that_fails_leaves_the_fused_order(
    threads: ThreadPoolExecutor,
    ranked_arms: list[FixedArm],
    scorer: FixedScorer | ModelError,
    reason: DegradationReason,
    error: type[QuarryError],
) -> None:
    stack = Stack(ranked_arms, threads, scorer=scorer)
    ranking = await stack.searcher().rank(stack.make_query(rerank=PLAN), Deadline(), past_its_limit())
    assert ids(ranking) == [f"d{n}" for n in range(1, 9)]
    assert named(ranking) == [(DegradedStage.RERANK, reason)]
    assert not ranking.reranker
    with pytest.raises(error):
        await stack.searcher().rank(
            stack.make_query(rerank=PLAN, require_complete=True), Deadline(), past_its_limit()
        )


def test_a_cut_query_alone_is_not_an_incomplete_answer() -> None:
    for reason in DegradationReason:
        assert Degradation("dense", reason, "").incomplete is (
            reason is not DegradationReason.TRUNCATED_QUERY
        )
