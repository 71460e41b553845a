"""What orders re-ranked documents: the model's blend of its own score and the fused one."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.search.fakes import FixedArm, FixedScorer, Stack

from quarry.deadline import Deadline
from quarry.errors import ModelError
from quarry.models.blend import BLEND_FILE, RERANKER_ALONE, Blend, read_blend, write_blend
from quarry.ranking.fusion import ArmRun, compute_highest_reciprocal_rank, fuse_reciprocal_ranks
from quarry.ranking.queries import RerankPlan, Rrf, WeightedSum, plan_default_arms
from quarry.ranking.ranking import RankedDocument
from quarry.ranking.relevance import FusedScale
from quarry.ranking.score_scale import ScoreBasis
from quarry.types import Candidate, Docno

DENSE = {1: 0.9, 2: 0.7, 3: 0.5, 4: 0.3, 5: 0.1}
BM25 = {5: 9.0, 3: 4.0, 1: 1.0}
PLAN = RerankPlan("model", depth=4)
WEIGHTED = WeightedSum()


@pytest.fixture(scope="module")
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


async def ranked(
    threads: ThreadPoolExecutor, blend: Blend | None, fusion: Rrf | WeightedSum = WEIGHTED
) -> Sequence[RankedDocument]:
    arms = [FixedArm("bm25", BM25, others=dict.fromkeys((2, 4), 0.0)), FixedArm("dense", DENSE)]
    stack = Stack(arms, threads, scorer=FixedScorer(blend=blend or RERANKER_ALONE))
    plans = plan_default_arms(("bm25", "dense"), fusion)
    query = stack.make_query(rerank=PLAN if blend else None, fusion=fusion, arms=plans)
    return (await stack.searcher().rank(query, Deadline())).documents


async def test_a_model_without_a_blend_orders_alone(threads: ThreadPoolExecutor) -> None:
    found = await ranked(threads, RERANKER_ALONE)
    assert [d.score for d in found[:4]] == [d.rerank_score for d in found[:4]]
    assert [d.rerank_score for d in found] == [5.0, 3.0, 2.0, 1.0, None]


async def test_the_score_is_the_blend_of_both_and_the_raw_one_stays(threads: ThreadPoolExecutor) -> None:
    fused = {d.id: d.fused_score for d in await ranked(threads, None)}
    found = await ranked(threads, Blend(rerank=0.25, fused=10))
    for document in found[:4]:
        assert document.rerank_score == float(document.docno)  # the text is as long as its number
        assert document.fused_score == fused[document.id]
        expected = math.fsum((0.25 * document.rerank_score, 10 * fused[document.id]))
        assert document.score == expected
    assert [d.score for d in found[:4]] == sorted((d.score for d in found[:4]), reverse=True)
    assert found[4].score == found[4].fused_score


@pytest.mark.parametrize("fusion", [WeightedSum(), Rrf(), Rrf(1)])
async def test_a_blend_of_the_fused_score_alone_leaves_the_fused_order(
    threads: ThreadPoolExecutor, fusion: Rrf | WeightedSum
) -> None:
    before = await ranked(threads, None, fusion)
    after = await ranked(threads, Blend(rerank=0, fused=0.7), fusion)
    assert [d.id for d in after] == [d.id for d in before]


async def test_of_rrf_the_share_of_the_highest_possible_is_blended(threads: ThreadPoolExecutor) -> None:
    found = await ranked(threads, Blend(rerank=0, fused=1), Rrf(60))
    assert found[0].id == "d1"  # third and first
    assert found[0].score == pytest.approx((1 / 63 + 1 / 61) / (2 / 61), rel=1e-12)
    assert found[0].fused_score == pytest.approx(1 / 63 + 1 / 61, rel=1e-12)


@given(
    weights=st.lists(st.floats(0.001, 1_000), min_size=1, max_size=3),
    k=st.floats(1, 10_000),
    size=st.integers(1, 5),
)
def test_no_rrf_score_is_over_the_highest(weights: list[float], k: float, size: int) -> None:
    candidates = [Candidate(Docno(n), -float(n)) for n in range(1, size + 1)]
    runs = [ArmRun(str(n), candidates, weight, 0, 1) for n, weight in enumerate(weights)]
    best = fuse_reciprocal_ranks(runs, k)[0].score
    assert best == compute_highest_reciprocal_rank(runs, k)


@given(scores=st.lists(st.floats(0, 1), min_size=2, max_size=8), weight=st.floats(1e-3, 1e3))
@settings(deadline=None)
def test_fused_scores_that_a_multiple_cannot_tell_apart_keep_their_order(
    scores: list[float], weight: float
) -> None:
    from quarry.models.base import PairScore
    from quarry.search.reranking import _apply_score, _order

    blend = Blend(rerank=0, fused=weight)
    scorer = FixedScorer(blend=blend)
    best_first = sorted(scores, reverse=True)
    documents = [
        RankedDocument(Docno(n), f"d{9 - n}", 1, score, fused_rank=n + 1, fused_score=score)
        for n, score in enumerate(best_first)
    ]
    scored = [
        _apply_score(d, "model", ScoreBasis.FIRST_STAGE, PairScore(1.0, False), scorer, FusedScale())
        for d in documents
    ]
    assert [d.docno for d in _order(scored, blend)] == [d.docno for d in documents]


def test_a_models_folder_holds_its_blend(tmp_path: Path) -> None:
    assert read_blend(tmp_path) == RERANKER_ALONE
    write_blend(tmp_path, Blend(rerank=0.5, fused=3))
    assert read_blend(tmp_path) == Blend(rerank=0.5, fused=3)
    for broken in ("", "{", '{"rerank": 0}', '{"rerank": -1}', '{"rerank": 1e999}', '{"other": 1}'):
        (tmp_path / BLEND_FILE).write_text(broken)
        with pytest.raises(ModelError, match="cannot be read"):
            read_blend(tmp_path)
