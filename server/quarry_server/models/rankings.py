"""Ranking configurations, from and to messages; ModelService's calls on them."""

from functools import partial

from quarry.collections.library import Library
from quarry.collections.ranking_promotion import Rankings
from quarry.ranking.tuned import RankingConfiguration
from quarry.registry.rankings import RankingVersion
from quarry.retrieval.registry import ARMS, arm_names
from quarry.training.spec import EvaluationReport, Fold, TuningResult
from quarry.v1 import model_service_pb2 as pb
from quarry.v1 import search_service_pb2 as search_pb
from quarry_server.collections.documents import parse_request_id
from quarry_server.common.page_tokens import RANKINGS
from quarry_server.common.paging import ListPage
from quarry_server.common.values import timestamp_message
from quarry_server.models.messages import CAUTIONS, STATES, metric_message, parse_note, verdict_value


class RankingCalls:
    """What ModelService answers of ranking configurations. Lives on the library's event loop."""

    def __init__(self, library: Library, rankings: Rankings) -> None:
        self._library, self._rankings = library, rankings

    async def get(self, request: pb.GetRankingRequest) -> pb.GetRankingResponse:
        return pb.GetRankingResponse(ranking=await self._message(request.name))

    async def listed(self, request: pb.ListRankingsRequest) -> pb.ListRankingsResponse:
        page = ListPage(RANKINGS, request)
        if request.collection:
            with self._library.use(request.collection):
                pass
        found = await self._rankings.page(request.collection, page.after, page.size + 1)
        rankings, token = page.fill(found, lambda v: v.place, partial(ranking_message, report=False))
        return pb.ListRankingsResponse(rankings=rankings, next_page_token=token)

    async def promote(self, request: pb.PromoteRankingRequest) -> pb.PromoteRankingResponse:
        request_id = parse_request_id(request.request_id, "promote-ranking", request)
        note = parse_note(request.promoted_by, request.reason)
        _, previous = await self._rankings.promote(request.name, note, request_id, request.if_unchanged)
        return pb.PromoteRankingResponse(ranking=await self._message(request.name), previous=previous)

    async def rollback(self, request: pb.RollbackRankingRequest) -> pb.RollbackRankingResponse:
        request_id = parse_request_id(request.request_id, "rollback-ranking", request)
        note = parse_note(request.promoted_by, request.reason)
        with self._library.use(request.collection):
            pass
        serving, previous = await self._rankings.rollback(request.collection, note, request_id)
        return pb.RollbackRankingResponse(serving=serving, previous=previous)

    async def _message(self, name: str) -> pb.Ranking:
        return ranking_message(await self._rankings.get(name))


def ranking_message(version: RankingVersion, report: bool = True) -> pb.Ranking:
    """``report``: with everything that evaluation found, and with the folds."""
    message = found_message(version.collection, version.result, report)
    message.name, message.state = version.name, STATES[version.state]
    message.promoted_by = version.promoted_by
    message.create_time.CopyFrom(timestamp_message(version.create_time_us))
    if version.promote_time_us is not None:
        message.promote_time.CopyFrom(timestamp_message(version.promote_time_us))
    return message


def found_message(collection: str, result: TuningResult, report: bool = True) -> pb.Ranking:
    """What a tuning has found, without a name."""
    found: EvaluationReport = result.evaluation
    message = pb.Ranking(
        collection=collection,
        verdict=verdict_value(found.verdict),
        advice=found.advice,
        cautions=[CAUTIONS[caution] for caution in found.cautions],
        metrics=[metric_message(metric) for metric in found.metrics],
        queries=result.queries,
        source=result.source,
        compared_with=found.compared_with,
        reranker=result.reranker,
        simulated=result.simulated,
    )
    if result.configuration is not None:
        message.arms.extend(arm_messages(result.configuration))
        message.fusion.CopyFrom(fusion_message(result.configuration))
    if report:
        message.folds.extend(map(_fold_message, result.folds))
        message.report_json = result.model_dump_json(exclude={"decided_by"})
    return message


def arm_messages(configuration: RankingConfiguration) -> list[search_pb.Arm]:
    """Those that have a weight."""
    plans = configuration.arms(tuple(arm for arm in arm_names() if arm in configuration.weights))
    return [
        search_pb.Arm(
            name=plan.name,
            depth=plan.depth,
            weight=plan.weight,
            boost_scale=plan.boost_scale if ARMS[plan.name].boosts else None,
        )
        for plan in plans
    ]


def fusion_message(configuration: RankingConfiguration) -> search_pb.Fusion:
    if configuration.fusion == "rrf":
        return search_pb.Fusion(rrf=search_pb.ReciprocalRankFusion())
    traits = [
        search_pb.QueryTrait(name=name, slope=trait.slope, mean=trait.mean, deviation=trait.deviation)
        for name, trait in configuration.by_query.items()
    ]
    return search_pb.Fusion(weighted_sum=search_pb.WeightedSum(by_query=traits))


def _fold_message(fold: Fold) -> pb.RankingFold:
    return pb.RankingFold(
        queries=fold.queries,
        before=fold.before,
        after=fold.after,
        arms=arm_messages(fold.configuration),
        fusion=fusion_message(fold.configuration),
    )
