"""Documents over the API: stored, changed, read, listed and deleted."""

import math
from collections.abc import Callable
from random import Random

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2
from tests.integration.api.helpers.corpus import SCHEMA_MESSAGE, equals
from tests.integration.api.helpers.served import CALL_S, Api, checked_status, document, field_value, refused

from quarry.v1 import collection_service_pb2, types_pb2
from quarry.v1 import document_service_pb2 as pb

SEARCHABLE = pb.WRITE_VISIBILITY_SEARCHABLE


@pytest.fixture
def typed(api: Api, new_name: Callable[[], str]) -> str:
    return api.create(new_name(), schema=SCHEMA_MESSAGE, encoder="none").name


def get(api: Api, collection: str, id: str) -> types_pb2.Document:
    return api.documents.GetDocument(
        pb.GetDocumentRequest(collection=collection, id=id), timeout=CALL_S
    ).document


def listed(api: Api, collection: str, size: int = 1_000, **settings: object) -> list[str]:
    request = pb.ListDocumentsRequest(collection=collection, page_size=size, **settings)  # type: ignore[arg-type]
    ids: list[str] = []
    while True:
        answer = api.documents.ListDocuments(request, timeout=CALL_S)
        assert len(answer.documents) <= size
        ids += [found.id for found in answer.documents]
        if not answer.next_page_token:
            return ids
        request.page_token = answer.next_page_token


def test_one_bad_document_does_not_stop_the_others(api: Api, typed: str) -> None:
    documents = [
        document("good", text="words"),
        document(""),
        document("a\x07b"),
        document("i" * 513),
        document("wrong-type", count="three"),
        document("unknown-field", other=1),
        document("nested", tag=[["a"]]),
        document("nan", price=math.nan),
        document("large", count=2**53),
        document("long", tag="k" * 1_025),
        document("late", text="x", price=math.inf),
        types_pb2.Document(id="kindless", fields={"tag": types_pb2.FieldValue()}),
        types_pb2.Document(id="stale", etag='"7"'),
        types_pb2.Document(id="bad-etag", etag="7"),
        document("also-good", text="words", tag=[]),
    ]
    request = pb.BatchUpsertDocumentsRequest(collection=typed, documents=documents, wait=SEARCHABLE)
    answer = api.documents.BatchUpsertDocuments(request, timeout=CALL_S)
    assert [s.id for s in answer.statuses] == [d.id for d in documents]
    assert [s.id for s in answer.statuses if not s.status.code] == ["good", "also-good"]
    assert answer.result.reached == SEARCHABLE
    fields = {}
    for status in answer.statuses:
        if status.status.code == code_pb2.INVALID_ARGUMENT:
            fields[status.id] = checked_status(status.status, grpc.StatusCode.INVALID_ARGUMENT).field
        elif status.status.code:
            assert checked_status(status.status, grpc.StatusCode.ABORTED).reason == "ETAG_MISMATCH"
            assert status.id == "stale"
    assert fields == {
        "": "id",
        "a\x07b": "id",
        "i" * 513: "id",
        "wrong-type": "fields.count",
        "unknown-field": "fields.other",
        "nested": "fields.tag",
        "nan": "fields.price",
        "large": "fields.count",
        "long": "fields.tag",
        "late": "fields.price",
        "kindless": "fields.tag",
        "bad-etag": "etag",
    }
    assert listed(api, typed) == ["also-good", "good"]
    assert {hit.document.id for hit in api.search(typed, "words").hits} == {"good", "also-good"}


def test_values_come_back_as_they_went_in(api: Api, typed: str, lexical: str) -> None:
    moment = Timestamp(seconds=-5, nanos=123_456_000)
    values: dict[str, object] = {
        "title": "émigré \x00 \U0010ffff",
        "text": ["one", "two"],
        "tag": ["", "k" * 1_024],
        "count": [2**53 - 1, -(2**53) + 1],
        "price": [0.0, 5e-324, 1.7976931348623157e308],
        "sale": [True, False],
    }
    api.upsert(typed, {"all": values})  # type: ignore[dict-item]
    assert get(api, typed, "all").fields == document("all", **values).fields  # type: ignore[arg-type]
    api.upsert(typed, {"zero": {"price": -0.0}})
    assert math.copysign(1.0, get(api, typed, "zero").fields["price"].float_value) == 1.0
    free = {"title": "t", "whole": 1, "part": 1.0, "yes": True, "none": [], "mixed": [1, "a", 0.5, False]}
    api.upsert(lexical, {"free": free})  # type: ignore[dict-item]
    assert get(api, lexical, "free").fields == document("free", **free).fields  # type: ignore[arg-type]
    schema = {"fields": [{"name": "when", "type": 6}]}
    api.create(f"{typed}-times", schema=schema, encoder="none")
    api.upsert(f"{typed}-times", {"a": {"when": moment}})
    assert get(api, f"{typed}-times", "a").fields["when"].timestamp_value == moment


def test_an_etag_guards_a_write_against_others(api: Api, lexical: str) -> None:
    first = api.upsert(lexical, {"a": {"text": "one"}}).statuses[0].etag
    request = pb.BatchUpsertDocumentsRequest(
        collection=lexical, documents=[types_pb2.Document(id="a", etag=first)]
    )
    second = api.documents.BatchUpsertDocuments(request, timeout=CALL_S).statuses[0]
    assert not second.status.code
    assert second.etag == get(api, lexical, "a").etag != first
    again = api.documents.BatchUpsertDocuments(request, timeout=CALL_S).statuses[0]
    assert again.status.code == code_pb2.ABORTED
    update = pb.UpdateDocumentRequest(collection=lexical, document=types_pb2.Document(id="a", etag=first))
    assert refused(api.documents.UpdateDocument, update).code is grpc.StatusCode.ABORTED
    update.document.etag = second.etag
    api.documents.UpdateDocument(update, timeout=CALL_S)


def test_a_mask_sets_removes_and_leaves_fields(api: Api, typed: str) -> None:
    api.upsert(typed, {"a": {"text": "words", "tag": "x", "count": 1}})
    request = pb.UpdateDocumentRequest(
        collection=typed,
        document=document("a", count=2),
        update_mask={"paths": ["fields.count", "tag"]},
        wait=SEARCHABLE,
    )
    answer = api.documents.UpdateDocument(request, timeout=CALL_S)
    assert answer.document.fields == document("a", text="words", count=2).fields
    assert answer.result.sequence == answer.document.version
    assert get(api, typed, "a") == answer.document
    for mask in ([], ["*"]):
        request.update_mask.paths[:] = mask
        whole = api.documents.UpdateDocument(request, timeout=CALL_S).document
        assert whole.fields == document("a", count=2).fields


@pytest.mark.parametrize(
    ("fields", "paths", "field"),
    [
        ({"count": 1, "tag": "a"}, ["count"], "update_mask"),
        ({}, ["*", "count"], "update_mask"),
        ({}, ["fields."], "update_mask"),
        ({}, ["a..b"], "update_mask"),
        ({"count": "x"}, ["count"], "document.fields.count"),
    ],
)
def test_a_mask_that_does_not_fit_is_named(
    api: Api, typed: str, fields: dict[str, str | int], paths: list[str], field: str
) -> None:
    api.upsert(typed, {"a": {"text": "words"}})
    request = pb.UpdateDocumentRequest(
        collection=typed, document=document("a", **fields), update_mask={"paths": paths}
    )
    failed = refused(api.documents.UpdateDocument, request)
    assert (failed.code, failed.field) == (grpc.StatusCode.INVALID_ARGUMENT, field)


def test_updates_cannot_grow_a_document_beyond_its_limits(api: Api, lexical: str) -> None:
    half = "x " * (1_100_000)
    api.upsert(lexical, {"a": {"one": half, **{f"f{n}": n for n in range(250)}}})
    request = pb.UpdateDocumentRequest(
        collection=lexical, document=document("a", two=half), update_mask={"paths": ["two"]}
    )
    assert refused(api.documents.UpdateDocument, request).field == "document.fields"
    many = {f"g{n}": n for n in range(6)}
    request = pb.UpdateDocumentRequest(
        collection=lexical, document=document("a", **many), update_mask={"paths": list(many)}
    )
    assert refused(api.documents.UpdateDocument, request).field == "document.fields"
    assert len(get(api, lexical, "a").fields) == 251


def test_an_update_creates_a_document_only_when_told_to(api: Api, lexical: str) -> None:
    request = pb.UpdateDocumentRequest(collection=lexical, document=document("a", text="words"))
    failed = refused(api.documents.UpdateDocument, request)
    assert (failed.code, failed.reason) == (grpc.StatusCode.NOT_FOUND, "DOCUMENT_NOT_FOUND")
    request.allow_missing = True
    request.wait = SEARCHABLE
    api.documents.UpdateDocument(request, timeout=CALL_S)
    assert api.search(lexical, "words").hits[0].document.id == "a"


def test_lists_are_in_order_of_utf8_bytes_whatever_the_page_size(api: Api, typed: str) -> None:
    ids = ["a", "B", "é", "\uffff", "\U00010000", "aa", "a ", "10", "9"]
    api.upsert(typed, {id: {"tag": "x" if index % 2 else "y"} for index, id in enumerate(ids)})
    inorder = sorted(ids, key=str.encode)
    for size in (1, 2, 1_000):
        assert listed(api, typed, size) == inorder
        some = listed(api, typed, size, filter=equals("tag", field_value("x")))
        assert some == [id for id in inorder if ids.index(id) % 2]


def test_a_list_token_belongs_to_its_request(api: Api, typed: str) -> None:
    api.upsert(typed, {"a": {}, "b": {}, "c": {}})
    request = pb.ListDocumentsRequest(collection=typed, page_size=1)
    token = api.documents.ListDocuments(request, timeout=CALL_S).next_page_token
    request.page_token = token
    request.filter.exists.field = "tag"
    assert refused(api.documents.ListDocuments, request).field == "page_token"
    request.ClearField("filter")
    random = Random(0)
    for _ in range(20):
        place = random.randrange(len(token))
        changed = (
            token[:place] + random.choice([c for c in "AZaz09-_" if c != token[place]]) + token[place + 1 :]
        )
        request.page_token = changed
        assert refused(api.documents.ListDocuments, request).field == "page_token"


def test_pages_of_large_documents_end_early_and_miss_none(api: Api, lexical: str) -> None:
    large = "x" * 4_000_000
    for start in range(0, 20, 10):
        api.upsert(lexical, {f"d{n:02}": {"payload": large} for n in range(start, start + 10)})
    assert listed(api, lexical) == [f"d{n:02}" for n in range(20)]
    found = []
    answer = api.search(lexical, page_size=1_000)
    while True:
        found += [hit.document.id for hit in answer.hits]
        if not answer.next_page_token:
            break
        answer = api.search(lexical, page_size=1_000, page_token=answer.next_page_token)
    assert found == [f"d{n:02}" for n in range(20)]


def test_deleting_what_is_not_there_says_so_and_succeeds(api: Api, lexical: str) -> None:
    api.upsert(lexical, {"a": {"text": "words"}, "b": {"text": "words"}})
    answer = api.delete(lexical, "b", "none", "b", "")
    assert [s.status.code for s in answer.statuses] == [0, *[code_pb2.NOT_FOUND] * 3]
    assert [hit.document.id for hit in api.search(lexical, "words").hits] == ["a"]
    assert refused(api.documents.GetDocument, pb.GetDocumentRequest(collection=lexical, id="b")).reason == (
        "DOCUMENT_NOT_FOUND"
    )
    assert api.delete(lexical).result.sequence == 0


def test_a_deletion_by_filter_deletes_what_passes_it(api: Api, typed: str) -> None:
    api.upsert(typed, {f"d{n}": {"count": n % 3, "text": "words"} for n in range(9)})
    request = pb.DeleteDocumentsByFilterRequest(
        collection=typed, filter=equals("count", field_value(1)), wait=SEARCHABLE, request_id="once"
    )
    first = api.documents.DeleteDocumentsByFilter(request, timeout=CALL_S)
    assert first.deleted_count == 3
    assert api.search(typed, "words").total.count == 6
    api.upsert(typed, {"d1": {"count": 1}})
    assert api.documents.DeleteDocumentsByFilter(request, timeout=CALL_S) == first
    assert len(listed(api, typed)) == 7
    everything = pb.DeleteDocumentsByFilterRequest(collection=typed)
    assert refused(api.documents.DeleteDocumentsByFilter, everything).field == "filter"
    everything.filter.all_of.SetInParent()
    assert api.documents.DeleteDocumentsByFilter(everything, timeout=CALL_S).deleted_count == 7
    assert listed(api, typed) == []


def test_a_request_id_writes_once(api: Api, lexical: str) -> None:
    def version() -> int:
        return get(api, lexical, "a").version

    upsert = pb.BatchUpsertDocumentsRequest(
        collection=lexical,
        documents=[document("a", text="one"), document("", text="bad")],
        request_id="r" * 36,
    )
    first = api.documents.BatchUpsertDocuments(upsert, timeout=CALL_S)
    written = version()
    assert api.documents.BatchUpsertDocuments(upsert, timeout=CALL_S) == first
    assert version() == written
    upsert.documents[0].fields["text"].string_value = "two"
    failed = refused(api.documents.BatchUpsertDocuments, upsert)
    assert (failed.code, failed.field) == (grpc.StatusCode.INVALID_ARGUMENT, "request_id")

    update = pb.UpdateDocumentRequest(collection=lexical, document=document("a", n=1), request_id="u")
    changed = api.documents.UpdateDocument(update, timeout=CALL_S)
    api.upsert(lexical, {"a": {"n": 2}})
    assert api.documents.UpdateDocument(update, timeout=CALL_S).document == changed.document
    assert get(api, lexical, "a").fields["n"].integer_value == 2

    removal = pb.BatchDeleteDocumentsRequest(collection=lexical, ids=["a", "b"], request_id="d")
    deleted = api.documents.BatchDeleteDocuments(removal, timeout=CALL_S)
    api.upsert(lexical, {"a": {"text": "back"}})
    assert api.documents.BatchDeleteDocuments(removal, timeout=CALL_S) == deleted
    assert get(api, lexical, "a")
    for bad in ("r" * 37, "é", "\n"):
        removal.request_id = bad
        assert refused(api.documents.BatchDeleteDocuments, removal).field == "request_id"


def test_searchable_means_that_both_arms_find_it_at_once(api: Api, new_name: Callable[[], str]) -> None:
    name = api.create(new_name()).name
    for number in range(10):
        api.upsert(name, {f"d{number}": {"text": f"only word{number}"}})
        for arm in ("bm25", "dense"):
            found = api.search(name, f"word{number}", arms=[{"name": arm}])
            assert f"d{number}" in {hit.document.id for hit in found.hits}, arm
        api.delete(name, f"d{number}")
        for arm in ("bm25", "dense"):
            assert not api.search(name, f"word{number}", arms=[{"name": arm}]).hits


def test_a_stream_acknowledges_each_batch_in_order(api: Api, lexical: str) -> None:
    config = pb.UpsertDocumentsRequest(config={"collection": lexical, "wait": SEARCHABLE})
    batches = [
        pb.UpsertDocumentsBatch(documents=[document(f"d{n}-{m}", text="words") for m in range(n + 1)])
        for n in range(4)
    ]
    batches[2].documents[1].id = ""
    requests = [config, *(pb.UpsertDocumentsRequest(batch=batch) for batch in batches)]
    answers = list(api.documents.UpsertDocuments(iter(requests), timeout=CALL_S))
    assert [[s.id for s in a.statuses] for a in answers] == [[d.id for d in b.documents] for b in batches]
    assert [s.status.code for s in answers[2].statuses] == [0, code_pb2.INVALID_ARGUMENT, 0]
    assert all(answer.result.reached == SEARCHABLE for answer in answers)
    sequences = [answer.result.sequence for answer in answers]
    assert sequences == sorted(sequences)
    assert api.search(lexical, "words").total.count == 9


@pytest.mark.parametrize(
    ("config", "batch", "field"),
    [
        ({"wait": 9}, {}, "config.wait"),
        ({}, {"request_id": "é"}, "batch.request_id"),
        ({}, {"documents": [{}] * 10_001}, "batch.documents"),
    ],
)
def test_what_is_wrong_in_a_stream_is_named(
    api: Api, lexical: str, config: dict[str, int], batch: dict[str, object], field: str
) -> None:
    requests = [
        pb.UpsertDocumentsRequest(config={"collection": lexical, **config}),
        pb.UpsertDocumentsRequest(batch=batch),
    ]
    call = lambda requests, timeout: list(api.documents.UpsertDocuments(iter(requests), timeout=timeout))  # noqa: E731
    failed = refused(call, requests)
    assert (failed.code, failed.field) == (grpc.StatusCode.INVALID_ARGUMENT, field)


def test_batches_have_a_limit(api: Api, lexical: str) -> None:
    upsert = pb.BatchUpsertDocumentsRequest(collection=lexical, documents=[{}] * 10_001)
    assert refused(api.documents.BatchUpsertDocuments, upsert).field == "documents"
    removal = pb.BatchDeleteDocumentsRequest(collection=lexical, ids=["a"] * 10_001)
    assert refused(api.documents.BatchDeleteDocuments, removal).field == "ids"


def test_a_small_document_does_not_wait_for_a_large_one_before_it(
    api: Api, new_name: Callable[[], str]
) -> None:
    name = api.create(new_name()).name
    words = Random(1)
    large = " ".join(f"word{words.randrange(5_000)}" for _ in range(60_000))
    request = pb.BatchUpsertDocumentsRequest(collection=name, documents=[document("large", text=large)])
    written = api.documents.BatchUpsertDocuments(request, timeout=CALL_S).result.sequence
    api.upsert(name, {"small": {"text": "five words about red foxes"}})
    assert read_dense_position(api, name) < written
    answer = api.search(name, "red foxes", explain=True)
    assert answer.hits[0].document.id == "small"
    assert {found.arm for found in answer.hits[0].explanation.arms} == {"bm25", "dense"}
    api.delete(name, "large")
    assert read_dense_position(api, name) > written


def read_dense_position(api: Api, collection: str) -> int:
    request = collection_service_pb2.GetCollectionRequest(name=collection)
    arms = api.collections.GetCollection(request, timeout=CALL_S).collection.status.arms
    return next(arm.applied_sequence for arm in arms if arm.arm == "dense")
