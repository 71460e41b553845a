"""Answers to searches, as messages."""

import math
from collections.abc import Mapping

from google.protobuf import duration_pb2

from quarry.ranking.ranking import Degradation, DegradationReason, DegradedStage, RankedDocument, Ranking
from quarry.search.service import SearchPage
from quarry.v1 import search_service_pb2 as pb
from quarry.v1 import types_pb2
from quarry_server.common.page_tokens import SEARCH

_STAGES: Mapping[str, pb.Stage.ValueType] = {
    DegradedStage.RERANK: pb.STAGE_RERANK,
    DegradedStage.TOTAL: pb.STAGE_TOTAL,
}
_REASONS = {
    DegradationReason.TIMEOUT: pb.DEGRADATION_REASON_TIMEOUT,
    DegradationReason.UNAVAILABLE: pb.DEGRADATION_REASON_UNAVAILABLE,
    DegradationReason.REDUCED_DEPTH: pb.DEGRADATION_REASON_REDUCED_DEPTH,
    DegradationReason.TRUNCATED_QUERY: pb.DEGRADATION_REASON_TRUNCATED_QUERY,
    DegradationReason.REBUILDING: pb.DEGRADATION_REASON_REBUILDING,
    DegradationReason.BEHIND: pb.DEGRADATION_REASON_BEHIND,
}


def to_search_response(page: SearchPage[types_pb2.Document], request: pb.SearchRequest) -> pb.SearchResponse:
    """Writes the answer to ``request``; how long it took in all is for the caller to add."""
    ranking = page.ranking
    response = pb.SearchResponse(
        search_id=page.place.key,
        attribution_token=page.attribution_token,
        total=_to_total_message(ranking),
        degraded=[to_degradation_message(d) for d in ranking.degraded],
        timings=_to_timings(ranking.timings_s if page.place.offset == 0 else {}),
        generation=ranking.generation,
        reranker=ranking.reranker,
        rerankers=ranking.rerankers,
        ranking_configuration=ranking.configuration,
        ranking=ranking.tuned,
    )
    if request.explain:
        weights = ranking.weights.items()
        response.highest_fused = ranking.highest_fused
        response.weights.extend(pb.ArmWeight(arm=arm, weight=weight) for arm, weight in weights)
    for shown in page.hits:
        hit = response.hits.add(
            document=shown.rendered,
            rank=shown.place + 1,
            score=shown.ranked.score,
            relevance=shown.ranked.relevance,
        )
        if request.explain:
            passage = page.passages.get(shown.ranked.docno, "")
            hit.explanation.CopyFrom(_to_explanation(shown.ranked, passage))
    if page.next is not None:
        response.next_page_token = SEARCH.encode(page.next, request)
    return response


def _to_total_message(ranking: Ranking) -> pb.Total:
    exact = ranking.total.exact
    relation = pb.TOTAL_RELATION_EXACT if exact else pb.TOTAL_RELATION_LOWER_BOUND
    return pb.Total(count=ranking.total.count, relation=relation)


def to_degradation_message(degradation: Degradation) -> pb.Degradation:
    """Names a part of the work that an answer is without."""
    return pb.Degradation(
        stage=pb.STAGE_ARM if degradation.arm else _STAGES[degradation.stage],
        reason=_REASONS[degradation.reason],
        detail=degradation.detail,
        model=degradation.model,
        arm=degradation.arm,
    )


def _to_timings(timings_s: Mapping[str, float]) -> dict[str, duration_pb2.Duration]:
    return {stage: to_duration_message(seconds) for stage, seconds in timings_s.items()}


def to_duration_message(seconds: float) -> duration_pb2.Duration:
    """Cuts what is finer than a nanosecond."""
    fraction, whole = math.modf(seconds)
    return duration_pb2.Duration(seconds=int(whole), nanos=int(fraction * 1e9))


def _to_explanation(ranked: RankedDocument, passage: str) -> pb.Explanation:
    return pb.Explanation(
        arms=[
            pb.ArmExplanation(arm=arm, rank=place.rank, score=place.score, contribution=place.contribution)
            for arm, place in ranked.arms.items()
        ],
        fused_rank=ranked.fused_rank,
        fused_score=ranked.fused_score,
        rerank_score=ranked.rerank_score,
        truncated=bool(ranked.readings) and ranked.readings[-1].truncated,
        passage=passage,
        rerankers=[
            pb.RerankExplanation(model=reading.model, score=reading.score, truncated=reading.truncated)
            for reading in ranked.readings
        ],
    )
