"""CollectionService: what it reads in a request, what it says of a collection, and what it refuses."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2
from tests.integration.api.helpers.feedback import waited
from tests.integration.api.helpers.served import CALL_S, Api, refused
from tests.integration.api.helpers.training import Training

from quarry.v1 import collection_service_pb2 as pb

TEXT, KEYWORD = pb.SCHEMA_FIELD_TYPE_TEXT, pb.SCHEMA_FIELD_TYPE_KEYWORD
SCHEMA = pb.Schema(fields=[{"name": "text", "type": TEXT}, {"name": "kind", "type": KEYWORD}])


def get(api: Api, name: str) -> pb.Collection:
    return api.collections.GetCollection(pb.GetCollectionRequest(name=name), timeout=CALL_S).collection


def test_a_collection_comes_back_as_it_was_made(api: Api, new_name: Callable[[], str]) -> None:
    name = new_name()
    made = api.create(name, encoder="none", schema=SCHEMA, description="of things")
    assert (made.name, made.encoder, made.description) == (name, "none", "of things")
    assert [(field.name, field.type) for field in made.schema.fields] == [("text", TEXT), ("kind", KEYWORD)]
    assert [arm.arm for arm in made.status.arms] == ["bm25"]
    assert (made.status.document_count, made.status.read_only_reason) == (0, "")
    found = get(api, name)
    assert (found.etag, found.create_time, found.schema) == (made.etag, made.create_time, made.schema)


def test_a_repeated_request_makes_one_collection(api: Api, new_name: Callable[[], str]) -> None:
    collection = pb.Collection(name=new_name(), encoder="none")
    request = pb.CreateCollectionRequest(collection=collection, request_id="once")
    first, second = [api.collections.CreateCollection(request, timeout=CALL_S) for _ in range(2)]
    assert first.collection.etag == second.collection.etag
    again = pb.CreateCollectionRequest(collection=collection)
    assert refused(api.collections.CreateCollection, again).code is grpc.StatusCode.ALREADY_EXISTS


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "no/name"}, "collection.name"),
        ({"schema": {"fields": [{"name": "a b", "type": TEXT}]}}, "collection.schema.fields[0].name"),
        ({"schema": {"fields": [{"name": "a", "type": 99}]}}, "collection.schema.fields[0].type"),
    ],
)
def test_a_wrong_setting_is_named(api: Api, changes: Any, field: str) -> None:
    collection = pb.Collection(**{"name": "never", "encoder": "none", **changes})
    found = refused(api.collections.CreateCollection, pb.CreateCollectionRequest(collection=collection))
    assert (found.code, found.field) == (grpc.StatusCode.INVALID_ARGUMENT, field)


def test_a_model_that_no_setting_allows_is_refused(api: Api) -> None:
    for models in ({"encoder": "/etc"}, {"encoder": "none", "reranker": "/etc"}):
        request = pb.CreateCollectionRequest(collection=pb.Collection(name="never", **models))
        assert refused(api.collections.CreateCollection, request).reason == "MODEL_NOT_ALLOWED"


def test_collections_are_listed_a_page_at_a_time(api: Api, faq: str, new_name: Callable[[], str]) -> None:
    api.create(new_name(), encoder="none")
    names: list[str] = []
    request = pb.ListCollectionsRequest(page_size=1)
    while True:
        page = api.collections.ListCollections(request, timeout=CALL_S)
        names += [collection.name for collection in page.collections]
        assert len(page.collections) == 1
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert names == sorted(set(names))
    assert faq in names


def test_only_what_the_mask_names_changes_and_an_old_etag_changes_nothing(api: Api, faq: str) -> None:
    before = get(api, faq)
    collection = pb.Collection(name=faq, etag=before.etag, description="new", encoder="other")
    request = pb.UpdateCollectionRequest(collection=collection, update_mask={"paths": ["description"]})
    after = api.collections.UpdateCollection(request, timeout=CALL_S).collection
    assert (after.description, after.encoder) == ("new", "none")
    assert after.etag != before.etag
    assert refused(api.collections.UpdateCollection, request).code is grpc.StatusCode.ABORTED
    assert get(api, faq) == after
    for paths in ([], ["encoder"], ["nothing"]):
        wrong = pb.UpdateCollectionRequest(collection={"name": faq}, update_mask={"paths": paths})
        assert refused(api.collections.UpdateCollection, wrong).field == "update_mask"


@pytest.mark.parametrize("policy", [pb.PROMOTION_POLICY_MANUAL, pb.PROMOTION_POLICY_WHEN_IMPROVED])
def test_the_policy_of_promotion_is_kept_as_it_was_asked(api: Api, faq: str, policy: Any) -> None:
    collection = pb.Collection(name=faq, promotion=policy)
    request = pb.UpdateCollectionRequest(collection=collection, update_mask={"paths": ["promotion"]})
    assert api.collections.UpdateCollection(request, timeout=CALL_S).collection.promotion == policy
    collection.promotion = 99  # type: ignore[assignment]
    request = pb.UpdateCollectionRequest(collection=collection, update_mask={"paths": ["promotion"]})
    assert refused(api.collections.UpdateCollection, request).field == "collection.promotion"


def test_a_reranker_that_no_verdict_speaks_for_is_put_in_place_only_as_unproven(
    api: Api, training: Training, faq: str, examples: str
) -> None:
    proven = training.made(training.start(faq, examples=examples, description="IMPROVED")).name
    other = training.made(training.start(faq, examples=examples, description="NO_IMPROVEMENT")).name

    def ask(model: str, **options: Any) -> pb.UpdateCollectionRequest:
        changed = pb.Collection(name=faq, reranker=model)
        return pb.UpdateCollectionRequest(collection=changed, update_mask={"paths": ["reranker"]}, **options)

    def update(model: str, **options: Any) -> tuple[str, bool]:
        api.collections.UpdateCollection(ask(model, **options), timeout=CALL_S)
        found = get(api, faq)
        return found.reranker, found.reranker_unproven

    assert update(proven) == (proven, False)
    found = refused(api.collections.UpdateCollection, ask(other))
    assert (found.code, found.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RERANKER_UNPROVEN")
    assert "its verdict is NO_IMPROVEMENT" in found.message
    assert get(api, faq).reranker == proven
    assert update(other, unproven=True) == (other, True)
    assert update(other) == (other, True), "what serves already is not put in place"
    assert update("") == ("", False), "to re-rank no more needs no proof"


def test_a_stage_that_no_verdict_speaks_for_is_put_in_place_only_as_unproven(
    api: Api, training: Training, faq: str, examples: str
) -> None:
    other = training.made(training.start(faq, examples=examples, description="REGRESSED")).name
    changed = pb.Collection(name=faq)
    changed.cascade.add(model=other, depth=50)
    changed.cascade.add(depth=20)
    request = pb.UpdateCollectionRequest(collection=changed, update_mask={"paths": ["cascade"]})
    found = refused(api.collections.UpdateCollection, request)
    assert (found.reason, get(api, faq).cascade) == ("RERANKER_UNPROVEN", [])
    request.unproven = True
    api.collections.UpdateCollection(request, timeout=CALL_S)
    assert get(api, faq).reranker_unproven


def test_a_deleted_collection_is_found_by_no_call(api: Api, faq: str) -> None:
    request = pb.DeleteCollectionRequest(name=faq, etag="0")
    assert refused(api.collections.DeleteCollection, request).code is not grpc.StatusCode.OK
    api.collections.DeleteCollection(pb.DeleteCollectionRequest(name=faq), timeout=CALL_S)
    for call, gone in (
        (api.collections.GetCollection, pb.GetCollectionRequest(name=faq)),
        (api.collections.DeleteCollection, pb.DeleteCollectionRequest(name=faq)),
        (api.collections.CheckConsistency, pb.CheckConsistencyRequest(name=faq)),
        (api.collections.RepairCollection, pb.RepairCollectionRequest(name=faq)),
        (api.collections.PauseReindex, pb.PauseReindexRequest(name=faq)),
        (api.collections.DropPreviousGeneration, pb.DropPreviousGenerationRequest(name=faq)),
    ):
        assert refused(call, gone).code is grpc.StatusCode.NOT_FOUND


def test_a_sound_collection_has_no_differences_and_repairing_finds_none(api: Api, faq: str) -> None:
    found = api.collections.CheckConsistency(pb.CheckConsistencyRequest(name=faq), timeout=CALL_S)
    assert found.consistent
    started = api.collections.RepairCollection(pb.RepairCollectionRequest(name=faq), timeout=CALL_S)
    repaired = waited(api, started, pb.RepairCollectionResponse())
    assert (repaired.found.consistent, repaired.after.consistent) == (True, True)


def test_a_reindex_makes_new_indexes_and_can_be_taken_back(api: Api, faq: str) -> None:
    before = get(api, faq)
    wanted = pb.Schema(fields=[{"name": "title", "type": TEXT}, {"name": "text", "type": TEXT}])
    request = pb.ReindexRequest(name=faq, schema=wanted)
    request.validate_only = True
    planned = api.collections.Reindex(request, timeout=CALL_S)
    estimate = pb.ReindexResponse()
    assert planned.done
    assert planned.response.Unpack(estimate)
    assert estimate.estimate.documents == 3
    assert get(api, faq).status.generation == before.status.generation
    request.validate_only = False
    made = waited(api, api.collections.Reindex(request, timeout=CALL_S), pb.ReindexResponse()).collection
    assert made.status.generation != before.status.generation
    assert {field.name for field in made.schema.fields} == {"title", "text"}
    assert get(api, faq).status.previous.generation == before.status.generation
    back = api.collections.RollbackReindex(pb.RollbackReindexRequest(name=faq), timeout=CALL_S)
    assert waited(api, back, pb.ReindexResponse()).collection.status.generation == before.status.generation
    dropped = pb.DropPreviousGenerationRequest(name=faq)
    after = api.collections.DropPreviousGeneration(dropped, timeout=CALL_S).collection
    assert not after.status.HasField("previous")


def test_a_reindex_that_can_be_none_is_refused(api: Api, faq: str) -> None:
    for request, field in ((pb.ReindexRequest(name=faq, encoder=""), "encoder"),):
        assert refused(api.collections.Reindex, request).field == field
    for call, wrong in (
        (api.collections.PauseReindex, pb.PauseReindexRequest(name=faq)),
        (api.collections.ResumeReindex, pb.ResumeReindexRequest(name=faq)),
        (api.collections.RollbackReindex, pb.RollbackReindexRequest(name=faq)),
    ):
        assert refused(call, wrong).code is grpc.StatusCode.FAILED_PRECONDITION


def test_operations_are_listed_waited_for_and_forgotten(api: Api, faq: str) -> None:
    started = api.collections.RepairCollection(pb.RepairCollectionRequest(name=faq), timeout=CALL_S)
    waited(api, started, pb.RepairCollectionResponse())
    names: list[str] = []
    request = operations_pb2.ListOperationsRequest(page_size=1)
    while True:
        page = api.operations.ListOperations(request, timeout=CALL_S)
        names += [operation.name for operation in page.operations]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert started.name in names
    name = operations_pb2.DeleteOperationRequest(name=started.name)
    api.operations.DeleteOperation(name, timeout=CALL_S)
    lost = operations_pb2.GetOperationRequest(name=started.name)
    assert refused(api.operations.GetOperation, lost).code is grpc.StatusCode.NOT_FOUND


def test_a_name_that_is_no_operations_is_refused(api: Api) -> None:
    for call, request in (
        (api.operations.GetOperation, operations_pb2.GetOperationRequest(name="repair-1")),
        (api.operations.WaitOperation, operations_pb2.WaitOperationRequest(name="repair-1")),
        (api.operations.CancelOperation, operations_pb2.CancelOperationRequest(name="repair-1")),
        (api.operations.ListOperations, operations_pb2.ListOperationsRequest(name="repair-1")),
    ):
        assert refused(call, request).field == "name"
    request = operations_pb2.ListOperationsRequest(filter="done")
    assert refused(api.operations.ListOperations, request).field == "filter"
