"""A small model reads many candidates, a larger one the best of those; what one lacks is named."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.search.fakes import FixedArm, FixedDocuments, FixedScorer, Stack, Texts

from quarry.deadline import Deadline
from quarry.errors import (
    DeadlineExceeded,
    InvalidArgumentError,
    ModelError,
    QuarryError,
    UnavailableError,
)
from quarry.models.blend import Blend
from quarry.ranking.cascade import (
    MAX_STAGES,
    OWN,
    Cascade,
    RerankStage,
    check_cascade,
    check_usual,
    choose_usual_cascade,
    resolve_asked_cascade,
)
from quarry.ranking.queries import RerankPlan
from quarry.ranking.ranking import DegradationReason, DegradedStage, RankedDocument, Ranking, RerankScore
from quarry.ranking.relevance import FusedScale
from quarry.search.reranking import CrossEncoderReranking
from quarry.types import Docno

SIX = (RerankStage("small", 6), RerankStage("large", 3))
PLAN = RerankPlan.from_stages(SIX)
Scorers = dict[str, FixedScorer | QuarryError]


@pytest.fixture(scope="module")
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


Rank = Callable[..., "Ranked"]


class Ranked:
    """What a search with two models gave: ``small`` likes long texts, ``large`` short ones.

    The fused order of the eight documents is that of their numbers, and so is their length.
    """

    def __init__(self, ranking: Ranking) -> None:
        self.ranking = ranking
        self.order = [int(document.docno) for document in ranking.documents]
        self.lacking = [(d.stage, d.reason, d.model) for d in ranking.degraded]


@pytest.fixture
def rank(threads: ThreadPoolExecutor) -> Rank:
    async def search(plan: RerankPlan = PLAN, complete: bool = False, **scorers: object) -> Ranked:
        models: Scorers = {"small": FixedScorer(), "large": FixedScorer(sign=-1), **scorers}  # type: ignore[dict-item]
        stack = Stack([FixedArm("bm25", {n: 10.0 - n for n in range(1, 9)})], threads, scorer=models)
        query = stack.make_query(rerank=plan, require_complete=complete)
        return Ranked(await stack.searcher().rank(query, Deadline()))

    return search


async def test_the_second_model_reads_the_best_of_the_first_and_the_rest_stays_below(rank: Rank) -> None:
    small, large = FixedScorer(), FixedScorer(sign=-1)
    found = await rank(small=small, large=large)
    assert found.order == [4, 5, 6, 3, 2, 1, 7, 8]
    assert small.read == ["x" * n for n in range(1, 7)]
    assert large.read == ["x" * n for n in (6, 5, 4)]
    assert found.ranking.rerankers == ("small", "large")
    assert (found.ranking.reranker, found.ranking.degraded) == ("large", ())


async def test_every_score_says_which_model_gave_it(rank: Rank) -> None:
    found = await rank()
    readings = {int(d.docno): d.readings for d in found.ranking.documents}
    assert readings[4] == (RerankScore("small", 4.0), RerankScore("large", -4.0))
    assert readings[1] == (RerankScore("small", 1.0),)
    assert readings[7] == ()
    assert [d.rerank_score for d in found.ranking.documents] == [-4, -5, -6, 3, 2, 1, None, None]


async def test_each_model_blends_in_its_own_way(rank: Rank) -> None:
    found = await rank(
        small=FixedScorer(blend=Blend(rerank=2, fused=1)),
        large=FixedScorer(sign=-1, blend=Blend(rerank=0.5, fused=100)),
    )
    for document in found.ranking.documents:
        match [reading.model for reading in document.readings]:
            case [_, "large"]:
                assert document.score == 100 * document.fused_score - 0.5 * int(document.docno)
            case ["small"]:
                assert document.score == 2 * int(document.docno) + document.fused_score
            case _:
                assert document.score == document.fused_score


async def test_three_models_read_one_after_another(rank: Rank) -> None:
    stages = (*SIX, RerankStage("largest", 2))
    found = await rank(RerankPlan.from_stages(stages), largest=FixedScorer())
    assert found.order == [5, 4, 6, 3, 2, 1, 7, 8]
    assert found.ranking.rerankers == ("small", "large", "largest")


@given(wide=st.integers(1, 8), narrow=st.integers(1, 8), other=st.integers(1, 8))
async def test_a_score_depends_on_no_depth(wide: int, narrow: int, other: int) -> None:
    async def readings(first: int, second: int) -> dict[str, tuple[RerankScore, ...]]:
        plan = RerankPlan.from_stages(
            (RerankStage("small", max(first, second)), RerankStage("large", min(first, second)))
        )
        return {document.id: document.readings for document in await reranked(plan)}

    one, another = await readings(wide, narrow), await readings(wide, other)
    for id, read in one.items():
        shared = min(len(read), len(another[id]))
        assert read[:shared] == another[id][:shared]


async def reranked(plan: RerankPlan, texts: Texts | None = None) -> list[RankedDocument]:
    """Eight documents, re-ranked by the usual two models."""
    log = FixedDocuments({n: {"text": "x" * n} for n in range(1, 9)})
    models = {"small": FixedScorer(), "large": FixedScorer(sign=-1)}
    ranked = [RankedDocument(Docno(n), f"d{n}", 1, 0.5) for n in range(1, 9)]
    reranking = CrossEncoderReranking(models.__getitem__, texts or Texts(log))
    order, degraded = await reranking.rerank(plan, "words", ranked, FusedScale(), Deadline())
    assert not degraded
    assert sorted(document.id for document in order) == sorted(document.id for document in ranked)
    return order


async def test_a_passage_is_looked_up_once_for_all_stages() -> None:
    texts = Texts(FixedDocuments({n: {"text": "x" * n} for n in range(1, 9)}))
    await reranked(PLAN, texts)
    assert texts.asked == [[f"d{n}" for n in range(1, 7)]]


async def test_models_are_taken_once_at_the_beginning() -> None:
    """One that is retired while another reads has begun to serve this search, and ends it."""
    models = {"small": FixedScorer(), "large": FixedScorer(sign=-1)}

    class Retiring(Texts):
        async def read_texts(self, query: str, ranked: Sequence[RankedDocument]) -> list[str]:
            models.clear()
            return await super().read_texts(query, ranked)

    texts = Retiring(FixedDocuments({n: {"text": "x" * n} for n in range(1, 9)}))
    ranked = [RankedDocument(Docno(n), f"d{n}", 1, 0.5) for n in range(1, 9)]
    reranking = CrossEncoderReranking(models.__getitem__, texts)
    order, degraded = await reranking.rerank(PLAN, "words", ranked, FusedScale(), Deadline())
    assert not degraded
    assert [document.id for document in order[:3]] == ["d4", "d5", "d6"]


@pytest.mark.parametrize(
    ("lacking", "reason", "error"),
    [
        (FixedScorer(fits=0), DegradationReason.REDUCED_DEPTH, DeadlineExceeded),
        (FixedScorer(stuck=True), DegradationReason.TIMEOUT, DeadlineExceeded),
        (FixedScorer(error=DeadlineExceeded("too much waits")), DegradationReason.TIMEOUT, DeadlineExceeded),
        (FixedScorer(error=ModelError("gave NaN")), DegradationReason.UNAVAILABLE, UnavailableError),
        (ModelError("it is not loaded"), DegradationReason.UNAVAILABLE, UnavailableError),
    ],
    ids=["no time", "late", "too busy", "failing", "absent"],
)
async def test_a_second_model_that_cannot_read_leaves_the_order_of_the_first_and_is_named(
    rank: Rank, lacking: FixedScorer | QuarryError, reason: DegradationReason, error: type[QuarryError]
) -> None:
    plan = replace(PLAN, budget_s=0.5)
    found = await rank(plan, large=lacking)
    assert found.order == [6, 5, 4, 3, 2, 1, 7, 8]
    assert found.lacking == [(DegradedStage.RERANK, reason, "large")]
    assert found.ranking.rerankers == ("small",)
    with pytest.raises(error):
        await rank(plan, complete=True, large=lacking)


async def test_a_second_model_with_little_time_reads_the_best_of_the_first(rank: Rank) -> None:
    found = await rank(large=FixedScorer(sign=-1, fits=2))
    assert found.order == [5, 6, 4, 3, 2, 1, 7, 8]
    assert found.lacking == [(DegradedStage.RERANK, DegradationReason.REDUCED_DEPTH, "large")]


async def test_a_first_model_with_little_time_is_named_and_the_second_reads_on(rank: Rank) -> None:
    found = await rank(small=FixedScorer(fits=4))
    assert found.order == [2, 3, 4, 1, 5, 6, 7, 8]
    assert found.lacking == [(DegradedStage.RERANK, DegradationReason.REDUCED_DEPTH, "small")]
    assert found.ranking.rerankers == ("small", "large")


async def test_without_the_first_model_the_second_reads_the_best_fused_ones(rank: Rank) -> None:
    found = await rank(small=ModelError("it is not loaded"), large=FixedScorer())
    assert found.order == [3, 2, 1, 4, 5, 6, 7, 8]
    assert found.lacking == [(DegradedStage.RERANK, DegradationReason.UNAVAILABLE, "small")]
    assert found.ranking.rerankers == ("large",)


async def test_a_first_model_that_takes_all_the_time_leaves_the_fused_order_and_both_are_named(
    rank: Rank,
) -> None:
    stuck = {"small": FixedScorer(stuck=True), "large": FixedScorer(stuck=True)}
    found = await rank(replace(PLAN, budget_s=0.05), **stuck)
    assert found.order == [1, 2, 3, 4, 5, 6, 7, 8]
    assert found.lacking == [
        (DegradedStage.RERANK, DegradationReason.TIMEOUT, "small"),
        (DegradedStage.RERANK, DegradationReason.TIMEOUT, "large"),
    ]
    assert found.ranking.reranker == ""


async def test_the_budget_is_for_all_stages_together(rank: Rank) -> None:
    small, large = FixedScorer(), FixedScorer()
    await rank(replace(PLAN, budget_s=2.0), small=small, large=large)
    assert 2.0 >= small.seconds[0] >= large.seconds[0] > 0


@pytest.mark.parametrize(
    ("stages", "field"),
    [
        ([("a", 0)], "cascade[0].depth"),
        ([("a", 1_001)], "cascade[0].depth"),
        ([("a", 9), ("b", -1)], "cascade[1].depth"),
        ([("a", 9), ("b", 10)], "cascade[1].depth"),
        ([("a", 9), ("b", 3), ("c", 4)], "cascade[2].depth"),
        ([("a", 9), ("a", 3)], "cascade[1].model"),
        ([(OWN, 9), (OWN, 3)], "cascade[1].model"),
        ([(str(n), 9) for n in range(MAX_STAGES + 1)], "cascade"),
    ],
)
def test_a_cascade_that_is_wrong_is_refused_with_the_field(stages: list[tuple[str, int]], field: str) -> None:
    for check in (check_cascade, check_usual):
        with pytest.raises(InvalidArgumentError) as caught:
            check(cascade(stages))
        assert caught.value.field == field


def test_a_plan_checks_its_cascade() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        RerankPlan.from_stages(cascade([("a", 3), ("b", 4)]))
    assert caught.value.field == "cascade[1].depth"


def test_a_collections_cascade_has_a_place_for_its_reranker() -> None:
    check_usual(())
    check_usual(cascade([("a", 9), (OWN, 3)]))
    check_usual(cascade([(OWN, 9), ("a", 9)]))
    with pytest.raises(InvalidArgumentError, match="no stage without a model"):
        check_usual(cascade([("a", 9), ("b", 3)]))


def test_the_collections_reranker_takes_its_place_in_what_a_search_asks_for() -> None:
    assert resolve_asked_cascade(cascade([("a", 9), (OWN, 3)]), "faq@1") == cascade([("a", 9), ("faq@1", 3)])
    with pytest.raises(InvalidArgumentError) as caught:
        resolve_asked_cascade(cascade([("a", 9), (OWN, 3)]), "")
    assert caught.value.field == "cascade[1].model"


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        ([("a", 200), (OWN, 20)], [("a", 200)]),
        ([(OWN, 200), ("a", 20)], [("a", 200)]),
        ([("a", 200), ("b", 50), (OWN, 20)], [("a", 200), ("b", 50)]),
    ],
)
def test_a_promotion_makes_no_search_wrong_that_names_the_promoted_model(
    stages: list[tuple[str, int]], expected: list[tuple[str, int]]
) -> None:
    assert (
        resolve_asked_cascade(cascade(stages), "a")
        == cascade(expected)
        == choose_usual_cascade(cascade(stages), "a")
    )
    with pytest.raises(InvalidArgumentError, match="is there twice"):
        resolve_asked_cascade(cascade([("b", 200), ("b", 50), (OWN, 20)]), "a")


@pytest.mark.parametrize(
    ("stages", "own", "depth", "expected"),
    [
        ([], "faq@1", None, [("faq@1", 50)]),
        ([], "faq@1", 7, [("faq@1", 7)]),
        ([("a", 200), (OWN, 20)], "faq@1", None, [("a", 200), ("faq@1", 20)]),
        ([("a", 200), (OWN, 20)], "faq@1", 300, [("a", 300), ("faq@1", 20)]),
        ([("a", 200), (OWN, 20)], "faq@1", 100, [("a", 100), ("faq@1", 20)]),
        ([("a", 200), (OWN, 20)], "faq@1", 10, [("a", 10), ("faq@1", 10)]),
        ([("faq@1", 200), (OWN, 20)], "faq@1", None, [("faq@1", 200)]),
        ([(OWN, 200), ("a", 20), ("b", 9)], "a", None, [("a", 200), ("b", 9)]),
    ],
)
def test_a_collections_cascade_is_what_searches_run(
    stages: list[tuple[str, int]], own: str, depth: int | None, expected: list[tuple[str, int]]
) -> None:
    found = choose_usual_cascade(cascade(stages), own, depth)
    assert found == cascade(expected)
    check_cascade(found)


@pytest.mark.parametrize("depth", [0, -1, 1_001])
def test_the_depth_that_a_search_asks_for_has_limits(depth: int) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        choose_usual_cascade(cascade([("a", 9), (OWN, 3)]), "faq@1", depth)
    assert caught.value.field == "depth"


def cascade(stages: Sequence[tuple[str, int]]) -> Cascade:
    return tuple(RerankStage(model, depth) for model, depth in stages)
