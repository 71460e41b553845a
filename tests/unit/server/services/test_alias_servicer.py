"""Aliases: a second name wherever a collection is named, switched at once; no collection goes under one."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from tests.integration.api.helpers.served import CALL_S, Api, document, refused

from quarry.v1 import collection_service_pb2 as pb
from quarry.v1 import document_service_pb2 as documents_pb
from quarry.v1 import feedback_service_pb2 as feedback_pb
from quarry.v1 import search_service_pb2 as search_pb
from quarry.v1 import training_service_pb2 as training_pb
from quarry.v1 import training_service_pb2_grpc

EXISTS, MISSING = grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.NOT_FOUND


@pytest.fixture
def other(api: Api, new_name: Callable[[], str]) -> str:
    """A second collection, of one document about a thing that is blue."""
    name = api.create(new_name(), encoder="none").name
    api.upsert(name, {"b1": {"title": "blue", "text": "a blue thing"}})
    return name


@pytest.fixture
def alias(api: Api, faq: str, new_name: Callable[[], str]) -> str:
    name = f"alias-{new_name()}"
    set_alias(api, name, faq)
    return name


def set_alias(api: Api, name: str, collection: str) -> pb.SetAliasResponse:
    return api.collections.SetAlias(pb.SetAliasRequest(name=name, collection=collection), timeout=CALL_S)


def ids(api: Api, name: str) -> list[str]:
    return sorted(hit.document.id for hit in api.search(name).hits)


def test_an_alias_is_made_switched_listed_and_deleted(api: Api, faq: str, other: str, alias: str) -> None:
    again = set_alias(api, alias, faq)
    assert (again.current.collection, again.previous_collection) == (faq, faq)
    switched = set_alias(api, alias, other)
    assert (switched.current.name, switched.current.collection, switched.previous_collection) == (
        alias,
        other,
        faq,
    )
    assert switched.current.create_time == again.current.create_time
    request = pb.ListAliasesRequest(collection=other)
    (listed,) = api.collections.ListAliases(request, timeout=CALL_S).aliases
    assert listed == switched.current
    api.collections.DeleteAlias(pb.DeleteAliasRequest(name=alias), timeout=CALL_S)
    assert not api.collections.ListAliases(request, timeout=CALL_S).aliases
    gone = refused(api.collections.DeleteAlias, pb.DeleteAliasRequest(name=alias))
    assert (gone.code, gone.reason) == (MISSING, "ALIAS_NOT_FOUND")
    assert refused(api.searches.Search, search_pb.SearchRequest(collection=alias)).code is MISSING


def test_lists_of_aliases_have_pages(api: Api, faq: str) -> None:
    names = [f"{faq}-{letter}" for letter in "abc"]
    for name in names:
        set_alias(api, name, faq)
    found: list[str] = []
    request = pb.ListAliasesRequest(page_size=2, collection=faq)
    while True:
        page = api.collections.ListAliases(request, timeout=CALL_S)
        found += [alias.name for alias in page.aliases]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert found == names


def test_searches_and_writes_go_where_the_alias_points(api: Api, faq: str, other: str, alias: str) -> None:
    assert ids(api, alias) == ["d1", "d2", "d3"]
    set_alias(api, alias, other)
    assert ids(api, alias) == ["b1"]
    api.upsert(alias, {"b2": {"text": "another"}})
    assert ids(api, other) == ["b1", "b2"]
    assert ids(api, faq) == ["d1", "d2", "d3"]
    found = api.collections.GetCollection(pb.GetCollectionRequest(name=alias), timeout=CALL_S).collection
    assert (found.name, list(found.aliases)) == (other, [alias])
    assert set_alias(api, f"{alias}-2", alias).current.collection == other, (
        "an alias of an alias is one of its own"
    )


def test_an_open_stream_goes_on_where_it_began(api: Api, faq: str, other: str, alias: str) -> None:
    def batches() -> Any:
        yield documents_pb.UpsertDocumentsRequest(config={"collection": alias})
        yield documents_pb.UpsertDocumentsRequest(batch={"documents": [document("s1", text="one")]})
        set_alias(api, alias, other)
        yield documents_pb.UpsertDocumentsRequest(batch={"documents": [document("s2", text="two")]})

    assert len(list(api.documents.UpsertDocuments(batches(), timeout=CALL_S))) == 2
    request = documents_pb.ListDocumentsRequest(collection=faq)
    listed = api.documents.ListDocuments(request, timeout=CALL_S).documents
    assert [one.id for one in listed] == ["d1", "d2", "d3", "s1", "s2"]


def test_a_click_belongs_to_the_collection_that_answered(api: Api, faq: str, other: str, alias: str) -> None:
    """Also if the alias was switched between the answer and the click."""
    answer = api.search(alias, "red")
    set_alias(api, alias, other)
    later = api.search(alias, "blue")
    clicks = [
        feedback_pb.Event(
            event_id=f"{alias}-{n}",
            type=feedback_pb.EVENT_TYPE_CLICK,
            attribution_token=one.attribution_token,
            document_id=one.hits[0].document.id,
        )
        for n, one in enumerate((answer, later))
    ]
    request = feedback_pb.RecordEventsRequest(collection=alias, events=clicks)
    for duplicate in (False, True):
        statuses = api.feedback.RecordEvents(request, timeout=CALL_S).statuses
        assert [(one.status.code, one.duplicate) for one in statuses] == [(0, duplicate)] * 2
    for name in (faq, other):
        stats = feedback_pb.GetFeedbackStatsRequest(collection=name)
        assert [one.count for one in api.feedback.GetFeedbackStats(stats, timeout=CALL_S).events] == [1]
    request.collection = other
    statuses = api.feedback.RecordEvents(request, timeout=CALL_S).statuses
    assert [bool(one.status.code) for one in statuses] == [True, False], "under its own name, only its own"


def test_documents_to_train_on_are_a_collections_under_its_alias_too(
    api: Api, faq: str, other: str, alias: str
) -> None:
    stub = training_service_pb2_grpc.TrainingServiceStub(api.channel)
    documents = training_pb.DocumentPretraining(collections=[other, alias, faq])
    request = training_pb.TrainRerankerRequest(collection=faq, document_pretraining=documents)
    twice = refused(stub.TrainReranker, request)
    assert (twice.field, twice.reason) == ("document_pretraining.collections[2]", "DUPLICATE")
    assert faq in twice.message


def test_a_name_is_one_or_the_other(api: Api, faq: str, other: str, alias: str) -> None:
    taken = refused(api.collections.SetAlias, pb.SetAliasRequest(name=other, collection=faq))
    assert taken.code is EXISTS
    made = pb.CreateCollectionRequest(collection={"name": alias, "encoder": "none"})
    assert refused(api.collections.CreateCollection, made).code is EXISTS


def test_a_wrong_alias_is_refused(api: Api, faq: str) -> None:
    for name in ("", "Shop", "a b", "x" * 65):
        wrong = refused(api.collections.SetAlias, pb.SetAliasRequest(name=name, collection=faq))
        assert (wrong.code, wrong.field) == (grpc.StatusCode.INVALID_ARGUMENT, "name")
    assert refused(api.collections.SetAlias, pb.SetAliasRequest(name="shop")).field == "collection"
    missing = refused(api.collections.SetAlias, pb.SetAliasRequest(name="shop", collection="none"))
    assert (missing.code, missing.reason) == (MISSING, "COLLECTION_NOT_FOUND")


def test_a_collection_stays_while_an_alias_names_it(api: Api, faq: str, other: str, alias: str) -> None:
    for name in (faq, alias):
        kept = refused(api.collections.DeleteCollection, pb.DeleteCollectionRequest(name=name))
        assert (kept.code, kept.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "COLLECTION_HAS_ALIASES")
        assert alias in kept.message
    assert ids(api, alias) == ["d1", "d2", "d3"]
    set_alias(api, alias, other)
    api.collections.DeleteCollection(pb.DeleteCollectionRequest(name=faq), timeout=CALL_S)
    assert ids(api, alias) == ["b1"]


def test_a_page_of_before_the_switch_is_not_continued_in_another_collection(
    api: Api, faq: str, other: str, alias: str
) -> None:
    first = api.search(alias, "red", page_size=1)
    assert first.next_page_token
    set_alias(api, alias, other)
    request = search_pb.SearchRequest(
        collection=alias, query="red", page_size=1, page_token=first.next_page_token
    )
    late = refused(api.searches.Search, request)
    assert (late.code, late.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PAGE_EXPIRED")
