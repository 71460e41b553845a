"""DocumentService."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass

from google.protobuf.message import Message

from quarry.collections.collection import OpenCollection, Written
from quarry.collections.library import Library
from quarry.deadline import Deadline
from quarry.documents.log import Outcome, Upsert
from quarry.documents.requests import check_request_id
from quarry.documents.store import RequestId
from quarry.errors import (
    ConflictingFieldsError,
    DocumentNotFoundError,
    InvalidArgumentError,
    OutOfRangeError,
    RequiredError,
    UnknownFieldError,
    UnknownValueError,
)
from quarry.schema import FIELD_NAME, MAX_DOCUMENT_BYTES, MAX_FIELDS, Schema, check_fields, check_id
from quarry.types import Fields
from quarry.v1 import document_service_pb2 as pb
from quarry.v1 import document_service_pb2_grpc, types_pb2
from quarry_server.common.context import Context, deadline_of
from quarry_server.common.errors import ok_status, status_of
from quarry_server.common.page_tokens import DOCUMENTS
from quarry_server.common.paging import (
    DEFAULT_LIST_PAGE,
    MAX_LIST_PAGE,
    MAX_PAGE_BYTES,
    fitting,
    parse_page_size,
)
from quarry_server.common.values import document_message, etag_of, parse_etag, parse_fields, set_fields
from quarry_server.search.filters import parse_filter

MAX_BATCH_DOCUMENTS = 10_000
_PARSED_AT_ONCE = 200


class DocumentServicer(document_service_pb2_grpc.DocumentServiceServicer):
    def __init__(self, library: Library, default_deadline_s: float) -> None:
        self._library, self._default_deadline_s = library, default_deadline_s

    async def BatchUpsertDocuments(
        self, request: pb.BatchUpsertDocumentsRequest, context: Context
    ) -> pb.BatchUpsertDocumentsResponse:
        deadline = deadline_of(context, self._default_deadline_s)
        request_id = parse_request_id(request.request_id, "upsert", request)
        wait = parse_wait(request.wait)
        with self._library.use(request.collection) as collection:
            statuses, result = await upsert(collection, request.documents, request_id, wait, deadline)
        return pb.BatchUpsertDocumentsResponse(statuses=statuses, result=result)

    async def UpsertDocuments(
        self, request_iterator: AsyncIterator[pb.UpsertDocumentsRequest], context: Context
    ) -> AsyncIterator[pb.UpsertDocumentsResponse]:
        config: pb.UpsertDocumentsConfig | None = None
        wait = False
        async for request in request_iterator:
            kind = request.WhichOneof("message")
            if (kind == "config") != (config is None):
                raise InvalidArgumentError("message", "the stream opens with config, and only once")
            if kind == "config":
                config = request.config
                with _under("config"):
                    wait = parse_wait(config.wait)
                with self._library.use(config.collection):
                    continue
            if config is None or kind is None:
                raise RequiredError("message", "holds neither config nor batch")
            # A stream has no deadline of its own for a batch, unless the caller gave the whole stream one.
            deadline = deadline_of(context, self._default_deadline_s)
            batch = request.batch
            with _under("batch"), self._library.use(config.collection) as collection:
                request_id = parse_request_id(batch.request_id, "upsert", batch)
                statuses, result = await upsert(collection, batch.documents, request_id, wait, deadline)
            yield pb.UpsertDocumentsResponse(statuses=statuses, result=result)

    async def UpdateDocument(
        self, request: pb.UpdateDocumentRequest, context: Context
    ) -> pb.UpdateDocumentResponse:
        deadline = deadline_of(context, self._default_deadline_s)
        request_id = parse_request_id(request.request_id, "update", request)
        with self._library.use(request.collection) as collection:
            schema = collection.collection.settings.schema
            change, if_version = parse_update(request, schema)
            document, written = await collection.update(
                request.document.id,
                change,
                if_version,
                request.allow_missing,
                request_id,
                parse_wait(request.wait),
                deadline,
            )
        return pb.UpdateDocumentResponse(
            document=document_message(document, schema), result=result_message(written)
        )

    async def GetDocument(self, request: pb.GetDocumentRequest, context: Context) -> pb.GetDocumentResponse:
        check_id(request.id)
        with self._library.use(request.collection) as collection:
            document = await asyncio.to_thread(collection.log.get, request.id)
            if document is None:
                raise DocumentNotFoundError(request.id)
            return pb.GetDocumentResponse(
                document=document_message(document, collection.collection.settings.schema)
            )

    async def ListDocuments(
        self, request: pb.ListDocumentsRequest, context: Context
    ) -> pb.ListDocumentsResponse:
        size = parse_page_size(request.page_size, DEFAULT_LIST_PAGE, MAX_LIST_PAGE)
        (after,) = DOCUMENTS.parse(request) or ("",)
        with self._library.use(request.collection) as collection:
            schema = collection.collection.settings.schema
            filter = parse_filter(request.filter, schema) if request.HasField("filter") else None
            found, more = await asyncio.to_thread(collection.log.page, after, size, MAX_PAGE_BYTES, filter)
        messages = fitting(document_message(document, schema) for document in found)
        more = more or len(found) > len(messages)
        return pb.ListDocumentsResponse(
            documents=messages,
            next_page_token=DOCUMENTS.encode((found[len(messages) - 1].id,), request) if more else "",
        )

    async def BatchDeleteDocuments(
        self, request: pb.BatchDeleteDocumentsRequest, context: Context
    ) -> pb.BatchDeleteDocumentsResponse:
        deadline = deadline_of(context, self._default_deadline_s)
        request_id = parse_request_id(request.request_id, "delete", request)
        wait = parse_wait(request.wait)
        check_batch("ids", len(request.ids))
        with self._library.use(request.collection) as collection:
            written = await collection.delete(request.ids, request_id, wait, deadline)
        return pb.BatchDeleteDocumentsResponse(
            statuses=[status_message(outcome) for outcome in written.outcomes],
            result=result_message(written),
        )

    async def DeleteDocumentsByFilter(
        self, request: pb.DeleteDocumentsByFilterRequest, context: Context
    ) -> pb.DeleteDocumentsByFilterResponse:
        deadline = deadline_of(context, self._default_deadline_s)
        request_id = parse_request_id(request.request_id, "delete-by-filter", request)
        wait = parse_wait(request.wait)
        with self._library.use(request.collection) as collection:
            filter = parse_filter(request.filter, collection.collection.settings.schema)
            written = await collection.delete_by_filter(filter, request_id, wait, deadline)
        return pb.DeleteDocumentsByFilterResponse(
            deleted_count=len(written.outcomes), result=result_message(written)
        )


async def upsert(
    collection: OpenCollection,
    documents: Sequence[types_pb2.Document],
    request: RequestId,
    wait: bool,
    deadline: Deadline,
) -> tuple[list[pb.DocumentStatus], pb.WriteResult]:
    """Stores the documents that are right; a status for each, right or not, in order."""
    check_batch("documents", len(documents))
    schema = collection.collection.settings.schema
    parsed: list[Upsert | Outcome] = []
    for start in range(0, len(documents), _PARSED_AT_ONCE):
        parsed += [
            parse_document(document, schema) for document in documents[start : start + _PARSED_AT_ONCE]
        ]
        await asyncio.sleep(0)  # other calls run between two slices of a large batch
    written = await collection.upsert([p for p in parsed if isinstance(p, Upsert)], request, wait, deadline)
    done = iter(written.outcomes)
    outcomes = [next(done) if isinstance(p, Upsert) else p for p in parsed]
    return [status_message(outcome) for outcome in outcomes], result_message(written)


def parse_document(message: types_pb2.Document, schema: Schema) -> Upsert | Outcome:
    """What to store, or why not."""
    try:
        check_id(message.id)
        if message.ByteSize() > MAX_DOCUMENT_BYTES:
            raise OutOfRangeError("fields", f"has over {MAX_DOCUMENT_BYTES} bytes in all")
        fields = check_fields(parse_fields(message), schema)
        return Upsert(message.id, fields, parse_etag(message.etag))
    except InvalidArgumentError as error:
        return Outcome(message.id, error=error)


def parse_update(request: pb.UpdateDocumentRequest, schema: Schema) -> "tuple[FieldChange, int | None]":
    """The change that the mask and the document state, and to which version. Raises InvalidArgumentError."""
    message = request.document
    try:
        check_id(message.id)
        if_version = parse_etag(message.etag)
        given = check_fields(parse_fields(message), schema)
    except InvalidArgumentError as error:
        raise error.under("document") from None
    return parse_mask(request.update_mask.paths, given, schema), if_version


def parse_mask(mask: Sequence[str], given: Fields, schema: Schema) -> "FieldChange":
    """The fields that ``mask`` names are taken from ``given``; all of them, if it is empty or ``*``."""
    if not mask or list(mask) == ["*"]:
        return FieldChange(given, None, schema)
    names = frozenset(path.removeprefix("fields.") for path in mask)
    for name in names:
        if not FIELD_NAME.fullmatch(name):
            raise UnknownFieldError("update_mask", f"{name[:80]!r} is not a field's name")
    if surplus := given.keys() - names:
        raise ConflictingFieldsError("update_mask", f"lacks {min(surplus)}, which the document holds")
    return FieldChange(given, names, schema)


@dataclass(frozen=True, slots=True)
class FieldChange:
    """Puts ``given`` in place of the fields called ``names``; of all fields, if None."""

    given: Fields
    names: frozenset[str] | None
    schema: Schema

    def __call__(self, fields: Fields) -> Fields:
        """Raises InvalidArgumentError if the whole document gets larger than documents may be."""
        kept = {} if self.names is None else {n: v for n, v in fields.items() if n not in self.names}
        whole = kept | self.given
        if len(whole) > MAX_FIELDS:
            raise OutOfRangeError("document.fields", f"would be over {MAX_FIELDS} fields in all")
        message = types_pb2.Document()
        set_fields(message, whole, self.schema, None)
        if message.ByteSize() > MAX_DOCUMENT_BYTES:
            raise OutOfRangeError("document.fields", f"would have over {MAX_DOCUMENT_BYTES} bytes in all")
        return whole


def parse_request_id(request_id: str, method: str, request: Message) -> RequestId:
    check_request_id(request_id)
    return RequestId(request_id, method, request.SerializeToString(deterministic=True) if request_id else b"")


def parse_wait(value: int) -> bool:
    """Whether to wait until searches find the write. Raises InvalidArgumentError for an unknown value."""
    if value not in pb.WriteVisibility.values():
        raise UnknownValueError("wait", f"{value} is not a WriteVisibility")
    return value == pb.WRITE_VISIBILITY_SEARCHABLE


@contextlib.contextmanager
def _under(prefix: str) -> Iterator[None]:
    """Errors about fields are about fields below ``prefix``."""
    try:
        yield
    except InvalidArgumentError as error:
        raise error.under(prefix) from None


def check_batch(field: str, size: int) -> None:
    if size > MAX_BATCH_DOCUMENTS:
        raise OutOfRangeError(field, f"has {size} entries, at most {MAX_BATCH_DOCUMENTS} are allowed")


def status_message(outcome: Outcome) -> pb.DocumentStatus:
    if outcome.error is not None:
        return pb.DocumentStatus(id=outcome.id, status=status_of(outcome.error))
    return pb.DocumentStatus(id=outcome.id, status=ok_status(), etag=etag_of(outcome.version))


def result_message(written: Written) -> pb.WriteResult:
    reached = pb.WRITE_VISIBILITY_SEARCHABLE if written.searchable else pb.WRITE_VISIBILITY_LOGGED
    return pb.WriteResult(sequence=written.sequence, reached=reached)
