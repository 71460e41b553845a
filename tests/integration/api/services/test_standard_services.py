"""Operations, health, reflection and server info."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from google.longrunning import operations_pb2
from google.protobuf import descriptor_pb2, descriptor_pool
from google.rpc import code_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from tests.integration.api.helpers.served import CALL_S, Api, checked_status, refused

from quarry import filters, schema
from quarry.config import MAX_MESSAGE_BYTES
from quarry.documents.tables import open_database
from quarry.documents.writer import GroupCommitWriter
from quarry.jobs.operations import Operations, SetMetadata
from quarry.ranking import ranges
from quarry.v1 import collection_service_pb2, document_service_pb2, search_service_pb2, server_service_pb2
from quarry_server.common.operations import describe_error, to_operation_message
from quarry_server.startup.services import SERVICES

SERVING = health_pb2.HealthCheckResponse.SERVING


def repaired(api: Api, collection: str) -> operations_pb2.Operation:
    request = collection_service_pb2.RepairCollectionRequest(name=collection)
    return api.collections.RepairCollection(request, timeout=CALL_S)


def waited(api: Api, name: str) -> operations_pb2.Operation:
    request = operations_pb2.WaitOperationRequest(name=name)
    return api.operations.WaitOperation(request, timeout=CALL_S)


def test_a_repair_ends_with_what_it_found(api: Api, lexical: str) -> None:
    api.upsert(lexical, {"a": {"text": "word"}, "b": {"text": "word"}})
    started = repaired(api, lexical)
    assert started.name.startswith("operations/")
    metadata = collection_service_pb2.RepairCollectionMetadata()
    assert started.metadata.Unpack(metadata)
    assert metadata.collection == lexical
    done = waited(api, started.name)
    assert done.done
    response = collection_service_pb2.RepairCollectionResponse()
    assert done.response.Unpack(response)
    assert response.found.consistent
    assert [arm.documents for arm in response.after.arms] == [2]
    assert done.metadata.Unpack(metadata)
    assert metadata.progress == 1
    get = operations_pb2.GetOperationRequest(name=started.name)
    assert api.operations.GetOperation(get, timeout=CALL_S) == done


def test_operations_are_listed_in_pages_and_can_be_forgotten(api: Api, lexical: str) -> None:
    names = {repaired(api, lexical).name for _ in range(3)}
    for name in names:
        waited(api, name)
        api.operations.CancelOperation(operations_pb2.CancelOperationRequest(name=name), timeout=CALL_S)
        assert waited(api, name).HasField("response")
    found: list[str] = []
    request = operations_pb2.ListOperationsRequest(page_size=2)
    while True:
        answer = api.operations.ListOperations(request, timeout=CALL_S)
        found += [operation.name for operation in answer.operations]
        assert not any(operation.HasField("response") for operation in answer.operations)
        assert all(operation.HasField("metadata") for operation in answer.operations)
        if not answer.next_page_token:
            break
        request.page_token = answer.next_page_token
    assert found == sorted(set(found))
    assert names <= set(found)
    for name in names:
        api.operations.DeleteOperation(operations_pb2.DeleteOperationRequest(name=name), timeout=CALL_S)
        failed = refused(api.operations.GetOperation, operations_pb2.GetOperationRequest(name=name))
        assert failed.code is grpc.StatusCode.NOT_FOUND


def test_what_operations_cannot_do_is_named(api: Api) -> None:
    for request, field in (
        (operations_pb2.ListOperationsRequest(filter="done=true"), "filter"),
        (operations_pb2.ListOperationsRequest(name="others"), "name"),
        (operations_pb2.ListOperationsRequest(page_token="".join("AA")), "page_token"),
    ):
        assert refused(api.operations.ListOperations, request).field == field
    assert refused(api.operations.GetOperation, operations_pb2.GetOperationRequest(name="x")).field == "name"


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Callable[[], Operations]]:
    engine = open_database(tmp_path / "jobs.db")
    writer = GroupCommitWriter(engine)
    yield lambda: Operations(engine, writer, describe_error)
    writer.close()
    engine.dispose()


async def test_a_running_operation_is_cancelled_and_then_forgotten(jobs: Callable[[], Operations]) -> None:
    operations, begun = jobs(), asyncio.Event()

    async def endless(report: SetMetadata) -> bytes:
        begun.set()
        await asyncio.Event().wait()
        return b""

    started = await operations.start("test", b"", endless)
    await begun.wait()
    assert not (await operations.wait(started.name, 0.01)).done
    with pytest.raises(Exception, match="still running"):
        await operations.forget(started.name)
    await operations.cancel(started.name)
    done = to_operation_message(await operations.wait(started.name, CALL_S))
    assert done.done
    assert done.error.code
    assert done.error.code not in (code_pb2.UNKNOWN, code_pb2.INTERNAL)
    await operations.forget(started.name)


async def test_what_ran_when_a_server_ended_has_failed_after_the_next_start(
    jobs: Callable[[], Operations],
) -> None:
    before, begun = jobs(), asyncio.Event()

    async def endless(report: SetMetadata) -> bytes:
        begun.set()
        await asyncio.Event().wait()
        return b""

    started = await before.start("test", b"", endless)
    await begun.wait()
    after = jobs()
    await after.recover()
    done = to_operation_message(await after.get(started.name))
    assert done.done
    assert checked_status(done.error, grpc.StatusCode.UNAVAILABLE)
    await before.close()


@pytest.mark.parametrize("service", ["", *SERVICES])
def test_every_service_is_healthy(api: Api, service: str) -> None:
    answer = api.health.Check(health_pb2.HealthCheckRequest(service=service), timeout=CALL_S)
    assert answer.status == SERVING
    watch = api.health.Watch(health_pb2.HealthCheckRequest(service=service), timeout=CALL_S)
    assert next(iter(watch)).status == SERVING
    watch.cancel()


def test_the_health_of_what_is_not_there_is_not_found(api: Api) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        api.health.Check(health_pb2.HealthCheckRequest(service="quarry.v1.Other"), timeout=CALL_S)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def reflected(api: Api, **request: str) -> reflection_pb2.ServerReflectionResponse:
    asked = iter([reflection_pb2.ServerReflectionRequest(**request)])
    (answer,) = api.reflection.ServerReflectionInfo(asked, timeout=CALL_S)
    return answer


def test_reflection_describes_every_service_down_to_its_last_import(api: Api) -> None:
    listed = {s.name for s in reflected(api, list_services="").list_services_response.service}
    versions = {f"grpc.reflection.{version}.ServerReflection" for version in ("v1", "v1alpha")}
    assert listed == {*SERVICES, "grpc.health.v1.Health", *versions}
    for service in listed:
        pool = descriptor_pool.DescriptorPool()
        _add(api, pool, set(), reflected(api, file_containing_symbol=service))
        assert pool.FindServiceByName(service).methods


def _add(
    api: Api,
    pool: descriptor_pool.DescriptorPool,
    known: set[str],
    answer: reflection_pb2.ServerReflectionResponse,
) -> None:
    """Adds files to the pool, their imports first, as an explorer does."""
    files = answer.file_descriptor_response.file_descriptor_proto
    assert files, answer
    for data in files:
        file = descriptor_pb2.FileDescriptorProto.FromString(data)
        for name in file.dependency:
            if name not in known:
                _add(api, pool, known, reflected(api, file_by_filename=name))
        if file.name not in known:
            known.add(file.name)
            pool.Add(file)


def test_published_limits_are_the_enforced_ones(api: Api, lexical: str, encoder_folder: Path) -> None:
    info = api.server.GetServerInfo(server_service_pb2.GetServerInfoRequest(), timeout=CALL_S)
    limits = info.limits
    assert info.version
    assert info.default_encoder == str(encoder_folder)
    assert limits.max_message_bytes == MAX_MESSAGE_BYTES
    assert limits.max_document_bytes == schema.MAX_DOCUMENT_BYTES
    assert limits.max_filter_levels == filters.MAX_LEVELS
    assert limits.max_depth == ranges.ARM_DEPTH.most
    assert limits.page_lifetime.seconds == 600
    assert limits.request_id_lifetime.seconds == 24 * 3_600

    def status(document: dict[str, object]) -> int:
        request = document_service_pb2.BatchUpsertDocumentsRequest(collection=lexical, documents=[document])
        return api.documents.BatchUpsertDocuments(request, timeout=CALL_S).statuses[0].status.code

    def several(count: int) -> dict[str, object]:
        return {"list_value": {"values": [{"boolean_value": True}] * count}}

    def large(size: int) -> dict[str, object]:
        return {"id": "a", "fields": {"text": {"string_value": "x" * size}}}

    within = [
        {"id": "i" * limits.max_id_bytes},
        {"id": "a", "fields": {"many": several(limits.max_values_per_field)}},
        {"id": "a", "fields": {f"f{n}": {"integer_value": n} for n in range(limits.max_fields)}},
        large(limits.max_document_bytes - 100),
    ]
    beyond = [
        {"id": "i" * (limits.max_id_bytes + 1)},
        {"id": "a", "fields": {"many": several(limits.max_values_per_field + 1)}},
        {"id": "a", "fields": {f"f{n}": {"integer_value": n} for n in range(limits.max_fields + 1)}},
        large(limits.max_document_bytes + 1),
    ]
    assert [status(document) for document in within] == [0] * 4
    assert [status(document) for document in beyond] == [code_pb2.INVALID_ARGUMENT] * 4

    search = search_service_pb2.SearchRequest(collection=lexical, query="x" * limits.max_query_bytes)
    api.searches.Search(search, timeout=CALL_S)
    search.query += "x"
    assert refused(api.searches.Search, search).field == "query"
    retrieve = search_service_pb2.RetrieveRequest(
        collection=lexical, queries=[{"text": "x"}] * limits.max_retrieve_queries
    )
    assert len(api.searches.Retrieve(retrieve, timeout=CALL_S).results) == limits.max_retrieve_queries
    retrieve.queries.add(text="x")
    assert refused(api.searches.Retrieve, retrieve).field == "queries"


def test_filters_may_have_as_many_conditions_as_published(api: Api, new_name: Callable[[], str]) -> None:
    fields = {"fields": [{"name": "tag", "type": collection_service_pb2.SCHEMA_FIELD_TYPE_KEYWORD}]}
    name = api.create(new_name(), schema=fields, encoder="none").name
    info = api.server.GetServerInfo(server_service_pb2.GetServerInfoRequest(), timeout=CALL_S)
    values = [{"string_value": "k" * info.limits.max_keyword_bytes}] * info.limits.max_filter_conditions
    request = search_service_pb2.SearchRequest(
        collection=name, filter={"one_of": {"field": "tag", "values": values}}
    )
    api.searches.Search(request, timeout=CALL_S)
    request.filter.one_of.values.add(string_value="k")
    assert refused(api.searches.Search, request).field == "filter"
