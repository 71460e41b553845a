"""Collections over the API: made, read, listed, changed, removed."""

from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from tests.integration.api.helpers.served import CALL_S, Api, refused, served, tiny_settings

from quarry.v1 import collection_service_pb2 as pb


def test_a_new_collection_is_empty_and_has_every_default_filled_in(
    api: Api, new_name: Callable[[], str], encoder_folder: Path
) -> None:
    made = api.create(new_name())
    assert [(f.name, f.type, f.is_title) for f in made.schema.fields] == [
        ("title", pb.SCHEMA_FIELD_TYPE_TEXT, True),
        ("text", pb.SCHEMA_FIELD_TYPE_TEXT, False),
    ]
    assert made.schema.unknown_fields == pb.UNKNOWN_FIELDS_STORE
    assert made.encoder == str(encoder_folder)
    assert 0 < made.passages.overlap_tokens <= 32
    assert made.etag
    assert made.create_time == made.update_time
    assert made.status.document_count == 0
    assert [arm.arm for arm in made.status.arms] == ["bm25", "dense"]
    assert not made.status.read_only_reason
    again = api.collections.GetCollection(pb.GetCollectionRequest(name=made.name), timeout=CALL_S).collection
    assert again == made


def test_a_given_schema_refuses_fields_that_it_does_not_name(api: Api, new_name: Callable[[], str]) -> None:
    schema = pb.Schema(fields=[pb.SchemaField(name="title", type=pb.SCHEMA_FIELD_TYPE_TEXT, is_title=False)])
    made = api.create(new_name(), schema=schema, encoder="none")
    assert made.schema.unknown_fields == pb.UNKNOWN_FIELDS_REJECT
    assert not made.schema.fields[0].is_title


def test_short_passages_have_a_default_overlap_that_fits_them(api: Api, new_name: Callable[[], str]) -> None:
    made = api.create(new_name(), encoder="none", passages=pb.PassagePolicy(max_tokens=40))
    assert made.passages.max_tokens == 40
    assert 0 < made.passages.overlap_tokens < 20


def test_a_name_is_taken_once(api: Api, lexical: str) -> None:
    request = pb.CreateCollectionRequest(collection=pb.Collection(name=lexical, encoder="none"))
    assert refused(api.collections.CreateCollection, request).code is grpc.StatusCode.ALREADY_EXISTS


def test_a_repeated_creation_gives_the_first_result(api: Api, new_name: Callable[[], str]) -> None:
    collection = pb.Collection(name=new_name(), encoder="none")
    request = pb.CreateCollectionRequest(collection=collection, request_id=collection.name)
    first = api.collections.CreateCollection(request, timeout=CALL_S)
    assert api.collections.CreateCollection(request, timeout=CALL_S) == first
    request.collection.description = "another"
    failed = refused(api.collections.CreateCollection, request)
    assert (failed.code, failed.field) == (grpc.StatusCode.INVALID_ARGUMENT, "request_id")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "A"}, "collection.name"),
        ({"name": ""}, "collection.name"),
        ({"name": "a\n"}, "collection.name"),
        ({"name": "a" * 65}, "collection.name"),
        ({"description": "é" * 513}, "collection.description"),
        ({"schema": {}}, "collection.schema.fields"),
        ({"schema": {"fields": [{"name": "_a", "type": 2}]}}, "collection.schema.fields[0].name"),
        ({"schema": {"fields": [{"name": "a"}]}}, "collection.schema.fields[0].type"),
        (
            {"schema": {"fields": [{"name": "a", "type": 2}, {"name": "a", "type": 1}]}},
            "collection.schema.fields[1].name",
        ),
        (
            {"schema": {"fields": [{"name": "a", "type": 1, "boost": float("nan")}]}},
            "collection.schema.fields[0].boost",
        ),
        (
            {"schema": {"fields": [{"name": "a", "type": 1, "language": "tlh"}]}},
            "collection.schema.fields[0].language",
        ),
        (
            {"schema": {"fields": [{"name": f"f{n}", "type": 2} for n in range(257)]}},
            "collection.schema.fields",
        ),
        (
            {"schema": {"fields": [{"name": "a", "type": 1}], "unknown_fields": 9}},
            "collection.schema.unknown_fields",
        ),
        ({"passages": {"max_tokens": 31}}, "collection.passages.max_tokens"),
        ({"passages": {"max_tokens": 64, "overlap_tokens": 32}}, "collection.passages.overlap_tokens"),
    ],
)
def test_settings_that_are_wrong_are_named(api: Api, changes: dict[str, object], field: str) -> None:
    values = {"name": "never", "encoder": "none", **changes}
    failed = refused(api.collections.CreateCollection, pb.CreateCollectionRequest(collection=values))
    assert (failed.code, failed.field) == (grpc.StatusCode.INVALID_ARGUMENT, field)


@pytest.mark.parametrize("model", ["no-such/model", "/no/such/folder", "~no-such-user", "a" * 1_024, "\x00"])
def test_a_model_that_a_request_may_not_name_is_refused(
    api: Api, new_name: Callable[[], str], model: str
) -> None:
    for changes in ({"encoder": model}, {"encoder": "none", "reranker": model}):
        request = pb.CreateCollectionRequest(collection={"name": new_name(), **changes})
        failed = refused(api.collections.CreateCollection, request)
        assert (failed.code, failed.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_NOT_ALLOWED")


def test_a_model_that_cannot_be_loaded_is_refused(
    api: Api, new_name: Callable[[], str], tmp_path: Path
) -> None:
    for changes in ({"encoder": str(tmp_path)}, {"encoder": "none", "reranker": str(tmp_path / "no")}):
        request = pb.CreateCollectionRequest(collection={"name": new_name(), **changes})
        failed = refused(api.collections.CreateCollection, request)
        assert (failed.code, failed.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_UNUSABLE")


def test_lists_are_in_order_of_name_whatever_the_page_size(api: Api, new_name: Callable[[], str]) -> None:
    for _ in range(3):
        api.create(new_name(), encoder="none")
    whole = [c.name for c in _pages(api, 1_000)]
    assert whole == sorted(whole)
    assert [c.name for c in _pages(api, 2)] == whole
    request = pb.ListCollectionsRequest(page_size=-1)
    assert refused(api.collections.ListCollections, request).field == "page_size"


def _pages(api: Api, size: int) -> list[pb.Collection]:
    found: list[pb.Collection] = []
    request = pb.ListCollectionsRequest(page_size=size)
    while True:
        answer = api.collections.ListCollections(request, timeout=CALL_S)
        assert len(answer.collections) <= size
        found += answer.collections
        if not answer.next_page_token:
            return found
        request.page_token = answer.next_page_token


def test_an_update_changes_what_its_mask_names_and_the_etag(
    api: Api, lexical: str, cross_encoder_folder: Path
) -> None:
    before = api.collections.GetCollection(pb.GetCollectionRequest(name=lexical), timeout=CALL_S).collection
    change = pb.Collection(
        name=lexical, etag=before.etag, description="new", reranker=str(cross_encoder_folder)
    )
    request = pb.UpdateCollectionRequest(collection=change, update_mask={"paths": ["description"]})
    after = api.collections.UpdateCollection(request, timeout=CALL_S).collection
    assert (after.description, after.reranker) == ("new", "")
    assert after.etag != before.etag
    failed = refused(api.collections.UpdateCollection, request)
    assert (failed.code, failed.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    request.collection.etag = after.etag
    request.update_mask.paths[:] = ["reranker"]
    failed = refused(api.collections.UpdateCollection, request)
    assert (failed.code, failed.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RERANKER_UNPROVEN")
    request.unproven = True
    updated = api.collections.UpdateCollection(request, timeout=CALL_S).collection
    assert updated.reranker == str(cross_encoder_folder)
    assert updated.reranker_unproven


@pytest.mark.parametrize("paths", [[], ["schema"], ["name"], ["description", "encoder"], [""]])
def test_what_is_fixed_at_creation_stays(api: Api, lexical: str, paths: list[str]) -> None:
    request = pb.UpdateCollectionRequest(collection={"name": lexical}, update_mask={"paths": paths})
    assert refused(api.collections.UpdateCollection, request).field == "update_mask"


def test_an_etag_that_is_none_of_the_servers_is_named(api: Api, lexical: str) -> None:
    change = pb.Collection(name=lexical, etag="mine")
    request = pb.UpdateCollectionRequest(collection=change, update_mask={"paths": ["description"]})
    assert refused(api.collections.UpdateCollection, request).field == "collection.etag"
    removal = pb.DeleteCollectionRequest(name=lexical, etag="mine")
    assert refused(api.collections.DeleteCollection, removal).field == "etag"


def test_a_deleted_collection_is_gone_and_its_name_is_free_for_an_empty_one(api: Api, lexical: str) -> None:
    api.upsert(lexical, {"a": {"text": "word"}})
    removal = pb.DeleteCollectionRequest(name=lexical, etag='"99"')
    assert refused(api.collections.DeleteCollection, removal).code is grpc.StatusCode.ABORTED
    api.collections.DeleteCollection(pb.DeleteCollectionRequest(name=lexical), timeout=CALL_S)
    for call, request in (
        (api.collections.GetCollection, pb.GetCollectionRequest(name=lexical)),
        (api.collections.DeleteCollection, pb.DeleteCollectionRequest(name=lexical)),
        (api.collections.CheckConsistency, pb.CheckConsistencyRequest(name=lexical)),
        (api.collections.RepairCollection, pb.RepairCollectionRequest(name=lexical)),
    ):
        failed = refused(call, request)
        assert (failed.code, failed.reason) == (grpc.StatusCode.NOT_FOUND, "COLLECTION_NOT_FOUND")
    api.create(lexical, encoder="none")
    assert not api.search(lexical, "word").hits


def test_after_a_restart_a_collection_searches_and_reranks_as_before(
    tmp_path: Path, encoder_folder: Path, cross_encoder_folder: Path
) -> None:
    settings = tiny_settings(tmp_path, encoder_folder)
    with served(settings) as api:
        api.create("kept", reranker=str(cross_encoder_folder))
        api.upsert("kept", {"a": {"text": "the first"}, "b": {"text": "the second"}})
        before = api.search("kept", "the first")
        assert before.reranker
    with served(settings) as api:
        after = api.search("kept", "the first")
        assert not after.degraded
        assert (after.hits, after.reranker) == (before.hits, before.reranker)
