"""Search requests: messages to queries, with every default filled in."""

from collections.abc import Sequence
from dataclasses import replace

from quarry.documents.catalog import Collection, CollectionSettings
from quarry.errors import (
    ConflictingFieldsError,
    DuplicateError,
    InvalidArgumentError,
    NotCalibratedError,
    UnknownValueError,
)
from quarry.ranking.cascade import OWN, Cascade, RerankStage, choose_usual_cascade, resolve_asked_cascade
from quarry.ranking.queries import (
    DEFAULT_DEPTH,
    ArmPlan,
    Query,
    RerankPlan,
    Rrf,
    WeightedSum,
    check_query_text,
    choose_default_weight,
    plan_default_arms,
)
from quarry.ranking.ranges import MIN_RELEVANCE
from quarry.ranking.weighting import QueryWeights, Trait, check_trait
from quarry.retrieval.query_syntax import parse_text_query
from quarry.retrieval.registry import ARMS
from quarry.retrieval.text_query import Term, TextQuery
from quarry.schema import Schema
from quarry.search.logged_request import LoggedRequest
from quarry.search.requests import PageRequest
from quarry.types import Document
from quarry.v1 import search_service_pb2 as pb
from quarry.v1 import types_pb2
from quarry.vocabulary import Vocabulary
from quarry_server.common.paging import MAX_PAGE_BYTES
from quarry_server.common.values import to_document_message
from quarry_server.search.facets import parse_facets
from quarry_server.search.filters import parse_filter
from quarry_server.search.ordering import parse_order
from quarry_server.search.search_context import parse_context, parse_exploration
from quarry_server.search.shaping import is_shaped, parse_shaping
from quarry_server.search.snippets import parse_snippets

DEFAULT_PAGE_SIZE = 10
MAX_PAGE_SIZE = 1_000
MAX_RETRIEVE_QUERIES = 256


def parse_query(request: pb.SearchRequest, collection: Collection, arms: tuple[str, ...]) -> Query:
    """Parses the query that ``request`` states for a collection with these ``arms``.

    Unless it says anything of arms or fusion, both are as the collection's ranking configuration has them.

    Raises:
        InvalidArgumentError: with the path of the first field that is wrong.
        NotCalibratedError: it has a bound of relevance, and the collection has no re-ranker.
    """
    settings = collection.settings
    text, terms = parse_terms(request, settings.schema)
    order = parse_order(request, settings.schema)
    shaping = parse_shaping(request, settings.schema, text, arms) if is_shaped(request) else None
    fusion = parse_fusion(request.fusion)
    rerank = None if order or request.more_like else parse_rerank(request.rerank, settings)
    if request.HasField("min_relevance"):
        rerank = _bound_relevance(rerank, request, text)
    plans = parse_arms(request.arms, arms, fusion)
    tuned = None if order or request.arms or request.HasField("fusion") else collection.ranking
    if tuned is not None:
        fusion, plans = tuned.configuration.method, tuned.configuration.plan_arms(arms)
    return Query(
        text,
        plans,
        parse_filter(request.filter, settings.schema) if request.HasField("filter") else None,
        fusion,
        rerank,
        request.require_complete,
        collection.ranking_name if tuned is not None else "",
        deepens=not request.arms,
        shaping=shaping,
        terms=add_vocabulary(text, terms, settings.vocabulary, request.typo_tolerance),
        order_by=order,
    )


def parse_page(
    request: pb.SearchRequest, size: int, schema: Schema, names: frozenset[str] | None
) -> PageRequest[types_pb2.Document]:
    """Parses the page that ``request`` asks for: ``size`` hits with the fields called ``names``, or all.

    Raises InvalidArgumentError with the path of the first field that is wrong.
    """

    def render(document: Document) -> tuple[types_pb2.Document, int]:
        message = to_document_message(document, schema, names)
        return message, message.ByteSize()

    logged = LoggedRequest(
        parse_terms(request, schema)[0],
        request.filter.SerializeToString(deterministic=True) if request.HasField("filter") else b"",
        parse_context(request.context),
        parse_exploration(request.exploration),
    )
    return PageRequest(
        logged,
        size,
        MAX_PAGE_BYTES,
        render,
        request.explain,
        request.unlogged,
        parse_snippets(request, schema),
        parse_facets(request, schema),
    )


def parse_terms(request: pb.SearchRequest, schema: Schema) -> tuple[str, TextQuery | None]:
    """Parses the text that models read, which is what the log keeps, and the terms if there are any."""
    text = parse_text(request.query, "query")
    match request.syntax:
        case pb.QUERY_SYNTAX_UNSPECIFIED | pb.QUERY_SYNTAX_PLAIN:
            return text, None
        case pb.QUERY_SYNTAX_ADVANCED:
            terms = parse_text_query(request.query, schema, "query") if text else None
            return str(terms or ""), terms
        case _:
            raise UnknownValueError("syntax", f"{request.syntax} is not a QuerySyntax")


def add_vocabulary(
    text: str, terms: TextQuery | None, vocabulary: Vocabulary | None, tolerates_typos: bool = False
) -> TextQuery | None:
    """Adds to the terms of a query what else BM25 is to find; None if that is no more than the ``text``."""
    if not text or (vocabulary is None and not tolerates_typos):
        return terms
    terms = terms or TextQuery((Term(text),))
    return replace(terms, vocabulary=vocabulary, tolerates_typos=tolerates_typos)


def parse_text(text: str, field: str) -> str:
    stripped = text.strip()
    try:
        check_query_text(stripped)
    except InvalidArgumentError as error:
        raise error.move_to(field) from None
    return stripped


def parse_fusion(message: pb.Fusion) -> Rrf | WeightedSum:
    if message.WhichOneof("kind") != "rrf":
        return WeightedSum(_parse_traits(message.weighted_sum.by_query))
    try:
        return Rrf(message.rrf.k) if message.rrf.k else Rrf()
    except InvalidArgumentError as error:
        raise error.move_under("fusion.rrf") from None


def _parse_traits(messages: Sequence[pb.QueryTrait]) -> QueryWeights | None:
    traits: dict[str, Trait] = {}
    for index, message in enumerate(messages):
        path = f"fusion.weighted_sum.by_query[{index}]"
        if message.name in traits:
            raise DuplicateError(f"{path}.name", f"{message.name[:80]!r} is there twice")
        try:
            traits[message.name] = Trait(message.slope, message.mean, message.deviation)
            check_trait(message.name)
        except InvalidArgumentError as error:
            raise error.move_under(path) from None
    return QueryWeights(traits) if traits else None


def parse_arms(
    messages: Sequence[pb.Arm], known: tuple[str, ...], fusion: Rrf | WeightedSum
) -> tuple[ArmPlan, ...]:
    """Parses the arms asked for, each once; all of them if none is."""
    plans: list[ArmPlan] = []
    for index, message in enumerate(messages):
        if message.name not in known:
            problem = f"{message.name[:80]!r} is not an arm of this collection, which has {', '.join(known)}"
            raise UnknownValueError(f"arms[{index}].name", problem)
        if any(plan.name == message.name for plan in plans):
            raise DuplicateError(f"arms[{index}].name", f"{message.name} is there twice")
        weight = message.weight if message.HasField("weight") else choose_default_weight(message.name, fusion)
        try:
            scale = message.boost_scale if message.HasField("boost_scale") else 1.0
            if scale != 1 and not ARMS[message.name].boosts:
                able = ", ".join(arm.name for arm in ARMS.values() if arm.boosts)
                raise ConflictingFieldsError("boost_scale", f"is for {able}")
            depth = message.depth or DEFAULT_DEPTH
            plans.append(ArmPlan(message.name, depth, weight, scale))
        except InvalidArgumentError as error:
            raise error.move_under(f"arms[{index}]") from None
    return tuple(plans) or plan_default_arms(known, fusion)


def parse_rerank(message: pb.Rerank, settings: CollectionSettings) -> RerankPlan | None:
    """Parses how to re-rank; None for not at all."""
    budget = None
    if message.HasField("budget"):
        budget = message.budget.seconds + message.budget.nanos / 1e9
    try:
        stages = parse_stages(message, settings)
        plan = RerankPlan.from_stages(stages, budget)
    except InvalidArgumentError as error:
        raise error.move_under("rerank") from None
    return None if message.disabled or not plan.model else plan


def _bound_relevance(plan: RerankPlan | None, request: pb.SearchRequest, text: str) -> RerankPlan:
    """Adds to ``plan`` the request's bound of relevance."""
    least = request.min_relevance
    MIN_RELEVANCE.check(least, "min_relevance")  # before anything is said of the collection
    if not text:
        raise ConflictingFieldsError(
            "min_relevance", "is there, and the query has no words: nothing is relevant"
        )
    if request.rerank.disabled:
        raise ConflictingFieldsError("min_relevance", "needs re-ranking, and rerank.disabled is set")
    if plan is None:
        raise NotCalibratedError("the collection has no re-ranker, which would say how relevant a hit is")
    return replace(plan, min_relevance=least)


def parse_stages(message: pb.Rerank, settings: CollectionSettings) -> Cascade:
    """Parses the stages that a search asks for, or those of its collection."""
    own = message.model or settings.reranker
    if not message.cascade:
        # Without a re-ranker of the collection's own, its cascade has nothing to work together with.
        return choose_usual_cascade(settings.cascade if own else (), own, message.depth or None)
    if message.depth:
        raise ConflictingFieldsError("depth", "is there beside a cascade, whose stages have their own")
    stages = parse_cascade(message.cascade)
    if message.model and all(stage.model != OWN for stage in stages):
        raise ConflictingFieldsError("model", "is there beside a cascade in which every stage has a model")
    return resolve_asked_cascade(stages, own)


def name_model_fields(message: pb.Rerank, plan: RerankPlan | None) -> dict[str, str]:
    """Names each model of ``plan``, and the field of the request that asks for it."""
    fields = {stage.model: f"rerank.cascade[{n}].model" for n, stage in enumerate(message.cascade)}
    return {stage.model: fields.get(stage.model, "rerank.model") for stage in plan.stages} if plan else {}


def parse_cascade(messages: Sequence[types_pb2.RerankStage]) -> Cascade:
    return tuple(RerankStage(message.model, message.depth) for message in messages)
