"""P(relevant) of hits, and searches that take no less than so much of it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import nan

import pytest
from tests.unit.search.fakes import FixedArm, FixedScorer, Stack

from quarry.deadline import Deadline
from quarry.errors import (
    DeadlineExceeded,
    InvalidArgumentError,
    ModelError,
    NotCalibratedError,
    QuarryError,
    UnavailableError,
)
from quarry.models.blend import Blend
from quarry.models.calibration import Calibration
from quarry.ranking.cascade import RerankStage
from quarry.ranking.queries import RerankPlan, Rrf
from quarry.ranking.ranking import DegradedStage, RankedDocument, Ranking, Total, drop_explanations
from quarry.types import Docno

FIVE = {n: (6 - n) / 10 for n in range(1, 6)}
"""Five documents in the order of their numbers; the text of document n has n characters."""
EVEN_AT_3 = Calibration(
    slope=2.0, intercept=-6.0, source="judgments", queries=40, pairs=400, relevant=40, ece=0.02, ece_all=0.01
)
"""Of a score of 3 it says 0.5."""
ALL = RerankPlan("model", depth=5)
BOUND = replace(ALL, min_relevance=0.5)


@pytest.fixture(scope="module")
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


class Searches:
    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self.threads = threads

    async def rank(
        self,
        scorer: FixedScorer | QuarryError | dict[str, FixedScorer | QuarryError],
        plan: RerankPlan = ALL,
        arm: FixedArm | None = None,
        scores: dict[int, float] = FIVE,
        deadline: Deadline | None = None,
        **settings: object,
    ) -> Ranking:
        arms = [FixedArm("bm25", scores), arm or FixedArm("dense", scores)]
        stack = Stack(arms, self.threads, scorer=scorer)
        query = stack.make_query(rerank=plan, **settings)
        return await stack.searcher().rank(query, deadline or Deadline())


@pytest.fixture
def searches(threads: ThreadPoolExecutor) -> Searches:
    return Searches(threads)


def shown(ranking: Ranking) -> list[tuple[str, float | None]]:
    return [
        (document.id, None if document.relevance is None else round(document.relevance, 3))
        for document in ranking.documents
    ]


async def test_what_a_calibrated_model_read_has_a_relevance(searches: Searches) -> None:
    ranking = await searches.rank(FixedScorer(calibration=EVEN_AT_3), replace(ALL, depth=3))
    assert shown(ranking) == [("d3", 0.5), ("d2", 0.119), ("d1", 0.018), ("d4", None), ("d5", None)]


async def test_without_a_calibration_relevance_is_not_known(searches: Searches) -> None:
    ranking = await searches.rank(FixedScorer())
    assert {relevance for _, relevance in shown(ranking)} == {None}


async def test_relevance_is_of_the_blended_score(searches: Searches) -> None:
    blend = Blend(rerank=1.0, fused=10.0)
    ranking = await searches.rank(FixedScorer(blend=blend, calibration=EVEN_AT_3))
    for document in ranking.documents:
        assert document.relevance == pytest.approx(float(EVEN_AT_3.estimate_probability(document.score)))


async def test_of_a_cascade_the_last_model_that_read_a_document_says(searches: Searches) -> None:
    models = {
        "small": FixedScorer(calibration=EVEN_AT_3),
        "large": FixedScorer(calibration=EVEN_AT_3.model_copy(update={"intercept": 0.0})),
    }
    plan = RerankPlan.from_stages((RerankStage("small", 4), RerankStage("large", 2)))
    ranking = await searches.rank(models, plan)
    assert shown(ranking)[:3] == [("d4", 1.0), ("d3", 0.998), ("d2", 0.119)]
    models["large"] = FixedScorer()
    assert shown(await searches.rank(models, plan))[:3] == [("d4", None), ("d3", None), ("d2", 0.119)]


async def test_hits_below_the_bound_are_left_out(searches: Searches) -> None:
    ranking = await searches.rank(FixedScorer(calibration=EVEN_AT_3), BOUND)
    assert shown(ranking) == [("d5", 0.982), ("d4", 0.881), ("d3", 0.5)]
    assert ranking.total == Total(3, exact=True) and ranking.rerankers == ("model",)


async def test_nothing_relevant_is_an_answer(searches: Searches) -> None:
    ranking = await searches.rank(FixedScorer(calibration=EVEN_AT_3), replace(ALL, min_relevance=0.99))
    assert (len(ranking.documents), ranking.total, ranking.degraded) == (0, Total(0, exact=True), ())


async def test_what_no_model_read_is_left_out_and_makes_the_total_a_lower_bound(searches: Searches) -> None:
    ranking = await searches.rank(FixedScorer(calibration=EVEN_AT_3), replace(BOUND, depth=3))
    assert shown(ranking) == [("d3", 0.5)] and ranking.total == Total(1, exact=False)
    assert not ranking.degraded


@pytest.mark.parametrize("scores", [FIVE, {}], ids=["candidates", "no candidate"])
async def test_without_a_calibrated_model_a_bound_is_refused(
    searches: Searches, scores: dict[int, float]
) -> None:
    with pytest.raises(NotCalibratedError, match=r"model has no calibration: train .* judged") as caught:
        await searches.rank(FixedScorer(), BOUND, scores=scores)
    assert caught.value.reason == "NOT_CALIBRATED" and caught.value.metadata == {"model": "model"}


async def test_the_model_that_reads_last_must_be_calibrated_the_others_need_not(searches: Searches) -> None:
    plan = RerankPlan.from_stages((RerankStage("small", 5), RerankStage("large", 2)), min_relevance=0.5)
    calibrated, other = FixedScorer(calibration=EVEN_AT_3), FixedScorer()
    assert shown(await searches.rank({"small": other, "large": calibrated}, plan)) == [
        ("d5", 0.982),
        ("d4", 0.881),
    ]
    with pytest.raises(NotCalibratedError, match="large"):
        await searches.rank({"small": calibrated, "large": other}, plan)


async def test_no_candidate_is_an_empty_answer(searches: Searches) -> None:
    ranking = await searches.rank(FixedScorer(calibration=EVEN_AT_3), BOUND, scores={})
    assert (len(ranking.documents), ranking.total.count) == (0, 0)


@pytest.mark.parametrize("complete", [False, True])
async def test_where_no_relevance_is_known_a_bound_fails_the_search(
    searches: Searches, complete: bool
) -> None:
    """An empty answer would say that nothing is relevant."""
    with pytest.raises(UnavailableError, match="gone"):
        await searches.rank(ModelError("gone"), BOUND, require_complete=complete)
    late = FixedScorer(stuck=True, calibration=EVEN_AT_3)
    plan = replace(BOUND, budget_s=0.01)
    with pytest.raises(DeadlineExceeded, match="did not end in time"):
        await searches.rank(late, plan, require_complete=complete)


async def test_what_could_not_be_read_in_time_is_left_out_and_named(searches: Searches) -> None:
    scorer = FixedScorer(fits=3, calibration=EVEN_AT_3)
    ranking = await searches.rank(scorer, BOUND)
    assert shown(ranking) == [("d3", 0.5)] and ranking.total == Total(1, exact=False)
    (note,) = ranking.degraded
    assert note.stage is DegradedStage.RERANK and "relevance is unknown" in note.detail
    with pytest.raises(DeadlineExceeded):
        await searches.rank(scorer, BOUND, require_complete=True)


async def test_an_empty_answer_is_given_only_where_all_was_looked_at(searches: Searches) -> None:
    calibrated = FixedScorer(fits=3, calibration=EVEN_AT_3)
    with pytest.raises(DeadlineExceeded, match="3 of 5 candidates"):  # the two that are left reach the bound
        await searches.rank(calibrated, replace(ALL, min_relevance=0.8))
    down = FixedArm("dense", {}, error=UnavailableError("the dense arm is down"))
    with pytest.raises(UnavailableError, match="the dense arm is down"):
        await searches.rank(calibrated, BOUND, arm=down, scores={})


BLENDING = FixedScorer(blend=Blend(rerank=1.0, fused=1.0), calibration=EVEN_AT_3)


async def test_another_fused_score_than_the_one_it_was_fitted_to_has_no_relevance(searches: Searches) -> None:
    assert None not in {relevance for _, relevance in shown(await searches.rank(BLENDING))}
    ranking = await searches.rank(BLENDING, fusion=Rrf())
    assert {relevance for _, relevance in shown(ranking)} == {None}
    with pytest.raises(NotCalibratedError, match="merges the arms in another way"):
        await searches.rank(BLENDING, BOUND, fusion=Rrf())
    alone = FixedScorer(calibration=EVEN_AT_3)  # which counts no fused score
    assert None not in {relevance for _, relevance in shown(await searches.rank(alone, fusion=Rrf()))}


async def test_a_fused_score_that_lacks_an_arm_has_no_relevance(searches: Searches) -> None:
    down = FixedArm("dense", {}, error=UnavailableError("the dense arm is down"))
    assert {relevance for _, relevance in shown(await searches.rank(BLENDING, arm=down))} == {None}
    with pytest.raises(UnavailableError, match="the dense arm is down"):
        await searches.rank(BLENDING, BOUND, arm=down)


@pytest.mark.parametrize("least", [0.0, -0.1, 1.01, nan])
def test_a_bound_is_a_probability_over_0(least: float) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        RerankPlan("model", min_relevance=least)
    assert caught.value.field == "min_relevance"


def test_a_kept_list_keeps_relevance() -> None:
    known = RankedDocument(Docno(1), "d1", 1, 2.0, relevance=0.25)
    unknown = RankedDocument(Docno(2), "d2", 1, 1.0)
    assert [d.relevance for d in drop_explanations([known, unknown])] == [0.25, None]
