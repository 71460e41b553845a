"""A real server that is asked to stop: what clients of it see, and how long it takes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.integration.crash.server import CALL_S, Server, connected

from quarry.config import Settings
from quarry.v1 import collection_service_pb2, document_service_pb2, feedback_service_pb2
from quarry.v1.feedback_service_pb2_grpc import FeedbackServiceStub
from quarry_server.transport.drain import ANSWER_S, QUIET_S

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
DEFAULT_NOTICE_S = Settings().drain_notice_s
DRAIN_S = 40.0
"""Long: what holds a stop holds it for so long."""
SLACK_S = 8.0
"""For closing the engines, on a machine that is busy."""
NO_ENCODER = Path("none")


@contextlib.asynccontextmanager
async def server_with(data: Path, **settings: str) -> AsyncIterator[Server]:
    server = await Server.start(data, NO_ENCODER, **settings)
    try:
        yield server
    finally:
        if not server.ended:
            await server.kill()


def stop(server: Server) -> "asyncio.Task[int]":
    server.terminate()
    return asyncio.create_task(server.wait())


async def list_collections(collections: Any) -> None:
    await collections.ListCollections(collection_service_pb2.ListCollectionsRequest(), timeout=CALL_S)


async def test_a_stop_is_announced_by_default_before_calls_are_refused(tmp_path: Path) -> None:
    settings = {"DRAIN_NOTICE_S": str(DEFAULT_NOTICE_S), "DRAIN_S": str(DRAIN_S)}
    loop = asyncio.get_running_loop()
    async with server_with(tmp_path / "data", **settings) as server, connected(server) as client:
        async with grpc.aio.insecure_channel(server.address) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == SERVING
            begun = loop.time()
            ended = stop(server)
            assert (await watch.read()).status == NOT_SERVING
            assert loop.time() - begun < DEFAULT_NOTICE_S
            answered = 0
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                while True:
                    await list_collections(client.collections)
                    answered += 1
                    await asyncio.sleep(0.05)
            assert refused.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
            assert answered
            assert loop.time() - begun >= DEFAULT_NOTICE_S
            assert await watch.code() is grpc.StatusCode.UNAVAILABLE
        assert await ended == 0
        assert loop.time() - begun < DEFAULT_NOTICE_S + QUIET_S + ANSWER_S + SLACK_S


async def test_idle_streams_and_watches_do_not_hold_a_stop(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with server_with(tmp_path / "data", DRAIN_S=str(DRAIN_S)) as server, connected(server) as client:
        request = collection_service_pb2.CreateCollectionRequest(collection={"name": "a", "encoder": "none"})
        await client.collections.CreateCollection(request, timeout=CALL_S)
        async with grpc.aio.insecure_channel(server.address) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == SERVING
            upserts = client.documents.UpsertDocuments(timeout=CALL_S)
            config = document_service_pb2.UpsertDocumentsConfig(collection="a")
            await upserts.write(document_service_pb2.UpsertDocumentsRequest(config=config))
            batch = document_service_pb2.UpsertDocumentsBatch(documents=[{"id": "d"}])
            await upserts.write(document_service_pb2.UpsertDocumentsRequest(batch=batch))
            assert not (await upserts.read()).statuses[0].status.code
            events: Any = FeedbackServiceStub(channel).StreamEvents(timeout=CALL_S)
            opening = feedback_service_pb2.StreamEventsConfig(collection="a")
            await events.write(feedback_service_pb2.StreamEventsRequest(config=opening))
            await events.write(feedback_service_pb2.StreamEventsRequest(batch={}))
            await events.read()
            begun = loop.time()
            ended = stop(server)
            assert (await watch.read()).status == NOT_SERVING
            for stream in (upserts, events):
                assert await stream.code() is grpc.StatusCode.UNAVAILABLE
                assert await stream.details() == "the server is stopping"
            assert await ended == 0
        assert loop.time() - begun < QUIET_S + ANSWER_S + SLACK_S
        assert "Traceback" not in server.log()


async def test_a_write_that_has_begun_is_finished(tmp_path: Path) -> None:
    """A batch that takes its time is answered, although the server was asked to stop meanwhile."""
    documents = [{"id": f"d{n}", "fields": {"text": {"string_value": f"word {n}"}}} for n in range(10_000)]
    async with server_with(tmp_path / "data", DRAIN_S=str(DRAIN_S)) as server, connected(server) as client:
        request = collection_service_pb2.CreateCollectionRequest(collection={"name": "a", "encoder": "none"})
        await client.collections.CreateCollection(request, timeout=CALL_S)
        upserts = client.documents.UpsertDocuments(timeout=CALL_S)
        config = document_service_pb2.UpsertDocumentsConfig(collection="a")
        await upserts.write(document_service_pb2.UpsertDocumentsRequest(config=config))
        batch = document_service_pb2.UpsertDocumentsBatch(documents=documents)
        await upserts.write(document_service_pb2.UpsertDocumentsRequest(batch=batch))
        await upserts.write(document_service_pb2.UpsertDocumentsRequest(batch=batch))
        assert len((await upserts.read()).statuses) == len(documents)
        ended = stop(server)
        assert len((await upserts.read()).statuses) == len(documents)
        assert await upserts.code() is grpc.StatusCode.UNAVAILABLE
        assert await ended == 0
