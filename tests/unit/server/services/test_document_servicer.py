"""DocumentService: what it reads of a document, what it says of each, and what it refuses."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from tests.integration.api.helpers.served import CALL_S, Api, checked_status, document, refused

from quarry.v1 import document_service_pb2 as pb
from quarry.v1 import types_pb2

SEARCHABLE = pb.WRITE_VISIBILITY_SEARCHABLE
NO_RED_TITLE: Any = {"none_of": {"filters": [{"exists": {"field": "title"}}]}}


def get(api: Api, collection: str, id: str) -> types_pb2.Document:
    return api.documents.GetDocument(
        pb.GetDocumentRequest(collection=collection, id=id), timeout=CALL_S
    ).document


def ids(api: Api, collection: str, size: int = 100) -> list[str]:
    """Of all documents, read in pages of ``size``."""
    found: list[str] = []
    request = pb.ListDocumentsRequest(collection=collection, page_size=size)
    while True:
        page = api.documents.ListDocuments(request, timeout=CALL_S)
        assert len(page.documents) <= size
        found += [one.id for one in page.documents]
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


def test_each_document_of_a_batch_has_a_status_in_order(api: Api, faq: str) -> None:
    batch = [document("a", text="one"), document("", text="no id"), document("b", text="two")]
    answer = api.documents.BatchUpsertDocuments(
        pb.BatchUpsertDocumentsRequest(collection=faq, documents=batch, wait=SEARCHABLE), timeout=CALL_S
    )
    assert [(one.id, bool(one.etag), one.status.code) for one in answer.statuses][::2] == [
        ("a", True, 0),
        ("b", True, 0),
    ]
    wrong = checked_status(answer.statuses[1].status, grpc.StatusCode.INVALID_ARGUMENT)
    assert (wrong.field, answer.statuses[1].etag) == ("id", "")
    assert answer.result.reached == SEARCHABLE
    assert get(api, faq, "a").fields["text"].string_value == "one"


def test_a_write_with_an_old_etag_changes_nothing(api: Api, faq: str) -> None:
    old = get(api, faq, "d1").etag
    for code in (0, grpc.StatusCode.ABORTED.value[0]):
        changed = document("d1", text="changed")
        changed.etag = old
        request = pb.BatchUpsertDocumentsRequest(collection=faq, documents=[changed])
        (status,) = api.documents.BatchUpsertDocuments(request, timeout=CALL_S).statuses
        assert status.status.code == code


def test_a_repeated_request_writes_once(api: Api, faq: str) -> None:
    request = pb.BatchUpsertDocumentsRequest(collection=faq, documents=[document("a")], request_id="r")
    first, second = [api.documents.BatchUpsertDocuments(request, timeout=CALL_S) for _ in range(2)]
    assert first == second
    request.documents.append(document("b"))
    assert refused(api.documents.BatchUpsertDocuments, request).field == "request_id"


def test_a_stream_opens_with_its_collection_and_each_batch_is_answered(api: Api, faq: str) -> None:
    config = pb.UpsertDocumentsRequest(config={"collection": faq, "wait": SEARCHABLE})
    batches = [pb.UpsertDocumentsRequest(batch={"documents": [document(id)]}) for id in ("x", "y")]
    answers = list(api.documents.UpsertDocuments(iter([config, *batches]), timeout=CALL_S))
    assert [answer.statuses[0].id for answer in answers] == ["x", "y"]
    assert {answer.result.reached for answer in answers} == {SEARCHABLE}
    assert api.search(faq).total.count == 5
    for messages, field in (
        (batches, "message"),
        ([config, config], "message"),
        ([config, pb.UpsertDocumentsRequest()], "message"),
        ([pb.UpsertDocumentsRequest(config={"collection": faq, "wait": 9})], "config.wait"),  # type: ignore[arg-type]
        ([config, pb.UpsertDocumentsRequest(batch={"request_id": "x" * 1_000})], "batch.request_id"),
    ):

        def stream(requests: Any, timeout: float) -> list[Any]:
            return list(api.documents.UpsertDocuments(iter(requests), timeout=timeout))

        assert refused(stream, messages).field == field


def test_an_update_changes_the_fields_of_its_mask(api: Api, faq: str) -> None:
    request = pb.UpdateDocumentRequest(
        collection=faq, document=document("d1", text="new"), update_mask={"paths": ["fields.text"]}
    )
    updated = api.documents.UpdateDocument(request, timeout=CALL_S).document
    assert {name: value.string_value for name, value in updated.fields.items()} == {
        "text": "new",
        "title": "red",
    }
    assert get(api, faq, "d1") == updated
    whole = pb.UpdateDocumentRequest(collection=faq, document=document("d1", text="alone"))
    assert set(api.documents.UpdateDocument(whole, timeout=CALL_S).document.fields) == {"text"}


def test_a_mask_means_the_field_that_is_called_so_first(
    api: Api, faq: str, new_name: Callable[[], str]
) -> None:
    """Names may have dots, and `fields.text` may be a field of its own beside `text`."""
    fields = [{"name": name, "type": "SCHEMA_FIELD_TYPE_TEXT"} for name in ("text", "fields.text")]
    own = api.create(new_name(), encoder="none", schema={"fields": fields}).name
    mask: Any = {"paths": ["fields.text"]}
    for collection in (own, faq):  # one whose schema names the field, and one that only keeps it
        api.upsert(collection, {"a": {"text": "kept", "fields.text": "old"}})
        changed = document("a", **{"fields.text": "new"})
        request = pb.UpdateDocumentRequest(collection=collection, document=changed, update_mask=mask)
        api.documents.UpdateDocument(request, timeout=CALL_S)
        found = get(api, collection, "a").fields
        assert (found["text"].string_value, found["fields.text"].string_value) == ("kept", "new")
    request = pb.UpdateDocumentRequest(collection=own, document=document("a"), update_mask=mask)
    api.documents.UpdateDocument(request, timeout=CALL_S)
    assert list(get(api, own, "a").fields) == ["text"]


@pytest.mark.parametrize(
    ("changed", "mask", "field"),
    [
        (document(""), [], "document.id"),
        (document("d1", text="a", title="b"), ["text"], "update_mask"),
        (document("d1"), ["a b"], "update_mask"),
        (document("d1", text=3), [], "document.fields.text"),
    ],
)
def test_a_wrong_update_is_named(api: Api, faq: str, changed: Any, mask: list[str], field: str) -> None:
    request = pb.UpdateDocumentRequest(collection=faq, document=changed, update_mask={"paths": mask})
    assert refused(api.documents.UpdateDocument, request).field == field


def test_a_document_that_is_missing_is_not_found_unless_it_may_be_made(api: Api, faq: str) -> None:
    missing = pb.GetDocumentRequest(collection=faq, id="none")
    assert refused(api.documents.GetDocument, missing).code is grpc.StatusCode.NOT_FOUND
    request = pb.UpdateDocumentRequest(collection=faq, document=document("none", text="now"))
    assert refused(api.documents.UpdateDocument, request).code is grpc.StatusCode.NOT_FOUND
    request.allow_missing = True
    api.documents.UpdateDocument(request, timeout=CALL_S)
    assert ids(api, faq) == ["d1", "d2", "d3", "none"]


def test_documents_are_listed_a_page_at_a_time_and_a_page_token_is_for_its_own_request(
    api: Api, faq: str
) -> None:
    assert ids(api, faq, size=2) == ids(api, faq) == ["d1", "d2", "d3"]
    request = pb.ListDocumentsRequest(collection=faq, page_size=1)
    token = api.documents.ListDocuments(request, timeout=CALL_S).next_page_token
    other = pb.ListDocumentsRequest(collection=faq, filter=NO_RED_TITLE, page_token=token)
    assert refused(api.documents.ListDocuments, other).field == "page_token"
    assert refused(
        api.documents.ListDocuments, pb.ListDocumentsRequest(collection=faq, page_size=-1)
    ).field == ("page_size")


def test_a_filter_chooses_what_is_listed_and_what_is_deleted(api: Api, faq: str) -> None:
    api.upsert(faq, {"plain": {"text": "without a title"}})
    request = pb.ListDocumentsRequest(collection=faq, filter={"exists": {"field": "title"}})
    found = refused(api.documents.ListDocuments, request)
    assert found.field.startswith("filter"), "a text field cannot be filtered by"


def test_deleted_documents_are_gone_and_deleting_again_does_no_harm(api: Api, faq: str) -> None:
    missing = grpc.StatusCode.NOT_FOUND.value[0]
    for code in (0, missing):
        answer = api.delete(faq, "d1", "d2")
        assert [(one.id, one.status.code) for one in answer.statuses] == [("d1", code), ("d2", code)]
    assert ids(api, faq) == ["d3"]
    many = pb.BatchDeleteDocumentsRequest(collection=faq, ids=["x"] * 10_001)
    assert refused(api.documents.BatchDeleteDocuments, many).field == "ids"


def test_every_call_says_which_collection_is_missing(api: Api) -> None:
    for call, request in (
        (api.documents.GetDocument, pb.GetDocumentRequest(collection="none", id="a")),
        (api.documents.ListDocuments, pb.ListDocumentsRequest(collection="none")),
        (api.documents.BatchUpsertDocuments, pb.BatchUpsertDocumentsRequest(collection="none")),
        (api.documents.BatchDeleteDocuments, pb.BatchDeleteDocumentsRequest(collection="none")),
        (api.documents.UpdateDocument, pb.UpdateDocumentRequest(collection="none", document=document("a"))),
    ):
        found = refused(call, request)
        assert found.code is grpc.StatusCode.NOT_FOUND
        assert "none" in found.message


def test_a_wait_that_is_none_is_refused(api: Api, faq: str) -> None:
    request = pb.BatchDeleteDocumentsRequest(collection=faq, ids=["d1"], wait=9)  # type: ignore[arg-type]
    assert refused(api.documents.BatchDeleteDocuments, request).field == "wait"
    assert "d1" in ids(api, faq)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_batch_that_no_query_can_find_is_warned_of(api: Api, faq: str, streamed: bool) -> None:
    batch = [document("x", name="lamp", price=7), document("", text="no id"), document("y", text="right")]
    if streamed:
        config = pb.UpsertDocumentsRequest(config={"collection": faq})
        requests = [config, pb.UpsertDocumentsRequest(batch={"documents": batch})]
        (answer,) = api.documents.UpsertDocuments(iter(requests), timeout=CALL_S)
        found = list(answer.warnings)
    else:
        request = pb.BatchUpsertDocumentsRequest(collection=faq, documents=batch, request_id=f"w-{faq}")
        found = list(api.documents.BatchUpsertDocuments(request, timeout=CALL_S).warnings)
        repeated = api.documents.BatchUpsertDocuments(request, timeout=CALL_S)
        assert list(repeated.warnings) == found, "a repeat says what the first call said"
    silent, unknown = found
    assert silent.kind == pb.UPSERT_WARNING_KIND_NO_SEARCHED_TEXT
    assert (silent.document_count, list(silent.sample_ids)) == (1, ["x"])
    assert (list(silent.fields), silent.field_count) == (["text", "title"], 2)
    assert unknown.kind == pb.UPSERT_WARNING_KIND_UNKNOWN_FIELDS
    assert list(unknown.fields) == ["name", "price"]
    assert "No query can find it" in silent.message


def test_a_batch_that_is_right_is_not_warned_of(api: Api, faq: str) -> None:
    request = pb.BatchUpsertDocumentsRequest(collection=faq, documents=[document("x", text="lamp")])
    assert not api.documents.BatchUpsertDocuments(request, timeout=CALL_S).warnings
