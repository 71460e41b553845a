"""Reindexing over the API: what changes, what does not, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.longrunning import operations_pb2
from google.protobuf.duration_pb2 import Duration
from grpc import StatusCode
from tests.integration.api.helpers.corpus import SCHEMA_MESSAGE, seeded_documents
from tests.integration.api.helpers.served import CALL_S, Api, field_value, refused

from quarry.testing import make_tiny_encoder
from quarry.v1 import collection_service_pb2 as pb
from quarry.v1.types_pb2 import EqualToFilter, Filter, RangeFilter

NewName = Callable[[], str]


@pytest.fixture(scope="session")
def other_encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_tiny_encoder(tmp_path_factory.mktemp("other"), seed=7))


def started(api: Api, name: str, **settings: Any) -> operations_pb2.Operation:
    return api.collections.Reindex(pb.ReindexRequest(name=name, **settings), timeout=CALL_S)


def finished(api: Api, operation: operations_pb2.Operation) -> operations_pb2.Operation:
    request = operations_pb2.WaitOperationRequest(name=operation.name, timeout=Duration(seconds=50))
    done = api.operations.WaitOperation(request, timeout=CALL_S)
    assert done.done, done
    return done


def reindexed(api: Api, name: str, **settings: Any) -> pb.Collection:
    done = finished(api, started(api, name, **settings))
    assert not done.HasField("error"), done.error
    response = pb.ReindexResponse()
    assert done.response.Unpack(response)
    return response.collection


def described(api: Api, name: str) -> pb.Collection:
    return api.collections.GetCollection(pb.GetCollectionRequest(name=name), timeout=CALL_S).collection


def settled(collection: pb.Collection) -> pb.Collection:
    """``collection`` without what changes by itself: how far its arms are."""
    del collection.status.arms[:]
    return collection


def consistent(api: Api, name: str) -> bool:
    request = pb.CheckConsistencyRequest(name=name)
    return api.collections.CheckConsistency(request, timeout=CALL_S).consistent


def test_another_encoder_takes_over(api: Api, new_name: NewName, other_encoder: str) -> None:
    name = api.create(new_name(), schema=SCHEMA_MESSAGE).name
    api.upsert(name, seeded_documents(size=60))
    before = described(api, name)
    first = api.search(name, "barata deneli", explain=True)
    after = reindexed(api, name, encoder=other_encoder)
    assert after.encoder == other_encoder
    assert after.etag != before.etag
    assert after.status.generation != before.status.generation
    again = api.search(name, "barata deneli", explain=True)
    assert again.generation == after.status.generation
    assert [arm.arm for arm in again.hits[0].explanation.arms] == ["bm25", "dense"]
    assert {h.document.id: h.score for h in first.hits} != {h.document.id: h.score for h in again.hits}
    assert consistent(api, name)
    status = described(api, name).status
    assert not status.HasField("reindex")
    assert status.previous.generation == before.status.generation
    assert status.previous.encoder == before.encoder


def test_a_reindex_is_estimated_without_being_begun(api: Api, new_name: NewName, other_encoder: str) -> None:
    name = api.create(new_name(), schema=SCHEMA_MESSAGE).name
    api.upsert(name, seeded_documents(seed=3, size=50))
    before = described(api, name)
    operation = started(api, name, encoder=other_encoder, validate_only=True)
    assert operation.done
    assert operation.name == ""
    response = pb.ReindexResponse()
    assert operation.response.Unpack(response)
    estimate = response.estimate
    assert estimate.documents == 50
    assert estimate.sampled_documents == 50
    assert estimate.passages > 50, "some documents are longer than a passage"
    assert estimate.encoded_passages == estimate.passages
    assert 10 * estimate.passages < estimate.tokens < 64 * estimate.passages
    assert estimate.duration.ToNanoseconds() > 0
    assert estimate.disk_bytes > 10_000
    assert response.collection.encoder == other_encoder
    assert settled(described(api, name)) == settled(before)


def test_vectors_that_are_known_cost_nothing(api: Api, new_name: NewName) -> None:
    name = api.create(new_name(), schema=SCHEMA_MESSAGE).name
    api.upsert(name, seeded_documents(size=50))
    schema = pb.Schema.FromString(SCHEMA_MESSAGE.SerializeToString())
    schema.fields[1].boost = 2.0
    response = pb.ReindexResponse()
    assert started(api, name, schema=schema, validate_only=True).response.Unpack(response)
    assert (response.estimate.tokens, response.estimate.encoded_passages) == (0, 0)
    assert response.estimate.passages > 50


def test_a_dense_arm_comes_and_goes(api: Api, new_name: NewName, encoder_folder: Path) -> None:
    name = api.create(new_name(), schema=SCHEMA_MESSAGE, encoder="none").name
    api.upsert(name, seeded_documents(size=40))
    both = reindexed(api, name, encoder=str(encoder_folder))
    assert both.passages.max_tokens == 64
    assert [arm.arm for arm in described(api, name).status.arms] == ["bm25", "dense"]
    assert len(api.search(name, "nothing like it", page_size=100).hits) == 40
    reindexed(api, name, encoder="none")
    assert [arm.arm for arm in described(api, name).status.arms] == ["bm25"]
    assert not api.search(name, "nothing like it", page_size=100).hits


def test_passages_are_cut_anew(api: Api, new_name: NewName) -> None:
    name = api.create(new_name(), schema=SCHEMA_MESSAGE).name
    api.upsert(name, {"a": {"text": "barata deneli. " * 60}})
    request = pb.PassagePolicy(max_tokens=32, overlap_tokens=4)
    assert reindexed(api, name, passages=request).passages == request
    assert reindexed(api, name, passages=pb.PassagePolicy(first_only=True)).passages.max_tokens == 64
    assert consistent(api, name)


def test_a_field_can_change_its_type(api: Api, new_name: NewName) -> None:
    def schema(kind: int) -> pb.Schema:
        fields = [
            pb.SchemaField(name="text", type=pb.SCHEMA_FIELD_TYPE_TEXT),
            pb.SchemaField(name="year", type=kind),
        ]  # type: ignore[arg-type]
        return pb.Schema(fields=fields)

    name = api.create(new_name(), schema=schema(pb.SCHEMA_FIELD_TYPE_KEYWORD), encoder="none").name
    api.upsert(name, {"a": {"text": "one", "year": "1999"}, "b": {"text": "two", "year": ["7", "-3"]}})
    api.upsert(name, {"odd": {"text": "three", "year": "soon"}})
    call = pb.ReindexRequest(name=name, schema=schema(pb.SCHEMA_FIELD_TYPE_INTEGER))
    problem = refused(api.collections.Reindex, call)
    assert (problem.code, problem.reason) == (StatusCode.FAILED_PRECONDITION, "DOCUMENT_DOES_NOT_FIT")
    assert "'odd'" in problem.message
    assert "year" in problem.message
    api.delete(name, "odd")
    reindexed(api, name, schema=call.schema)
    api.upsert(name, {"c": {"text": "four", "year": 2_001}})
    recent = Filter(range=RangeFilter(field="year", gte=field_value(1_990)))
    assert {hit.document.id for hit in api.search(name, "", filter=recent).hits} == {"a", "c"}
    hits = {hit.document.id: hit.document for hit in api.search(name, "").hits}
    assert hits["a"].fields["year"].integer_value == 1_999
    assert [v.integer_value for v in hits["b"].fields["year"].list_value.values] == [7, -3]
    assert consistent(api, name)
    rolled_back(api, name)
    hits = {hit.document.id: hit.document for hit in api.search(name, "").hits}
    assert (hits["a"].fields["year"].string_value, hits["c"].fields["year"].string_value) == ("1999", "2001")
    old = Filter(equal_to=EqualToFilter(field="year", value=field_value("2001")))
    assert [hit.document.id for hit in api.search(name, "", filter=old).hits] == ["c"]
    api.upsert(name, {"d": {"text": "five", "year": "later"}})
    operation = finished(api, api.collections.RollbackReindex(pb.RollbackReindexRequest(name=name)))
    assert operation.error.code == StatusCode.FAILED_PRECONDITION.value[0]
    assert "'d'" in operation.error.message
    assert consistent(api, name)


def test_fields_come_and_go(api: Api, new_name: NewName) -> None:
    name = api.create(new_name(), encoder="none").name
    api.upsert(name, {"a": {"title": "one", "text": "two", "tag": "x"}, "b": {"text": "three"}})
    fields = [
        pb.SchemaField(name="text", type=pb.SCHEMA_FIELD_TYPE_TEXT),
        pb.SchemaField(name="tag", type=pb.SCHEMA_FIELD_TYPE_KEYWORD),
    ]
    reindexed(api, name, schema=pb.Schema(fields=fields))
    tagged = Filter(equal_to=EqualToFilter(field="tag", value=field_value("x")))
    (hit,) = api.search(name, "", filter=tagged).hits
    assert set(hit.document.fields) == {"text", "tag"}, "the title is not in this schema"
    assert not api.search(name, "one").hits
    rolled_back(api, name)
    (hit,) = api.search(name, "one").hits
    assert set(hit.document.fields) == {"title", "text", "tag"}


def rolled_back(api: Api, name: str) -> pb.Collection:
    request = pb.RollbackReindexRequest(name=name)
    done = finished(api, api.collections.RollbackReindex(request, timeout=CALL_S))
    assert not done.HasField("error"), done.error
    response = pb.ReindexResponse()
    assert done.response.Unpack(response)
    return response.collection


def test_a_rollback_brings_back_what_served_with_what_was_written_since(
    api: Api, new_name: NewName, other_encoder: str
) -> None:
    name = api.create(new_name(), schema=SCHEMA_MESSAGE).name
    api.upsert(name, seeded_documents(size=30))
    first = described(api, name)
    scores = {hit.document.id: hit.score for hit in api.search(name, "barata").hits}
    second = reindexed(api, name, encoder=other_encoder)
    api.upsert(name, {"late": {"text": "barata"}})
    api.delete(name, "d000")
    back = rolled_back(api, name)
    assert back.status.generation == first.status.generation
    assert back.encoder == first.encoder
    answer = api.search(name, "barata", page_size=100)
    again = {hit.document.id: hit.score for hit in answer.hits}
    assert "late" in again
    assert "d000" not in again
    assert set(again) >= set(scores) - {"d000"}
    assert consistent(api, name)
    assert described(api, name).status.previous.generation == second.status.generation
    assert rolled_back(api, name).status.generation == second.status.generation
    assert consistent(api, name)


def test_the_promotion_policy_outlives_a_reindex_and_its_rollback(
    api: Api, new_name: NewName, other_encoder: str
) -> None:
    policy = pb.PROMOTION_POLICY_DESPITE_CAUTIONS
    name = api.create(new_name(), promotion=policy).name
    assert reindexed(api, name, encoder=other_encoder).promotion == policy
    assert rolled_back(api, name).promotion == policy


def test_the_previous_generation_can_be_dropped(api: Api, new_name: NewName, folder: Path) -> None:
    name = api.create(new_name(), encoder="none").name
    request = pb.DropPreviousGenerationRequest(name=name)
    assert refused(api.collections.DropPreviousGeneration, request).code is StatusCode.FAILED_PRECONDITION
    reindexed(api, name, schema=SCHEMA_MESSAGE)
    dropped = api.collections.DropPreviousGeneration(request, timeout=CALL_S).collection
    assert not dropped.status.HasField("previous")
    rollback = pb.RollbackReindexRequest(name=name)
    assert refused(api.collections.RollbackReindex, rollback).code is StatusCode.FAILED_PRECONDITION


@pytest.mark.parametrize(
    ("settings", "code", "field"),
    [
        ({}, StatusCode.FAILED_PRECONDITION, ""),
        ({"encoder": "no/such-model"}, StatusCode.FAILED_PRECONDITION, ""),
        ({"encoder": "x" * 2_000}, StatusCode.INVALID_ARGUMENT, "encoder"),
        ({"schema": pb.Schema()}, StatusCode.INVALID_ARGUMENT, "schema.fields"),
        ({"passages": pb.PassagePolicy(max_tokens=5)}, StatusCode.INVALID_ARGUMENT, "passages.max_tokens"),
        ({"etag": '"99"', "encoder": "none"}, StatusCode.ABORTED, ""),
        ({"etag": "x", "encoder": "none"}, StatusCode.INVALID_ARGUMENT, "etag"),
    ],
)
def test_a_bad_reindex_is_refused_and_changes_nothing(
    api: Api, new_name: NewName, settings: dict[str, Any], code: StatusCode, field: str
) -> None:
    name = api.create(new_name(), schema=SCHEMA_MESSAGE).name
    before = described(api, name)
    problem = refused(api.collections.Reindex, pb.ReindexRequest(name=name, **settings))
    assert (problem.code, problem.field) == (code, field)
    assert settled(described(api, name)) == settled(before)


def test_there_is_nothing_to_pause_or_resume_without_a_reindex(api: Api, lexical: str) -> None:
    for call, request in (
        (api.collections.PauseReindex, pb.PauseReindexRequest),
        (api.collections.ResumeReindex, pb.ResumeReindexRequest),
    ):
        assert refused(call, request(name=lexical)).code is StatusCode.FAILED_PRECONDITION
        assert refused(call, request(name="nobody")).code is StatusCode.NOT_FOUND
