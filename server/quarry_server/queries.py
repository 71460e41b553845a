"""Search requests: messages to queries, with every default filled in."""

import math
from collections.abc import Sequence
from dataclasses import replace

from quarry.cascade import OWN, Cascade, RerankStage, asked_cascade, usual_cascade
from quarry.documents.catalog import CollectionSettings
from quarry.errors import InvalidArgumentError, NotCalibratedError
from quarry.queries import (
    DEFAULT_DEPTH,
    ArmPlan,
    Query,
    RerankPlan,
    Rrf,
    WeightedSum,
    check_min_relevance,
    check_query_text,
    default_arms,
    default_weight,
)
from quarry.schema import FIELD_NAME, Schema, UnknownFields
from quarry.v1 import search_service_pb2 as pb
from quarry.v1 import types_pb2
from quarry_server.filters import parse_filter

MAX_RETRIEVE_QUERIES = 256
NO_FIELDS = "-"


def parse_query(request: pb.SearchRequest, settings: CollectionSettings, arms: tuple[str, ...]) -> Query:
    """The query that ``request`` states for a collection with these ``arms``.

    Raises:
        InvalidArgumentError: with the path of the first field that is wrong.
        NotCalibratedError: it has a bound of relevance, and the collection has no re-ranker.
    """
    text = parse_text(request.query, "query")
    fusion = parse_fusion(request.fusion)
    rerank = parse_rerank(request.rerank, settings)
    if request.HasField("min_relevance"):
        rerank = _bounded(rerank, request, text)
    return Query(
        text,
        parse_arms(request.arms, arms, fusion),
        parse_filter(request.filter, settings.schema) if request.HasField("filter") else None,
        fusion,
        rerank,
        request.require_complete,
    )


def parse_text(text: str, field: str) -> str:
    stripped = text.strip()
    try:
        check_query_text(stripped)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(field, error.problem) from None
    return stripped


def parse_fusion(message: pb.Fusion) -> Rrf | WeightedSum:
    if message.WhichOneof("method") != "rrf":
        return WeightedSum()
    try:
        return Rrf(message.rrf.k) if message.rrf.k else Rrf()
    except InvalidArgumentError as error:
        raise error.under("fusion.rrf") from None


def parse_arms(
    messages: Sequence[pb.Arm], known: tuple[str, ...], fusion: Rrf | WeightedSum
) -> tuple[ArmPlan, ...]:
    """The arms asked for, each once; all of them if none is."""
    plans: list[ArmPlan] = []
    for index, message in enumerate(messages):
        if message.name not in known:
            problem = f"{message.name[:80]!r} is not an arm of this collection, which has {', '.join(known)}"
            raise InvalidArgumentError(f"arms[{index}].name", problem)
        if any(plan.name == message.name for plan in plans):
            raise InvalidArgumentError(f"arms[{index}].name", f"{message.name} is there twice")
        weight = message.weight if message.HasField("weight") else default_weight(message.name, fusion)
        try:
            plans.append(ArmPlan(message.name, message.depth or DEFAULT_DEPTH, _finite(weight)))
        except InvalidArgumentError as error:
            raise error.under(f"arms[{index}]") from None
    return tuple(plans) or default_arms(known, fusion)


def _finite(weight: float) -> float:
    if not math.isfinite(weight):
        raise InvalidArgumentError("weight", "is not finite")
    return weight


def parse_rerank(message: pb.Rerank, settings: CollectionSettings) -> RerankPlan | None:
    """How to re-rank; None for not at all."""
    budget = None
    if message.HasField("budget"):
        budget = message.budget.seconds + message.budget.nanos / 1e9
    try:
        stages = parse_stages(message, settings)
        plan = RerankPlan.of(stages, budget)
    except InvalidArgumentError as error:
        raise error.under("rerank") from None
    return None if message.disabled or not plan.model else plan


def _bounded(plan: RerankPlan | None, request: pb.SearchRequest, text: str) -> RerankPlan:
    """``plan`` with the request's bound of relevance."""
    least = request.min_relevance
    check_min_relevance(least)
    if not text:
        raise InvalidArgumentError(
            "min_relevance", "is there, and the query has no words: nothing is relevant"
        )
    if request.rerank.disabled:
        raise InvalidArgumentError("min_relevance", "needs re-ranking, and rerank.disabled is set")
    if plan is None:
        raise NotCalibratedError("the collection has no re-ranker, which would say how relevant a hit is")
    return replace(plan, min_relevance=least)


def parse_stages(message: pb.Rerank, settings: CollectionSettings) -> Cascade:
    """The stages that a search asks for, or those of its collection."""
    own = message.model or settings.reranker
    if not message.cascade:
        # Without a re-ranker of the collection's own, its cascade has nothing to work together with.
        return usual_cascade(settings.cascade if own else (), own, message.depth or None)
    if message.depth:
        raise InvalidArgumentError("depth", "is there beside a cascade, whose stages have their own")
    stages = cascade_of(message.cascade)
    if message.model and all(stage.model != OWN for stage in stages):
        raise InvalidArgumentError("model", "is there beside a cascade in which every stage has a model")
    return asked_cascade(stages, own)


def model_fields(message: pb.Rerank, plan: RerankPlan | None) -> dict[str, str]:
    """Each model of ``plan``, and the field of the request that asks for it."""
    fields = {stage.model: f"rerank.cascade[{n}].model" for n, stage in enumerate(message.cascade)}
    return {stage.model: fields.get(stage.model, "rerank.model") for stage in plan.stages} if plan else {}


def cascade_of(messages: Sequence[types_pb2.RerankStage]) -> Cascade:
    return tuple(RerankStage(message.model, message.depth) for message in messages)


def parse_return_fields(names: Sequence[str], schema: Schema) -> frozenset[str] | None:
    """The fields to return; None for all."""
    if not names:
        return None
    if list(names) == [NO_FIELDS]:
        return frozenset()
    for index, name in enumerate(names):
        known = schema.unknown_fields is UnknownFields.STORE or schema.get(name) is not None
        if not FIELD_NAME.fullmatch(name) or not known:
            raise InvalidArgumentError(f"return_fields[{index}]", f"{name[:80]!r} is not a field's name")
    return frozenset(names)
