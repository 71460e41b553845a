"""The client for asyncio: the same deadlines, retries, errors and pages."""

import asyncio

import grpc
import pytest
from google.longrunning import operations_pb2

from quarry.client import AsyncClient, ClientClosedError, QuarryCallError
from quarry.client.upserts import Batch
from quarry.v1 import (
    collection_service_pb2,
    document_service_pb2,
    feedback_service_pb2,
    mining_service_pb2,
    model_service_pb2,
    types_pb2,
)
from quarry.v1.collection_service_pb2_grpc import CollectionServiceStub

GET = collection_service_pb2.GetCollectionRequest(name="faq")
WRITE = document_service_pb2.BatchUpsertDocumentsRequest(collection="faq")


async def test_stubs_pages_and_deadlines(server):
    async with AsyncClient(server.address, timeout_s=20) as quarry:
        assert (await quarry.collections.GetCollection(GET)).collection.name == "faq"
        request = collection_service_pb2.ListCollectionsRequest()
        pages = quarry.pages(quarry.collections.ListCollections, request)
        assert [c.name async for page in pages for c in page.collections] == ["c0", "c1", "c2"]
        await quarry.documents.BatchUpsertDocuments(WRITE, timeout=5)
    assert 10 < server.deadlines[0] < 21
    assert server.deadlines[-1] < 6
    assert len(server.peers) == 1


async def test_an_error_names_the_field_in_every_kind_of_call(server, wrong_field):
    server.status = wrong_field
    async with AsyncClient(server.address) as quarry:
        with pytest.raises(QuarryCallError) as unary:
            await quarry.collections.GetCollection(GET)
        answers = quarry.mining.ReadExamples(mining_service_pb2.ReadExamplesRequest(name="m"))
        with pytest.raises(QuarryCallError) as stream:
            _ = [answer async for answer in answers]
        call = quarry.documents.UpsertDocuments()
        with pytest.raises(QuarryCallError) as both:
            await call.read()
        with pytest.raises(QuarryCallError) as ended:
            await call.write(document_service_pb2.UpsertDocumentsRequest())
    for caught in (unary, stream, both, ended):
        assert caught.value.field == "documents[3].fields.price"
        assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_TYPE")


async def test_a_read_is_made_again_and_a_write_is_not(server):
    async with AsyncClient(server.address) as quarry:
        server.unavailable = 2
        assert (await quarry.collections.GetCollection(GET)).collection.name == "faq"
        server.unavailable = 1
        with pytest.raises(QuarryCallError) as caught:
            await quarry.documents.BatchUpsertDocuments(WRITE)
    assert caught.value.retryable
    assert (server.calls["GetCollection"], server.calls["BatchUpsertDocuments"]) == (3, 1)


async def test_a_closed_client_raises_an_error_that_says_so(server):
    async with AsyncClient(server.address) as quarry:
        pass
    await quarry.close()
    with pytest.raises(ClientClosedError, match="the client is closed"):
        await quarry.collections.GetCollection(GET)
    with pytest.raises(ClientClosedError):
        CollectionServiceStub(quarry.channel)
    with pytest.raises(ClientClosedError):
        await quarry.upsert("faq", [])


async def test_a_call_can_be_cancelled(server):
    async with AsyncClient(server.address) as quarry:
        server.silent = True
        call = quarry.documents.UpsertDocuments()
        reading = asyncio.create_task(call.read())
        await call.write(document_service_pb2.UpsertDocumentsRequest())
        call.cancel()
        with pytest.raises((asyncio.CancelledError, QuarryCallError)):
            await reading


async def test_closing_the_client_ends_a_call_with_an_error_and_cancels_no_task(server):
    quarry = AsyncClient(server.address)
    server.silent = True
    call = quarry.documents.UpsertDocuments()
    reading = asyncio.create_task(call.read())
    await call.write(document_service_pb2.UpsertDocumentsRequest())
    await quarry.close()
    with pytest.raises(ClientClosedError):
        await reading
    assert not reading.cancelled()


async def test_both_kinds_of_sources_are_taken(server):
    async def pieces():
        yield b"one "
        yield b"two"

    config = feedback_service_pb2.ImportEventsConfig(collection="faq")
    async with AsyncClient(server.address) as quarry:
        for source in (pieces(), [b"one ", b"two"]):
            assert (await quarry.import_events(config, source)).name == "operations/1"
            assert server.received == b"one two"
        batch = Batch("r", [types_pb2.Document(id="a")])
        assert [sent async for sent, _ in quarry.upsert_batches("faq", [batch])] == [batch]


async def test_operations_and_files(server, tmp_path):
    server.pending, server.outcome = 2, mining_service_pb2.MiningSet(name="m1")
    seen = []
    async with AsyncClient(server.address) as quarry:
        operation = operations_pb2.Operation(name="o")
        made = await quarry.wait(operation, mining_service_pb2.MiningSet, lambda o: seen.append(o.done))
        assert (made.name, seen) == ("m1", [False, False, True])
        await quarry.cancel(operation)
        (tmp_path / "e.parquet").write_bytes(b"x" * 2_500_000)
        assert await quarry.upload_examples(tmp_path / "e.parquet") == "upload-1"
        assert server.received == b"x" * 2_500_000
        assert await quarry.read_examples("m1", tmp_path / "out") == 7
    assert (tmp_path / "out").read_bytes() == b"one two"


async def test_a_source_that_fails_is_the_error_and_not_a_cancelled_call(server, tmp_path):
    async with AsyncClient(server.address) as quarry:
        with pytest.raises(FileNotFoundError):
            await quarry.upload_examples(tmp_path / "nothing.parquet")
        with pytest.raises(FileNotFoundError):
            await quarry.import_model(model_service_pb2.ImportOptions(), tmp_path / "nothing.tar")
