"""The wishes of a search for its list, from messages; and what became of them, as messages."""

from collections.abc import Iterator, Mapping

from quarry.errors import (
    ConflictingFieldsError,
    InvalidArgumentError,
    NoVectorsError,
    RequiredError,
    UnknownFieldError,
    UnknownValueError,
    WrongTypeError,
)
from quarry.filters import Filter
from quarry.ranking.ranking import NotPinned, RankedDocument, Ranking, Shape
from quarry.ranking.shaping import Boost, Collapse, Diversity, Freshness, Popularity, Shaping
from quarry.retrieval.registry import ARMS
from quarry.schema import Field, FieldType, Schema
from quarry.search.result_pages import Hit
from quarry.v1 import search_service_pb2 as pb
from quarry.v1 import types_pb2
from quarry_server.search.filters import parse_filter

_GROUPING = (FieldType.KEYWORD, FieldType.INTEGER)
_NUMBERS = (FieldType.INTEGER, FieldType.FLOAT)
_REASONS = {
    NotPinned.NOT_FOUND: pb.NOT_PINNED_REASON_NOT_FOUND,
    NotPinned.FILTERED: pb.NOT_PINNED_REASON_FILTERED,
}
_MODES = {
    pb.BOOST_MODE_UNSPECIFIED: False,
    pb.BOOST_MODE_MULTIPLY: False,
    pb.BOOST_MODE_ADD: True,
}
"""Whether each mode adds."""


def is_shaped(request: pb.SearchRequest) -> bool:
    """Tells whether the request has anything that ``parse_shaping`` reads."""
    return bool(
        request.pinned_ids
        or request.exclude_ids
        or request.boosts
        or request.more_like
        or request.HasField("collapse")
        or request.HasField("diversity")
    )


def parse_shaping(request: pb.SearchRequest, schema: Schema, text: str, arms: tuple[str, ...]) -> Shaping:
    """Parses what ``request`` asks of its list.

    Args:
        text: its query, spaces around it cut.
        arms: that the collection has.

    Raises:
        InvalidArgumentError: with the path of the first field that is wrong.
        NoVectorsError: it asks for diversity, and no arm compares passages.
    """
    if request.more_like:
        _check_alone(request, text)
    elif not text:
        _check_rankless(request)
    shaping = Shaping(
        tuple(request.pinned_ids),
        frozenset(request.exclude_ids),
        _parse_collapse(request.collapse, schema) if request.HasField("collapse") else None,
        _parse_diversity(request.diversity) if request.HasField("diversity") else None,
        tuple(_parse_boosts(request, schema)),
        request.more_like,
    )
    if shaping.diversity is not None and not any(ARMS[arm].compares_passages for arm in arms):
        raise NoVectorsError
    return shaping


def _check_rankless(request: pb.SearchRequest) -> None:
    """Raises ConflictingFieldsError if the request orders what is browsed."""
    asked = {
        "collapse": request.HasField("collapse"),
        "diversity": request.HasField("diversity"),
        "boosts": bool(request.boosts),
    }
    for name in (name for name, there in asked.items() if there):
        raise ConflictingFieldsError(name, "needs a query: without one nothing is ranked")


def _check_alone(request: pb.SearchRequest, text: str) -> None:
    """Raises ConflictingFieldsError if ``more_like`` stands beside what it has no use for."""
    rerank = request.rerank
    if text:
        raise ConflictingFieldsError("more_like", "stands in the place of a query, and there is one")
    if request.HasField("min_relevance"):
        raise ConflictingFieldsError("min_relevance", "needs re-ranking, which more_like has not")
    if rerank.model or rerank.depth or rerank.cascade:
        raise ConflictingFieldsError(
            "rerank", "is there, and nothing is re-ranked that is found by more_like"
        )


def _parse_collapse(message: pb.Collapse, schema: Schema) -> Collapse:
    field = _find_field(message.field, schema, "collapse.field")
    if field.type not in _GROUPING and not field.is_title:
        problem = f"{field.name} is {field.type}: groups are made by a keyword, an integer or the title"
        raise WrongTypeError("collapse.field", problem)
    try:
        return Collapse(message.field, message.members)
    except InvalidArgumentError as error:
        raise error.move_under("collapse") from None


def _parse_diversity(message: pb.Diversity) -> Diversity:
    usual = Diversity()
    weight = message.relevance_weight if message.HasField("relevance_weight") else usual.relevance_weight
    try:
        return Diversity(weight, message.depth or usual.depth)
    except InvalidArgumentError as error:
        raise error.move_under("diversity") from None


def _parse_boosts(request: pb.SearchRequest, schema: Schema) -> Iterator[Boost]:
    for number, message in enumerate(request.boosts):
        try:
            if message.mode not in _MODES:
                raise UnknownValueError("mode", f"{message.mode} is no BoostMode")
            by: Filter | Freshness | Popularity
            match message.WhichOneof("kind"):
                case "filter":
                    by = parse_filter(message.filter, schema)
                case "freshness":
                    by = _parse_freshness(message.freshness, schema)
                case "popularity":
                    by = _parse_popularity(message.popularity, schema)
                case _:
                    raise RequiredError(
                        "filter", "is not there, nor freshness, nor popularity: one of them is needed"
                    )
            yield Boost(by, message.weight, _MODES[message.mode])
        except InvalidArgumentError as error:
            raise error.move_under(f"boosts[{number}]") from None


def _parse_freshness(message: pb.Freshness, schema: Schema) -> Freshness:
    field = _find_field(message.field, schema, "freshness.field")
    if field.type is not FieldType.TIMESTAMP:
        raise WrongTypeError("freshness.field", f"{field.name} is {field.type}, and no timestamp")
    try:
        return Freshness(field.name, message.half_life.ToMicroseconds())
    except InvalidArgumentError as error:
        raise error.move_under("freshness") from None


def _parse_popularity(message: pb.Popularity, schema: Schema) -> Popularity:
    field = _find_field(message.field, schema, "popularity.field")
    if field.type not in _NUMBERS:
        raise WrongTypeError("popularity.field", f"{field.name} is {field.type}, and no number")
    try:
        return Popularity(field.name, message.half)
    except InvalidArgumentError as error:
        raise error.move_under("popularity") from None


def _find_field(name: str, schema: Schema, path: str) -> Field:
    if not name:
        raise RequiredError(path, "is empty")
    field = schema.get(name)
    if field is None:
        raise UnknownFieldError(path, f"the schema has no field {name[:80]!r}")
    return field


def to_not_pinned_messages(not_pinned: Mapping[str, NotPinned]) -> list[pb.NotPinned]:
    """Names the documents that were to be pinned and are not."""
    return [pb.NotPinned(document_id=id, reason=_REASONS[why]) for id, why in not_pinned.items()]


def add_shape(message: pb.Hit, hit: Hit[types_pb2.Document], ranking: Ranking) -> None:
    """Adds what the search's shaping made of a hit."""
    shape = hit.ranked.shape
    message.pinned, message.collapsed = shape.pinned, shape.others

    def to_member(member: RankedDocument, document: types_pb2.Document) -> pb.GroupMember:
        return pb.GroupMember(document=document, score=ranking.scale(member))

    message.members.extend(to_member(member, document) for member, document in hit.members)


def explain_shape(message: pb.Explanation, shape: Shape) -> None:
    """Adds what moved a hit."""
    if shape.similarity is not None:
        message.similarity = shape.similarity
    for effect in shape.boosts:
        message.boosts.add(boost=effect.boost, strength=effect.strength, effect=effect.effect)
