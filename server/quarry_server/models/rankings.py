"""Ranking configurations, from and to messages; ModelService's calls on them."""

from functools import partial

from quarry.collections.collections import Collections
from quarry.collections.ranking_promotion import Rankings
from quarry.ranking.ranking_configuration import RankingConfiguration
from quarry.registry.rankings import RankingVersion
from quarry.retrieval.registry import ARMS, list_arms
from quarry.training.spec import EvaluationReport, Fold, TuningResult
from quarry.v1 import model_service_pb2 as pb
from quarry.v1 import search_service_pb2 as search_pb
from quarry_server.common.page_tokens import RANKINGS
from quarry_server.common.paging import ListPage
from quarry_server.common.values import to_timestamp
from quarry_server.models.messages import CAUTIONS, STATES, parse_change, to_metric_message, to_verdict_value


class RankingCalls:
    """The calls of ModelService on ranking configurations. Lives on the event loop of the collections."""

    def __init__(self, open_collections: Collections, rankings: Rankings) -> None:
        self._open_collections, self._rankings = open_collections, rankings

    async def get(self, request: pb.GetRankingRequest) -> pb.GetRankingResponse:
        return pb.GetRankingResponse(ranking=await self._to_message(request.name))

    async def list_rankings(self, request: pb.ListRankingsRequest) -> pb.ListRankingsResponse:
        page = ListPage(RANKINGS, request)
        name = self._open_collections.find_name(request.collection) if request.collection else ""
        found = await self._rankings.read_page(name, page.after, page.size + 1)
        rankings, token = page.fill(found, lambda v: v.place, partial(to_ranking_message, report=False))
        return pb.ListRankingsResponse(rankings=rankings, next_page_token=token)

    async def promote(self, request: pb.PromoteRankingRequest) -> pb.PromoteRankingResponse:
        request_id, note = parse_change(request, "promote-ranking")
        _, previous = await self._rankings.promote(request.name, note, request_id, request.if_unchanged)
        return pb.PromoteRankingResponse(ranking=await self._to_message(request.name), previous=previous)

    async def roll_back(self, request: pb.RollbackRankingRequest) -> pb.RollbackRankingResponse:
        request_id, note = parse_change(request, "rollback-ranking")
        name = self._open_collections.find_name(request.collection)
        serving, previous = await self._rankings.roll_back(name, note, request_id)
        return pb.RollbackRankingResponse(serving=serving, previous=previous)

    async def _to_message(self, name: str) -> pb.Ranking:
        return to_ranking_message(await self._rankings.get(name))


def to_ranking_message(version: RankingVersion, report: bool = True) -> pb.Ranking:
    """Writes the ranking; ``report``: with everything that evaluation found, and with the folds."""
    message = to_found_message(version.collection, version.result, report)
    message.name, message.state = version.name, STATES[version.state]
    message.promoted_by = version.promoted_by
    message.create_time.CopyFrom(to_timestamp(version.create_time_us))
    if version.promote_time_us is not None:
        message.promote_time.CopyFrom(to_timestamp(version.promote_time_us))
    return message


def to_found_message(collection: str, result: TuningResult, report: bool = True) -> pb.Ranking:
    """Writes what a tuning has found, without a name."""
    found: EvaluationReport = result.evaluation
    message = pb.Ranking(
        collection=collection,
        verdict=to_verdict_value(found.verdict),
        advice=found.advice,
        cautions=[CAUTIONS[caution] for caution in found.cautions],
        metrics=[to_metric_message(metric) for metric in found.metrics],
        queries=result.queries,
        source=result.source,
        compared_with=found.compared_with,
        reranker=result.reranker,
        simulated=result.simulated,
    )
    if result.configuration is not None:
        message.arms.extend(to_arm_messages(result.configuration))
        message.fusion.CopyFrom(to_fusion_message(result.configuration))
    if report:
        message.folds.extend(map(_to_fold_message, result.folds))
        message.report_json = result.model_dump_json(exclude={"decided_by"})
    return message


def to_arm_messages(configuration: RankingConfiguration) -> list[search_pb.Arm]:
    """Writes those arms that have a weight."""
    plans = configuration.plan_arms(tuple(arm for arm in list_arms() if arm in configuration.weights))
    return [
        search_pb.Arm(
            name=plan.name,
            depth=plan.depth,
            weight=plan.weight,
            boost_scale=plan.boost_scale if ARMS[plan.name].boosts else None,
        )
        for plan in plans
    ]


def to_fusion_message(configuration: RankingConfiguration) -> search_pb.Fusion:
    if configuration.fusion == "rrf":
        return search_pb.Fusion(rrf=search_pb.ReciprocalRankFusion())
    traits = [
        search_pb.QueryTrait(name=name, slope=trait.slope, mean=trait.mean, deviation=trait.deviation)
        for name, trait in configuration.by_query.items()
    ]
    return search_pb.Fusion(weighted_sum=search_pb.WeightedSum(by_query=traits))


def _to_fold_message(fold: Fold) -> pb.RankingFold:
    return pb.RankingFold(
        queries=fold.queries,
        before=fold.before,
        after=fold.after,
        arms=to_arm_messages(fold.configuration),
        fusion=to_fusion_message(fold.configuration),
    )
