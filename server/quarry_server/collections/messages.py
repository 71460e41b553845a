"""Collections, their settings and their consistency, from and to messages."""

from collections.abc import Sequence
from dataclasses import replace

from quarry.collections.collection_handle import Consistency
from quarry.collections.consistency import SAMPLE, ArmDifferences
from quarry.collections.generation import Generation
from quarry.documents.catalog import (
    DEFAULT_OVERLAP_TOKENS,
    Collection,
    CollectionSettings,
    PassagePolicy,
)
from quarry.errors import InvalidArgumentError, RequiredError, UnknownValueError
from quarry.ranking.promotion_policy import PromotionPolicy
from quarry.schema import DEFAULT_SCHEMA, TITLE_BOOST, Field, FieldType, Schema, UnknownFields
from quarry.types import Docno
from quarry.v1 import collection_service_pb2 as pb
from quarry.v1 import types_pb2
from quarry_server.common.values import make_etag, to_timestamp
from quarry_server.search.queries import parse_cascade

_TYPES = {
    pb.SCHEMA_FIELD_TYPE_TEXT: FieldType.TEXT,
    pb.SCHEMA_FIELD_TYPE_KEYWORD: FieldType.KEYWORD,
    pb.SCHEMA_FIELD_TYPE_INTEGER: FieldType.INTEGER,
    pb.SCHEMA_FIELD_TYPE_FLOAT: FieldType.FLOAT,
    pb.SCHEMA_FIELD_TYPE_BOOLEAN: FieldType.BOOLEAN,
    pb.SCHEMA_FIELD_TYPE_TIMESTAMP: FieldType.TIMESTAMP,
}
_UNKNOWN = {
    pb.UNKNOWN_FIELDS_UNSPECIFIED: UnknownFields.REJECT,
    pb.UNKNOWN_FIELDS_REJECT: UnknownFields.REJECT,
    pb.UNKNOWN_FIELDS_STORE: UnknownFields.STORE,
}
_PROMOTIONS = {
    pb.PROMOTION_POLICY_UNSPECIFIED: None,
    pb.PROMOTION_POLICY_MANUAL: PromotionPolicy.MANUAL,
    pb.PROMOTION_POLICY_WHEN_IMPROVED: PromotionPolicy.WHEN_IMPROVED,
    pb.PROMOTION_POLICY_DESPITE_CAUTIONS: PromotionPolicy.DESPITE_CAUTIONS,
}
_PROMOTION_VALUES = {policy: value for value, policy in _PROMOTIONS.items()}
_TYPE_VALUES = {kind: value for value, kind in _TYPES.items()}
_UNKNOWN_VALUES = {kind: value for value, kind in _UNKNOWN.items()}


def parse_settings(message: pb.Collection, default_encoder: str) -> CollectionSettings:
    """Raises InvalidArgumentError, its field below the collection."""
    return CollectionSettings(
        message.name,
        parse_schema(message.schema) if message.HasField("schema") else DEFAULT_SCHEMA,
        message.encoder or default_encoder,
        message.reranker,
        parse_passages(message.passages),
        message.description,
        parse_cascade(message.cascade),
        parse_promotion(message.promotion),
    )


def parse_promotion(value: pb.PromotionPolicy.ValueType) -> PromotionPolicy | None:
    """Parses the policy; None for what the server has. Raises InvalidArgumentError."""
    if value not in _PROMOTIONS:
        raise UnknownValueError("promotion", f"{value} is not a PromotionPolicy")
    return _PROMOTIONS[value]


def parse_passages(message: pb.PassagePolicy) -> PassagePolicy:
    overlap = message.overlap_tokens if message.HasField("overlap_tokens") else DEFAULT_OVERLAP_TOKENS
    if message.max_tokens > 0 and not message.HasField("overlap_tokens"):
        overlap = min(overlap, (message.max_tokens - 1) // 2)
    try:
        return PassagePolicy(message.max_tokens, overlap, message.first_only)
    except InvalidArgumentError as error:
        raise error.move_under("passages") from None


def parse_schema(message: pb.Schema) -> Schema:
    if message.unknown_fields not in _UNKNOWN:
        raise UnknownValueError("schema.unknown_fields", f"{message.unknown_fields} is not an UnknownFields")
    fields = [_parse_field(index, field) for index, field in enumerate(message.fields)]
    if not any(field.is_title for field in fields):
        said = {field.name for field in message.fields if field.HasField("is_title")}
        fields = [_as_title(field) if field.name not in said else field for field in fields]
    unsaid = {field.name for field in message.fields if not field.HasField("boost")}
    fields = [replace(f, boost=TITLE_BOOST) if f.is_title and f.name in unsaid else f for f in fields]
    try:
        return Schema(tuple(fields), _UNKNOWN[message.unknown_fields])
    except InvalidArgumentError as error:
        raise error.move_under("schema") from None


def _as_title(field: Field) -> Field:
    titled = field.name == "title" and field.type is FieldType.TEXT
    return replace(field, is_title=True) if titled else field


def _parse_field(index: int, message: pb.SchemaField) -> Field:
    path = f"schema.fields[{index}]"
    if message.type not in _TYPES:
        wrong = UnknownValueError if message.type else RequiredError
        raise wrong(f"{path}.type", f"{message.type} is not a SchemaFieldType")
    optional = {
        name: getattr(message, name)
        for name in ("boost", "searchable", "embedded", "is_title")
        if message.HasField(name)
    }
    if message.language:
        optional["language"] = message.language
    try:
        return Field(message.name, _TYPES[message.type], **optional)
    except InvalidArgumentError as error:
        raise error.move_under(path) from None


def to_collection_message(collection: Collection) -> pb.Collection:
    """Writes the collection without the state of its arms."""
    settings = collection.settings
    return pb.Collection(
        name=settings.name,
        schema=to_schema_message(settings.schema),
        encoder=settings.encoder,
        reranker=settings.reranker,
        passages=to_passages_message(settings.passages),
        description=settings.description,
        promotion=_PROMOTION_VALUES[settings.promotion],
        cascade=[types_pb2.RerankStage(model=s.model, depth=s.depth) for s in settings.cascade],
        create_time=to_timestamp(collection.create_time_us),
        update_time=to_timestamp(collection.update_time_us),
        etag=make_etag(collection.revision),
        ranking=collection.ranking_name,
        status=pb.CollectionStatus(
            document_count=collection.document_count,
            last_sequence=collection.last_sequence,
            generation=collection.generation,
        ),
    )


def to_passages_message(policy: PassagePolicy) -> pb.PassagePolicy:
    return pb.PassagePolicy(
        max_tokens=policy.max_tokens, overlap_tokens=policy.overlap_tokens, first_only=policy.first_only
    )


def to_schema_message(schema: Schema) -> pb.Schema:
    return pb.Schema(
        fields=[_to_field_message(field) for field in schema.fields],
        unknown_fields=_UNKNOWN_VALUES[schema.unknown_fields],
    )


def _to_field_message(field: Field) -> pb.SchemaField:
    if field.type is not FieldType.TEXT:
        return pb.SchemaField(name=field.name, type=_TYPE_VALUES[field.type])
    return pb.SchemaField(
        name=field.name,
        type=pb.SCHEMA_FIELD_TYPE_TEXT,
        boost=field.boost,
        language=field.language,
        searchable=field.searchable,
        embedded=field.embedded,
        is_title=field.is_title,
    )


def to_consistency_message(found: Consistency) -> pb.CheckConsistencyResponse:
    return pb.CheckConsistencyResponse(
        consistent=found.consistent,
        sequence=found.sequence,
        arms=[_to_arm_message(arm) for arm in found.arms],
    )


def _to_arm_message(arm: ArmDifferences) -> pb.ArmDifferences:
    def to_differences(docnos: Sequence[Docno]) -> pb.Differences:
        names = [arm.names.get(docno, f"docno:{docno}") for docno in docnos[:SAMPLE]]
        return pb.Differences(count=len(docnos), sample_ids=names)

    return pb.ArmDifferences(
        arm=arm.arm,
        documents=arm.documents,
        missing=to_differences(arm.missing),
        surplus=to_differences(arm.surplus),
        outdated=to_differences(arm.outdated),
        damaged=to_differences(arm.damaged),
        vectors_checked=arm.vectors,
        documents_encoded=arm.encoded,
        damaged_files=arm.files,
    )


def to_arm_messages(generation: Generation) -> list[pb.ArmStatus]:
    """Writes how far each arm is, and those that could not be opened."""
    followed = [
        pb.ArmStatus(
            arm=arm,
            applied_sequence=follower.visible,
            durable_sequence=follower.durable,
            error=generation.find_problem(arm),
            reached_sequence=follower.reached_sequence,
            encoding=[
                pb.EncodingProgress(sequence=one.version, passages_done=one.done, passages_total=one.total)
                for one in follower.list_preparations()
            ],
        )
        for arm, follower in generation.followers.items()
    ]
    return followed + [pb.ArmStatus(arm=arm, error=why) for arm, why in generation.failures.items()]
