"""Requests made wrong in every field, from the messages' own descriptors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from google.longrunning import operations_pb2
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message

from quarry.v1 import (
    collection_service_pb2,
    document_service_pb2,
    feedback_service_pb2,
    model_service_pb2,
    search_service_pb2,
    training_service_pb2,
)
from quarry_server.startup.services import SERVICES

TEXTS = (
    "", " ", "-", "*", ".", "..", "~", "~nobody-here", "/", "../../etc/passwd", "a" * 300, "a/b", "none",
    "\x00", "a\x00b", "\n", "\x1b[2J", "\x7f\x85", "\u202e\ufeff", "\ud7ff\ue000\uffff", "\U0010ffff",
    "e\u0301\u0327" * 40, "\U0001f9d1\u200d\U0001f680" * 30, "漢字" * 160, "title", "tag", "bm25", "dense",
    '"unbalanced', "AND", "NOT (", "title:x", "tag:[a TO *}", "error: cannot parse", "a~2^1e9", "\\",
    "%s%n{0}", "'; DROP TABLE documents; --", "IyI=", "WyJhIiwgMV0=", '"1"', '"99999999999999999999"',
    "operations/", "x" * 100_000,
)  # fmt: skip
INTEGERS = (0, 1, -1, 2, 7, 100, 1_000, 1_001, 2**31 - 1, -(2**31))
LONG_INTEGERS = (*INTEGERS, 2**53, -(2**53), 2**63 - 1, -(2**63), 253_402_300_800, -62_135_596_801)
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-320, 1e308, -1e308, float("inf"), float("-inf"), float("nan"))
ENUMS = (0, 1, 2, 99, -1, 2**31 - 1)
BYTES = (b"", b"\x00", b"\xff" * 10)
MAX_LEVELS = 5
"""How far down a request's messages are gone into: filters nest for ever."""

Path = tuple[FieldDescriptor, ...]


@dataclass(frozen=True)
class Method:
    """A method of the API, and a request of it that is right.

    Attributes:
        path: as it is called on the wire.
        requests: one, or several for a stream.
    """

    descriptor: MethodDescriptor
    requests: tuple[Message, ...]

    @property
    def path(self) -> str:
        return f"/{self.descriptor.containing_service.full_name}/{self.descriptor.name}"

    def answer(self, data: bytes) -> Message:
        return message_factory.GetMessageClass(self.descriptor.output_type).FromString(data)

    def __str__(self) -> str:
        return self.descriptor.name


def methods(collection: str, operation: str, token: str = "") -> list[Method]:
    """Every method of every service of the API. ``token`` attributes events to an answer."""
    pool = descriptor_pool.Default()
    right = _right_requests(collection, operation) | _right_feedback(collection, token)
    right |= _right_models(collection) | _right_trainings(collection)
    found = [m for name in SERVICES for m in pool.FindServiceByName(name).methods]
    return [Method(m, right.get(m.name) or (_of_nothing(m),)) for m in found]


def _of_nothing(method: MethodDescriptor) -> Message:
    """A request that names a thing which is not there, where it must name one."""
    request = message_factory.GetMessageClass(method.input_type)()
    ours = method.input_type.full_name.startswith("quarry.")
    for field in method.input_type.fields if ours else ():
        if field.name in ("name", "collection"):
            setattr(request, field.name, "nothing-there")
    return request


def method_names() -> list[str]:
    return [str(method) for method in methods("", "")]


def paths(descriptor: Descriptor, above: Path = ()) -> Iterator[Path]:
    """Every field of a message and of the messages in it, to a depth."""
    for field in descriptor.fields:
        yield (*above, field)
        if field.message_type is not None and len(above) < MAX_LEVELS - 1 and above.count(field) < 1:
            yield from paths(field.message_type, (*above, field))


def values(field: FieldDescriptor) -> Sequence[Any]:
    """Odd values of a field that is no message."""
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return BYTES if field.type == FieldDescriptor.TYPE_BYTES else TEXTS
        case FieldDescriptor.CPPTYPE_INT32:
            return INTEGERS
        case FieldDescriptor.CPPTYPE_UINT32 | FieldDescriptor.CPPTYPE_UINT64:
            return [value for value in LONG_INTEGERS if 0 <= value < 2**32]
        case FieldDescriptor.CPPTYPE_INT64:
            return LONG_INTEGERS
        case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
            return FLOATS
        case FieldDescriptor.CPPTYPE_ENUM:
            return ENUMS
        case FieldDescriptor.CPPTYPE_BOOL:
            return (False, True)
    return (None, 3) if field.is_repeated else (None,)


def put(message: Message, path: Path, value: Any) -> Message:
    """``message`` with ``value`` in the field at ``path``; what lies above it is made if need be.

    A field that is a message is set, but empty; a repeated one gets so many empty entries. In a map the
    entry is called ``title``.
    """
    first, *rest = path
    if _is_map(first):
        entries = getattr(message, first.name)
        held = first.message_type.fields_by_name["value"]
        if held.message_type is None:
            wanted = rest[0].name if rest else ""
            key = value if wanted == "key" else "title"
            entries[key] = value if wanted == "value" else held.default_value
        elif rest and rest[0].name == "value":
            if len(rest) > 1:
                put(entries["title"], tuple(rest[1:]), value)
            else:
                entries.get_or_create("title")
        else:
            entries.get_or_create(value if isinstance(value, str) else "title")
    elif rest:
        put(_inner(message, first), tuple(rest), value)
    elif first.is_repeated:
        many = getattr(message, first.name)
        for _ in range(1 if first.message_type is None else value or 1):
            many.append(value) if first.message_type is None else many.add()
    elif first.message_type is not None:
        getattr(message, first.name).SetInParent()
    else:
        setattr(message, first.name, value)
    return message


def nots(levels: int, inner: Message) -> bytes:
    """The wire form of a filter in so many `none_of`s: more than a library would let one build."""
    data = inner.SerializeToString()
    for _ in range(levels):
        inner_list = b"\x0a" + varint(len(data)) + data
        data = bytes([9 << 3 | 2]) + varint(len(inner_list)) + inner_list
    return data


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _inner(message: Message, field: FieldDescriptor) -> Message:
    inner = getattr(message, field.name)
    if field.is_repeated:
        return inner[0] if inner else inner.add()
    return inner


def _right_requests(collection: str, operation: str) -> dict[str, tuple[Message, ...]]:
    c, d, s, o = collection_service_pb2, document_service_pb2, search_service_pb2, operations_pb2
    doomed = f"{collection}-doomed"
    batch = d.UpsertDocumentsBatch(documents=[_document()])
    return {
        "CreateCollection": (c.CreateCollectionRequest(collection={"name": collection, "encoder": "none"}),),
        "GetCollection": (c.GetCollectionRequest(name=collection),),
        "UpdateCollection": (
            c.UpdateCollectionRequest(
                collection={"name": collection}, update_mask={"paths": ["description"]}
            ),
        ),
        "DeleteCollection": (c.DeleteCollectionRequest(name=doomed, etag='"7"'),),
        "CheckConsistency": (c.CheckConsistencyRequest(name=collection),),
        "RepairCollection": (c.RepairCollectionRequest(name=doomed),),
        "BatchUpsertDocuments": (
            d.BatchUpsertDocumentsRequest(collection=collection, documents=[_document()]),
        ),
        "UpsertDocuments": (
            d.UpsertDocumentsRequest(config={"collection": collection}),
            d.UpsertDocumentsRequest(batch=batch),
        ),
        "UpdateDocument": (
            d.UpdateDocumentRequest(collection=collection, document=_document(), allow_missing=True),
        ),
        "GetDocument": (d.GetDocumentRequest(collection=collection, id="a"),),
        "ListDocuments": (d.ListDocumentsRequest(collection=collection),),
        "BatchDeleteDocuments": (d.BatchDeleteDocumentsRequest(collection=collection, ids=["b"]),),
        "DeleteDocumentsByFilter": (
            d.DeleteDocumentsByFilterRequest(
                collection=collection,
                filter={"equal_to": {"field": "tag", "value": {"string_value": "gone"}}},
            ),
        ),
        "UpdateDocumentsByFilter": (
            d.UpdateDocumentsByFilterRequest(
                collection=collection,
                filter={"equal_to": {"field": "tag", "value": {"string_value": "gone"}}},
                fields=_document()["fields"],
                removed_fields=["count"],
            ),
        ),
        "SetAlias": (c.SetAliasRequest(name=f"{collection}-alias", collection=collection),),
        "SetVocabulary": (
            c.SetVocabularyRequest(
                collection=collection,
                vocabulary={"stop_words": ["brew"]},
                update_mask={"paths": ["stop_words"]},
            ),
        ),
        "DeleteAlias": (c.DeleteAliasRequest(name=f"{collection}-no-alias"),),
        "Search": (s.SearchRequest(collection=collection, query="the title"),),
        "Retrieve": (s.RetrieveRequest(collection=collection, queries=[{"id": "1", "text": "the title"}]),),
        "Suggest": (s.SuggestRequest(collection=collection, text="the ti"),),
        "GetOperation": (o.GetOperationRequest(name=operation),),
        "WaitOperation": (o.WaitOperationRequest(name=operation, timeout={"seconds": 1}),),
        "CancelOperation": (o.CancelOperationRequest(name=operation),),
        "DeleteOperation": (o.DeleteOperationRequest(name=operation + "-not"),),
    }


def _right_feedback(collection: str, token: str) -> dict[str, tuple[Message, ...]]:
    f = feedback_service_pb2
    click = f.Event(event_id="e", type="EVENT_TYPE_CLICK", attribution_token=token, document_id="a")
    seen = f.Event(event_id="s", type="EVENT_TYPE_RENDERED", attribution_token=token)
    seen.rendered.add(document_id="a", position=1)
    line = b'{"event": {"event_id": "i", "type": "skip", "search_id": "s", "time": "2026-01-01T00:00:00Z", '
    line += b'"document_id": "a"}}\n'
    batch = f.StreamEventsBatch(events=[click, seen])
    config = f.ImportEventsConfig(collection=collection, format=f.FEEDBACK_FORMAT_QUARRY)
    return {
        "RecordEvents": (f.RecordEventsRequest(collection=collection, events=[seen, click]),),
        "StreamEvents": (
            f.StreamEventsRequest(config={"collection": collection}),
            f.StreamEventsRequest(batch=batch),
        ),
        "ImportEvents": (f.ImportEventsRequest(config=config), f.ImportEventsRequest(data=line)),
        "PurgeFeedback": (f.PurgeFeedbackRequest(collection=collection, user_id="nobody"),),
        "GetFeedbackStats": (f.GetFeedbackStatsRequest(collection=collection),),
    }


def _right_models(collection: str) -> dict[str, tuple[Message, ...]]:
    m, version, ranking = model_service_pb2, f"{collection}@9", f"{collection}/ranking@9"
    return {
        "GetModel": (m.GetModelRequest(name=version),),
        "ListModels": (m.ListModelsRequest(collection=collection),),
        "PromoteModel": (m.PromoteModelRequest(name=version, promoted_by="me", reason="why"),),
        "RetireModel": (m.RetireModelRequest(name=version),),
        "ImportModel": (m.ImportModelRequest(options={"collection": collection, "source": version}),),
        "ExportModel": (m.ExportModelRequest(name=version),),
        "GetRanking": (m.GetRankingRequest(name=ranking),),
        "ListRankings": (m.ListRankingsRequest(collection=collection),),
        "PromoteRanking": (m.PromoteRankingRequest(name=ranking, promoted_by="me", reason="why"),),
    }


def _document() -> Any:
    return {"id": "a", "fields": {"title": {"string_value": "the title"}}}


def _right_trainings(collection: str) -> dict[str, tuple[Message, ...]]:
    """Right, but for what they name: nothing is trained by them."""
    t = training_service_pb2
    asked = {"collection": collection, "examples": "0" * 32}
    return {
        "UploadExamples": (t.UploadExamplesRequest(parquet=_examples()),),
        "TrainReranker": (t.TrainRerankerRequest(**asked),),
        "TrainEncoder": (t.TrainEncoderRequest(**asked),),
        "DistillReranker": (t.DistillRerankerRequest(**asked, teacher=f"{collection}@9"),),
        "EvaluateReranker": (t.EvaluateRerankerRequest(model=f"{collection}@1"),),
        "TuneRanking": (t.TuneRankingRequest(collection=f"{collection}-x"),),
    }


def _examples() -> bytes:
    text = {name: ["a text"] for name in ("query_id", "query", "positive_id", "negative_id")}
    table = pa.table({**text, "label": pa.array([0], pa.int8()), "weight": pa.array([1.0], pa.float32())})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue().to_pybytes())
