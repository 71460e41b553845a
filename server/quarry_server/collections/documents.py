"""DocumentService."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass

from quarry.collections.collection_handle import CollectionHandle, WriteSummary
from quarry.collections.collections import Collections
from quarry.deadline import Deadline
from quarry.documents.bulk_updates import Refusal
from quarry.documents.catalog import NO_ENCODER
from quarry.documents.log import Upsert, WriteOutcome
from quarry.documents.store import RequestId
from quarry.documents.upsert_checker import UpsertChecker
from quarry.errors import (
    ConflictingFieldsError,
    DocumentNotFoundError,
    InvalidArgumentError,
    OutOfRangeError,
    RequiredError,
    UnknownFieldError,
    UnknownValueError,
)
from quarry.schema import (
    FIELD_NAME,
    MAX_DOCUMENT_BYTES,
    MAX_FIELDS,
    Schema,
    UnknownFields,
    check_fields,
    check_id,
)
from quarry.types import Fields
from quarry.upsert_warnings import UpsertWarning, WarningKind
from quarry.v1 import document_service_pb2 as pb
from quarry.v1 import document_service_pb2_grpc, types_pb2
from quarry_server.common.context import Context, resolve_deadline
from quarry_server.common.errors import make_ok_status, make_status
from quarry_server.common.page_tokens import DOCUMENTS
from quarry_server.common.paging import (
    DEFAULT_LIST_PAGE,
    MAX_LIST_PAGE,
    MAX_PAGE_BYTES,
    parse_page_size,
    take_fitting,
)
from quarry_server.common.request_ids import parse_request_id
from quarry_server.common.streams import read_batches
from quarry_server.common.values import make_etag, parse_etag, parse_fields, set_fields, to_document_message
from quarry_server.search.filters import parse_filter

MAX_BATCH_DOCUMENTS = 10_000
_PARSED_AT_ONCE = 200
_WARNINGS = {
    WarningKind.NO_SEARCHED_TEXT: pb.UPSERT_WARNING_KIND_NO_SEARCHED_TEXT,
    WarningKind.UNKNOWN_FIELDS: pb.UPSERT_WARNING_KIND_UNKNOWN_FIELDS,
}


class DocumentServicer(document_service_pb2_grpc.DocumentServiceServicer):
    def __init__(self, open_collections: Collections, default_deadline_s: float) -> None:
        self._open_collections, self._default_deadline_s = open_collections, default_deadline_s

    async def BatchUpsertDocuments(
        self, request: pb.BatchUpsertDocumentsRequest, context: Context
    ) -> pb.BatchUpsertDocumentsResponse:
        deadline = resolve_deadline(context, self._default_deadline_s)
        request_id = parse_request_id(request.request_id, "upsert", request)
        wait = parse_wait(request.wait)
        with self._open_collections.use(request.collection) as collection:
            done = await upsert(collection, request.documents, request_id, wait, deadline)
        return pb.BatchUpsertDocumentsResponse(
            statuses=done.statuses, result=done.result, warnings=done.warnings
        )

    async def UpsertDocuments(
        self, request_iterator: AsyncIterator[pb.UpsertDocumentsRequest], context: Context
    ) -> AsyncIterator[pb.UpsertDocumentsResponse]:
        def open_stream(config: pb.UpsertDocumentsConfig) -> tuple[str, bool]:
            with _move_errors_under("config"):
                wait = parse_wait(config.wait)
            return self._open_collections.find_name(config.collection), wait  # one collection for all batches

        async for (name, wait), batch in read_batches(request_iterator, open_stream):
            # A stream has no deadline of its own for a batch, unless the caller gave the whole stream one.
            deadline = resolve_deadline(context, self._default_deadline_s)
            with _move_errors_under("batch"), self._open_collections.use(name) as collection:
                request_id = parse_request_id(batch.request_id, "upsert", batch)
                done = await upsert(collection, batch.documents, request_id, wait, deadline)
            yield pb.UpsertDocumentsResponse(
                statuses=done.statuses, result=done.result, warnings=done.warnings
            )

    async def UpdateDocument(
        self, request: pb.UpdateDocumentRequest, context: Context
    ) -> pb.UpdateDocumentResponse:
        deadline = resolve_deadline(context, self._default_deadline_s)
        request_id = parse_request_id(request.request_id, "update", request)
        with self._open_collections.use(request.collection) as collection:
            schema = collection.row.settings.schema
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
            document=to_document_message(document, schema), result=to_result_message(written)
        )

    async def GetDocument(self, request: pb.GetDocumentRequest, context: Context) -> pb.GetDocumentResponse:
        check_id(request.id)
        with self._open_collections.use(request.collection) as collection:
            document = await asyncio.to_thread(collection.log.get, request.id)
            if document is None:
                raise DocumentNotFoundError(request.id)
            return pb.GetDocumentResponse(
                document=to_document_message(document, collection.row.settings.schema)
            )

    async def ListDocuments(
        self, request: pb.ListDocumentsRequest, context: Context
    ) -> pb.ListDocumentsResponse:
        size = parse_page_size(request.page_size, DEFAULT_LIST_PAGE, MAX_LIST_PAGE)
        (after,) = DOCUMENTS.parse(request) or ("",)
        with self._open_collections.use(request.collection) as collection:
            schema = collection.row.settings.schema
            filter = parse_filter(request.filter, schema) if request.HasField("filter") else None
            found, more = await asyncio.to_thread(
                collection.log.read_page, after, size, MAX_PAGE_BYTES, filter
            )
        messages = take_fitting(to_document_message(document, schema) for document in found)
        more = more or len(found) > len(messages)
        return pb.ListDocumentsResponse(
            documents=messages,
            next_page_token=DOCUMENTS.encode((found[len(messages) - 1].id,), request) if more else "",
        )

    async def BatchDeleteDocuments(
        self, request: pb.BatchDeleteDocumentsRequest, context: Context
    ) -> pb.BatchDeleteDocumentsResponse:
        deadline = resolve_deadline(context, self._default_deadline_s)
        request_id = parse_request_id(request.request_id, "delete", request)
        wait = parse_wait(request.wait)
        check_batch("ids", len(request.ids))
        with self._open_collections.use(request.collection) as collection:
            written = await collection.delete(request.ids, request_id, wait, deadline)
        return pb.BatchDeleteDocumentsResponse(
            statuses=[to_status_message(outcome) for outcome in written.outcomes],
            result=to_result_message(written),
        )

    async def DeleteDocumentsByFilter(
        self, request: pb.DeleteDocumentsByFilterRequest, context: Context
    ) -> pb.DeleteDocumentsByFilterResponse:
        deadline = resolve_deadline(context, self._default_deadline_s)
        request_id = parse_request_id(request.request_id, "delete-by-filter", request)
        wait = parse_wait(request.wait)
        with self._open_collections.use(request.collection) as collection:
            filter = parse_filter(request.filter, collection.row.settings.schema)
            written = await collection.delete_by_filter(filter, request_id, wait, deadline)
        return pb.DeleteDocumentsByFilterResponse(
            deleted_count=len(written.outcomes), result=to_result_message(written)
        )

    async def UpdateDocumentsByFilter(
        self, request: pb.UpdateDocumentsByFilterRequest, context: Context
    ) -> pb.UpdateDocumentsByFilterResponse:
        deadline = resolve_deadline(context, self._default_deadline_s)
        request_id = parse_request_id(request.request_id, "update-by-filter", request)
        wait = parse_wait(request.wait)
        with self._open_collections.use(request.collection) as collection:
            schema = collection.row.settings.schema
            filter, change = parse_filter(request.filter, schema), parse_bulk_change(request, schema)
            done, written = await collection.update_by_filter(filter, change, request_id, wait, deadline)
        return pb.UpdateDocumentsByFilterResponse(
            matched_count=done.matched,
            updated_count=done.updated,
            refused_count=done.refused,
            refusals=[to_refusal_message(refusal) for refusal in done.refusals],
            result=to_result_message(written),
        )


@dataclass(frozen=True, slots=True)
class Upserted:
    """The answer to one batch: a status for each document, right or not, in order, and what it warns of."""

    statuses: list[pb.DocumentStatus]
    result: pb.WriteResult
    warnings: list[pb.UpsertWarning]


async def upsert(
    collection: CollectionHandle,
    documents: Sequence[types_pb2.Document],
    request: RequestId,
    wait: bool,
    deadline: Deadline,
) -> Upserted:
    """Stores the documents that are right."""
    check_batch("documents", len(documents))
    schema = collection.row.settings.schema
    parsed: list[Upsert | WriteOutcome] = []
    for start in range(0, len(documents), _PARSED_AT_ONCE):
        parsed += [
            parse_document(document, schema) for document in documents[start : start + _PARSED_AT_ONCE]
        ]
        await asyncio.sleep(0)  # other calls run between two slices of a large batch
    written = await collection.upsert([p for p in parsed if isinstance(p, Upsert)], request, wait, deadline)
    done = iter(written.outcomes)
    outcomes = [next(done) if isinstance(p, Upsert) else p for p in parsed]
    right = zip(parsed, outcomes, strict=True)
    stored = [(p.id, p.fields) for p, outcome in right if isinstance(p, Upsert) and outcome.error is None]
    checker = UpsertChecker(schema, collection.row.settings.encoder != NO_ENCODER)
    return Upserted(
        [to_status_message(outcome) for outcome in outcomes],
        to_result_message(written),
        [to_warning_message(warning) for warning in checker.find(stored)],
    )


def parse_document(message: types_pb2.Document, schema: Schema) -> Upsert | WriteOutcome:
    """Parses what to store, or says why not."""
    try:
        check_id(message.id)
        if message.ByteSize() > MAX_DOCUMENT_BYTES:
            raise OutOfRangeError("fields", f"has over {MAX_DOCUMENT_BYTES} bytes in all")
        fields = check_fields(parse_fields(message), schema)
        return Upsert(message.id, fields, parse_etag(message.etag))
    except InvalidArgumentError as error:
        return WriteOutcome(message.id, error=error)


def parse_update(request: pb.UpdateDocumentRequest, schema: Schema) -> "tuple[FieldChange, int | None]":
    """Parses the change that the mask and the document state, and to which version. Raises
    InvalidArgumentError."""
    message = request.document
    try:
        check_id(message.id)
        if_version = parse_etag(message.etag)
        given = check_fields(parse_fields(message), schema)
    except InvalidArgumentError as error:
        raise error.move_under("document") from None
    return parse_mask(request.update_mask.paths, given, schema), if_version


def parse_mask(mask: Sequence[str], given: Fields, schema: Schema) -> "FieldChange":
    """Parses the fields that ``mask`` names and that are taken from ``given``.

    All of them, if it is empty or ``*``.
    """
    if not mask or list(mask) == ["*"]:
        return FieldChange(given, None, schema)
    names = frozenset(
        path if path in given or schema.get(path) else path.removeprefix("fields.") for path in mask
    )
    for name in names:
        if not FIELD_NAME.fullmatch(name):
            raise UnknownFieldError("update_mask", f"{name[:80]!r} is not a field's name")
    if surplus := given.keys() - names:
        raise ConflictingFieldsError("update_mask", f"lacks {min(surplus)}, which the document holds")
    return FieldChange(given, names, schema)


def parse_bulk_change(request: pb.UpdateDocumentsByFilterRequest, schema: Schema) -> "FieldChange":
    """Parses what is set and what is taken away. Raises InvalidArgumentError."""
    given = check_fields(parse_fields(types_pb2.Document(fields=request.fields)), schema)
    removed, field = request.removed_fields, "removed_fields"
    if len(removed) > MAX_FIELDS:
        raise OutOfRangeError(field, f"has {len(removed)} names, at most {MAX_FIELDS} are allowed")
    for index, name in enumerate(removed):
        kept = schema.unknown_fields is UnknownFields.STORE and FIELD_NAME.fullmatch(name)
        if not kept and schema.get(name) is None:
            raise UnknownFieldError(f"{field}[{index}]", f"{name[:80]!r} is not a field of this collection")
        if name in given:
            raise ConflictingFieldsError(f"{field}[{index}]", f"{name} is in fields, too")
    if not given and not removed:
        raise RequiredError("fields", f"is empty, and so is {field}: nothing would change")
    return FieldChange(given, frozenset([*given, *removed]), schema)


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


def parse_wait(value: int) -> bool:
    """Parses whether to wait until searches find the write. Raises InvalidArgumentError for an unknown
    value."""
    if value not in pb.WriteVisibility.values():
        raise UnknownValueError("wait", f"{value} is not a WriteVisibility")
    return value == pb.WRITE_VISIBILITY_SEARCHABLE


@contextlib.contextmanager
def _move_errors_under(prefix: str) -> Iterator[None]:
    """Errors about fields are about fields below ``prefix``."""
    try:
        yield
    except InvalidArgumentError as error:
        raise error.move_under(prefix) from None


def check_batch(field: str, size: int) -> None:
    if size > MAX_BATCH_DOCUMENTS:
        raise OutOfRangeError(field, f"has {size} entries, at most {MAX_BATCH_DOCUMENTS} are allowed")


def to_status_message(outcome: WriteOutcome) -> pb.DocumentStatus:
    if outcome.error is not None:
        return pb.DocumentStatus(id=outcome.id, status=make_status(outcome.error))
    return pb.DocumentStatus(id=outcome.id, status=make_ok_status(), etag=make_etag(outcome.version))


def to_refusal_message(refusal: Refusal) -> pb.DocumentStatus:
    error = InvalidArgumentError(refusal.field, refusal.problem)
    error.reason = refusal.reason
    return pb.DocumentStatus(id=refusal.id, status=make_status(error))


def to_warning_message(warning: UpsertWarning) -> pb.UpsertWarning:
    return pb.UpsertWarning(
        kind=_WARNINGS[warning.kind],
        document_count=warning.documents,
        fields=warning.fields,
        field_count=warning.field_count,
        sample_ids=warning.sample_ids,
        message=str(warning),
    )


def to_result_message(written: WriteSummary) -> pb.WriteResult:
    reached = pb.WRITE_VISIBILITY_SEARCHABLE if written.searchable else pb.WRITE_VISIBILITY_LOGGED
    return pb.WriteResult(sequence=written.sequence, reached=reached)
