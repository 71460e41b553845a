"""CollectionService."""

from collections.abc import Sequence
from dataclasses import replace

from google.longrunning import operations_pb2

from quarry.collection import Consistency, OpenCollection
from quarry.consistency import SAMPLE, ArmDifferences
from quarry.deadline import Deadline
from quarry.documents.catalog import (
    DEFAULT_OVERLAP_TOKENS,
    Collection,
    CollectionSettings,
    PassagePolicy,
    now_us,
)
from quarry.errors import InvalidArgumentError
from quarry.jobs.operations import Operations, SetMetadata
from quarry.library import Library
from quarry.schema import DEFAULT_SCHEMA, TITLE_BOOST, Field, FieldType, Schema, UnknownFields
from quarry.types import Docno
from quarry.v1 import collection_service_pb2 as pb
from quarry.v1 import collection_service_pb2_grpc
from quarry_server.context import Context, deadline_of
from quarry_server.documents import parse_request_id
from quarry_server.operations import operation_message, packed
from quarry_server.paging import (
    DEFAULT_LIST_PAGE,
    MAX_LIST_PAGE,
    encode_after,
    parse_after,
    parse_page_size,
)
from quarry_server.values import etag_of, parse_etag, timestamp_message

UPDATABLE = ("reranker", "description")

_TYPES = {
    pb.FIELD_TYPE_TEXT: FieldType.TEXT,
    pb.FIELD_TYPE_KEYWORD: FieldType.KEYWORD,
    pb.FIELD_TYPE_INTEGER: FieldType.INTEGER,
    pb.FIELD_TYPE_FLOAT: FieldType.FLOAT,
    pb.FIELD_TYPE_BOOLEAN: FieldType.BOOLEAN,
    pb.FIELD_TYPE_TIMESTAMP: FieldType.TIMESTAMP,
}
_UNKNOWN = {
    pb.UNKNOWN_FIELDS_UNSPECIFIED: UnknownFields.REJECT,
    pb.UNKNOWN_FIELDS_REJECT: UnknownFields.REJECT,
    pb.UNKNOWN_FIELDS_STORE: UnknownFields.STORE,
}
_TYPE_VALUES = {kind: value for value, kind in _TYPES.items()}
_UNKNOWN_VALUES = {kind: value for value, kind in _UNKNOWN.items()}


class CollectionServicer(collection_service_pb2_grpc.CollectionServiceServicer):
    def __init__(
        self, library: Library, operations: Operations, default_encoder: str, default_deadline_s: float
    ) -> None:
        self._library = library
        self._operations = operations
        self._default_encoder = default_encoder
        self._default_deadline_s = default_deadline_s

    async def CreateCollection(
        self, request: pb.CreateCollectionRequest, context: Context
    ) -> pb.CreateCollectionResponse:
        request_id = parse_request_id(request.request_id, "create-collection", request)
        try:
            settings = parse_settings(request.collection, self._default_encoder)
        except InvalidArgumentError as error:
            raise error.under("collection") from None
        created = await self._library.create(settings, request_id)
        return pb.CreateCollectionResponse(collection=await self._message(created))

    async def GetCollection(
        self, request: pb.GetCollectionRequest, context: Context
    ) -> pb.GetCollectionResponse:
        with self._library.use(request.name) as opened:
            return pb.GetCollectionResponse(collection=await self._message(opened))

    async def ListCollections(
        self, request: pb.ListCollectionsRequest, context: Context
    ) -> pb.ListCollectionsResponse:
        size = parse_page_size(request.page_size, DEFAULT_LIST_PAGE, MAX_LIST_PAGE)
        found = await self._library.page(parse_after(request.page_token, request), size + 1)
        more = len(found) > size
        return pb.ListCollectionsResponse(
            collections=[collection_message(collection) for collection in found[:size]],
            next_page_token=encode_after(found[size - 1].settings.name, request) if more else "",
        )

    async def UpdateCollection(
        self, request: pb.UpdateCollectionRequest, context: Context
    ) -> pb.UpdateCollectionResponse:
        paths = list(request.update_mask.paths)
        for path in paths or [""]:
            if path not in UPDATABLE:
                raise InvalidArgumentError(
                    "update_mask", f"{path[:80]!r} is not one of {', '.join(UPDATABLE)}"
                )
        values = {path: getattr(request.collection, path) for path in paths}
        with self._library.use(request.collection.name):
            revision = _parse_revision(request.collection.etag)
            updated = await self._library.update(request.collection.name, revision, values)
            return pb.UpdateCollectionResponse(collection=await self._message(updated))

    async def DeleteCollection(
        self, request: pb.DeleteCollectionRequest, context: Context
    ) -> pb.DeleteCollectionResponse:
        with self._library.use(request.name):
            pass
        await self._library.delete(request.name, parse_etag(request.etag))
        return pb.DeleteCollectionResponse()

    async def CheckConsistency(
        self, request: pb.CheckConsistencyRequest, context: Context
    ) -> pb.CheckConsistencyResponse:
        deadline = deadline_of(context, self._default_deadline_s)
        with self._library.use(request.name) as opened:
            return consistency_message(await opened.check(deadline))

    async def RepairCollection(
        self, request: pb.RepairCollectionRequest, context: Context
    ) -> operations_pb2.Operation:
        with self._library.use(request.name):
            pass
        metadata = pb.RepairCollectionMetadata(
            collection=request.name, start_time=timestamp_message(now_us()), progress=0.0
        )

        async def repair(report: SetMetadata) -> bytes:
            found, after = await self._library.repair(request.name, Deadline())
            metadata.progress = 1.0
            await report(packed(metadata))
            return packed(
                pb.RepairCollectionResponse(
                    found=consistency_message(found), after=consistency_message(after)
                )
            )

        return operation_message(await self._operations.start("repair", packed(metadata), repair))

    async def _message(self, opened: OpenCollection) -> pb.Collection:
        """The collection with its status; counts are read from the log."""
        current = await self._library.current(opened.collection.settings.name)
        message = collection_message(current)
        status = message.status
        status.read_only_reason = str(opened.read_only or "")
        for arm, follower in opened.generation.followers.items():
            status.arms.add(
                arm=arm,
                applied_sequence=follower.visible,
                durable_sequence=follower.durable,
                error=follower.error or "",
            )
        for arm, problem in opened.generation.failures.items():
            status.arms.add(arm=arm, error=problem)
        return message


def parse_settings(message: pb.Collection, default_encoder: str) -> CollectionSettings:
    """Raises InvalidArgumentError, its field below the collection."""
    return CollectionSettings(
        message.name,
        _parse_schema(message.schema) if message.HasField("schema") else DEFAULT_SCHEMA,
        message.encoder or default_encoder,
        message.reranker,
        _parse_passages(message.passages),
        message.description,
    )


def _parse_revision(etag: str) -> int | None:
    try:
        return parse_etag(etag)
    except InvalidArgumentError as error:
        raise error.under("collection") from None


def _parse_passages(message: pb.PassagePolicy) -> PassagePolicy:
    overlap = message.overlap_tokens if message.HasField("overlap_tokens") else DEFAULT_OVERLAP_TOKENS
    if message.max_tokens > 0 and not message.HasField("overlap_tokens"):
        overlap = min(overlap, (message.max_tokens - 1) // 2)
    try:
        return PassagePolicy(message.max_tokens, overlap, message.first_only)
    except InvalidArgumentError as error:
        raise error.under("passages") from None


def _parse_schema(message: pb.Schema) -> Schema:
    if message.unknown_fields not in _UNKNOWN:
        raise InvalidArgumentError(
            "schema.unknown_fields", f"{message.unknown_fields} is not an UnknownFields"
        )
    fields = [_parse_field(index, field) for index, field in enumerate(message.fields)]
    if not any(field.is_title for field in fields):
        said = {field.name for field in message.fields if field.HasField("is_title")}
        fields = [_as_title(field) if field.name not in said else field for field in fields]
    unsaid = {field.name for field in message.fields if not field.HasField("boost")}
    fields = [replace(f, boost=TITLE_BOOST) if f.is_title and f.name in unsaid else f for f in fields]
    try:
        return Schema(tuple(fields), _UNKNOWN[message.unknown_fields])
    except InvalidArgumentError as error:
        raise error.under("schema") from None


def _as_title(field: Field) -> Field:
    titled = field.name == "title" and field.type is FieldType.TEXT
    return replace(field, is_title=True) if titled else field


def _parse_field(index: int, message: pb.Field) -> Field:
    path = f"schema.fields[{index}]"
    if message.type not in _TYPES:
        raise InvalidArgumentError(f"{path}.type", f"{message.type} is not a FieldType")
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
        raise error.under(path) from None


def collection_message(collection: Collection) -> pb.Collection:
    """The collection without the state of its arms."""
    settings = collection.settings
    return pb.Collection(
        name=settings.name,
        schema=_schema_message(settings.schema),
        encoder=settings.encoder,
        reranker=settings.reranker,
        passages=pb.PassagePolicy(
            max_tokens=settings.passages.max_tokens,
            overlap_tokens=settings.passages.overlap_tokens,
            first_only=settings.passages.first_only,
        ),
        description=settings.description,
        create_time=timestamp_message(collection.create_time_us),
        update_time=timestamp_message(collection.update_time_us),
        etag=etag_of(collection.revision),
        status=pb.CollectionStatus(
            document_count=collection.document_count,
            last_sequence=collection.last_sequence,
            generation=collection.generation,
        ),
    )


def _schema_message(schema: Schema) -> pb.Schema:
    return pb.Schema(
        fields=[_field_message(field) for field in schema.fields],
        unknown_fields=_UNKNOWN_VALUES[schema.unknown_fields],
    )


def _field_message(field: Field) -> pb.Field:
    if field.type is not FieldType.TEXT:
        return pb.Field(name=field.name, type=_TYPE_VALUES[field.type])
    return pb.Field(
        name=field.name,
        type=pb.FIELD_TYPE_TEXT,
        boost=field.boost,
        language=field.language,
        searchable=field.searchable,
        embedded=field.embedded,
        is_title=field.is_title,
    )


def consistency_message(found: Consistency) -> pb.CheckConsistencyResponse:
    return pb.CheckConsistencyResponse(
        consistent=found.consistent,
        sequence=found.sequence,
        arms=[_arm_message(arm) for arm in found.arms],
    )


def _arm_message(arm: ArmDifferences) -> pb.ArmDifferences:
    def differences(docnos: Sequence[Docno]) -> pb.Differences:
        names = [arm.names.get(docno, f"docno:{docno}") for docno in docnos[:SAMPLE]]
        return pb.Differences(count=len(docnos), sample_ids=names)

    return pb.ArmDifferences(
        arm=arm.arm,
        documents=arm.documents,
        missing=differences(arm.missing),
        surplus=differences(arm.surplus),
        outdated=differences(arm.outdated),
    )
