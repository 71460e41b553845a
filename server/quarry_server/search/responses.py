"""Answers to searches, as messages."""

import math
from collections.abc import Mapping

from google.protobuf import duration_pb2

from quarry.ranking.ranking import (
    Degradation,
    DegradationReason,
    DegradedStage,
    RankedDocument,
    Reach,
    ReachLimit,
    Total,
)
from quarry.ranking.score_scale import ScoreBasis
from quarry.search.service import SearchPage
from quarry.v1 import search_service_pb2 as pb
from quarry.v1 import types_pb2
from quarry_server.common.page_tokens import SEARCH
from quarry_server.search.facets import to_facet_messages
from quarry_server.search.shaping import add_shape, explain_shape, to_not_pinned_messages
from quarry_server.search.snippets import to_snippet_message

_STAGES: Mapping[str, pb.Stage.ValueType] = {
    DegradedStage.RERANK: pb.STAGE_RERANK,
    DegradedStage.TOTAL: pb.STAGE_TOTAL,
    DegradedStage.FACETS: pb.STAGE_FACETS,
    DegradedStage.SNIPPETS: pb.STAGE_SNIPPETS,
}
_REASONS = {
    DegradationReason.TIMEOUT: pb.DEGRADATION_REASON_TIMEOUT,
    DegradationReason.UNAVAILABLE: pb.DEGRADATION_REASON_UNAVAILABLE,
    DegradationReason.REDUCED_DEPTH: pb.DEGRADATION_REASON_REDUCED_DEPTH,
    DegradationReason.TRUNCATED_QUERY: pb.DEGRADATION_REASON_TRUNCATED_QUERY,
    DegradationReason.REBUILDING: pb.DEGRADATION_REASON_REBUILDING,
    DegradationReason.BEHIND: pb.DEGRADATION_REASON_BEHIND,
}

_LIMITS = {
    ReachLimit.NONE: pb.REACH_LIMIT_NONE,
    ReachLimit.LIST_SIZE: pb.REACH_LIMIT_LIST_SIZE,
    ReachLimit.ARM_DEPTH: pb.REACH_LIMIT_ARM_DEPTH,
    ReachLimit.RERANK_DEPTH: pb.REACH_LIMIT_RERANK_DEPTH,
    ReachLimit.DEGRADED: pb.REACH_LIMIT_DEGRADED,
}
_BASES = {
    ScoreBasis.FUSED: pb.SCORE_BASIS_FUSED,
    ScoreBasis.BM25: pb.SCORE_BASIS_BM25,
    ScoreBasis.BROWSED: pb.SCORE_BASIS_BROWSED,
    ScoreBasis.PINNED: pb.SCORE_BASIS_PINNED,
    ScoreBasis.ORDERED: pb.SCORE_BASIS_ORDERED,
}


def to_search_response(page: SearchPage[types_pb2.Document], request: pb.SearchRequest) -> pb.SearchResponse:
    """Writes the answer to ``request``; how long it took in all is for the caller to add."""
    ranking = page.ranking
    response = pb.SearchResponse(
        search_id=page.place.key,
        attribution_token=page.attribution_token,
        total=to_total_message(ranking.total),
        degraded=[to_degradation_message(d) for d in ranking.degraded],
        timings=_to_timings(ranking.timings_s if page.place.offset == 0 else {}),
        generation=ranking.generation,
        reranker=ranking.reranker,
        rerankers=ranking.rerankers,
        ranking_configuration=ranking.configuration,
        ranking=ranking.tuned,
        reach=_to_reach_message(ranking.reach),
        found_by_meaning=to_total_message(ranking.reach.found_by_meaning),
        not_pinned=to_not_pinned_messages(ranking.not_pinned),
        facets=to_facet_messages(page.facets, request),
    )
    if request.explain:
        weights = ranking.weights.items()
        response.highest_fused = ranking.highest_fused
        response.weights.extend(pb.ArmWeight(arm=arm, weight=weight) for arm, weight in weights)
    for shown in page.hits:
        hit = response.hits.add(
            document=shown.rendered,
            rank=shown.place + 1,
            score=ranking.scale(shown.ranked),
            relevance=shown.ranked.relevance,
            scored_by=_to_basis_message(shown.ranked.scored_by),
            snippets=map(to_snippet_message, shown.snippets),
        )
        if ranking.shaped:
            add_shape(hit, shown, ranking)
        if request.explain:
            passage = page.passages.get(shown.ranked.docno, "")
            hit.explanation.CopyFrom(_to_explanation(shown.ranked, passage))
            explain_shape(hit.explanation, shown.ranked.shape)
    if page.next is not None:
        response.next_page_token = SEARCH.encode(page.next, request)
    return response


def to_total_message(total: Total) -> pb.Total:
    return pb.Total(count=total.count, relation=_to_relation_message(total))


def _to_relation_message(total: Total) -> pb.TotalRelation.ValueType:
    return pb.TOTAL_RELATION_EXACT if total.exact else pb.TOTAL_RELATION_LOWER_BOUND


def _to_reach_message(reach: Reach) -> pb.Reach:
    hits = reach.hits
    return pb.Reach(count=hits.count, relation=_to_relation_message(hits), limit=_LIMITS[reach.limit])


def _to_basis_message(basis: ScoreBasis) -> pb.ScoreBasis.ValueType:
    return pb.SCORE_BASIS_RE_RANKED if basis.re_ranked else _BASES[basis]


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
        raw_score=ranked.score,
        rerankers=[
            pb.RerankExplanation(model=reading.model, score=reading.score, truncated=reading.truncated)
            for reading in ranked.readings
        ],
    )
