"""The scores that are given out: one scale over the whole list, whatever the stages and the fusion."""

import asyncio
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.search.fakes import FixedArm, FixedScorer, Stack

from quarry.deadline import Deadline
from quarry.errors import ModelError, QuarryError
from quarry.models.blend import Blend
from quarry.ranking.cascade import RerankStage
from quarry.ranking.queries import ArmPlan, RerankPlan, Rrf, WeightedSum
from quarry.ranking.ranking import RankedDocument, Ranking, drop_explanations
from quarry.ranking.score_scale import ScoreBasis, scale_score

FINITE = st.floats(allow_nan=False, allow_infinity=False)
STAGES = st.sampled_from([ScoreBasis.FIRST_STAGE, ScoreBasis.SECOND_STAGE, ScoreBasis.THIRD_STAGE])


@pytest.fixture(scope="module")
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as made:
        yield made


def test_the_scale_of_a_stage_by_hand() -> None:
    for raw, share in ((0.0, 0.5), (1.0, 0.75), (-1.0, 0.25), (3.0, 0.875), (-9.0, 0.05)):
        assert scale_score(ScoreBasis.FIRST_STAGE, raw) == pytest.approx(1 + share)
        assert scale_score(ScoreBasis.THIRD_STAGE, raw) == pytest.approx(3 + share)
    assert scale_score(ScoreBasis.FUSED, 0.4) == 0.4
    assert scale_score(ScoreBasis.FUSED, 1 / 61, 2 / 61) == 0.5
    assert scale_score(ScoreBasis.BROWSED, 0.0) == 0.0


@given(stage=STAGES, one=FINITE, other=FINITE)
def test_no_higher_score_gets_a_lower_place(stage: ScoreBasis, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert stage <= scale_score(stage, low) <= scale_score(stage, high) <= stage + 1


@given(stage=STAGES, raw=st.floats(-30, 30), ulps=st.integers(1, 9))
def test_neighbouring_floats_do_not_change_places(stage: ScoreBasis, raw: float, ulps: int) -> None:
    higher = raw
    for _ in range(ulps):
        higher = math.nextafter(higher, math.inf)
    assert scale_score(stage, raw) <= scale_score(stage, higher)


@given(stage=STAGES, low=st.floats(-50, 50), apart=st.floats(1e-6, 10))
def test_scores_that_differ_stay_different(stage: ScoreBasis, low: float, apart: float) -> None:
    assert scale_score(stage, low) < scale_score(stage, low + apart)


Arms = dict[str, dict[int, float]]
BLENDS = st.sampled_from(
    [Blend(), Blend(rerank=0.3, fused=4.0), Blend(rerank=1e-9, fused=1.0), Blend(rerank=50.0)]
)
ARMS = st.fixed_dictionaries(
    {
        "bm25": st.dictionaries(st.integers(1, 29), st.floats(0.01, 10), max_size=12),
        "dense": st.dictionaries(st.integers(1, 29), st.floats(-1, 1), max_size=12),
    }
)


@st.composite
def scorers(draw: st.DrawFn) -> "FixedScorer | QuarryError":
    if draw(st.booleans()) and draw(st.booleans()):
        return ModelError("it failed to load", path="m")
    sign = draw(st.sampled_from([-1, 1]))
    return FixedScorer(fits=draw(st.integers(0, 15)), sign=sign, blend=draw(BLENDS))


@settings(deadline=None, max_examples=300)
@given(data=st.data(), arms=ARMS, weights=st.tuples(st.floats(0, 5), st.floats(0, 5)))
def test_scores_never_rise_along_the_ranks(
    threads: ThreadPoolExecutor, data: st.DataObject, arms: Arms, weights: tuple[float, float]
) -> None:
    """Of any search: cascades, blends, models that fail or have no time, either fusion, any depth."""
    count = data.draw(st.integers(0, 3), "stages")
    depths = sorted((data.draw(st.integers(1, 14)) for _ in range(count)), reverse=True)
    models = {f"m{n}": data.draw(scorers()) for n in range(count)}
    plan = None
    if count:
        plan = RerankPlan.from_stages(tuple(map(RerankStage, models, depths)))
    fusion = data.draw(st.sampled_from([WeightedSum(), Rrf(), Rrf(1.0)]))
    stack = Stack([FixedArm(name, scores) for name, scores in arms.items()], threads, scorer=models)
    plans = tuple(
        ArmPlan(name, data.draw(st.integers(1, 12)), weight)
        for name, weight in zip(arms, weights, strict=True)
    )
    query = stack.make_query(arms=plans, fusion=fusion, rerank=plan)
    ranking = asyncio.run(stack.searcher().rank(query, Deadline.set_after(60.0)))
    for documents in (ranking.documents, drop_explanations(ranking.documents)):
        check_scores(ranking, list(documents))


def check_scores(ranking: Ranking, documents: list[RankedDocument]) -> None:
    scores = [scale_score(d.scored_by, d.score, ranking.highest_fused) for d in documents]
    assert all(math.isfinite(score) for score in scores)
    assert all(above >= below for above, below in pairwise(scores)), scores
    for document, score in zip(ranking.documents, scores, strict=True):
        assert document.scored_by.re_ranked == bool(document.readings)
        assert math.floor(score) in (document.scored_by, document.scored_by + 1)
