"""What a real server's log says of an open port, and of who changed what."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.integration.crash.server import CALL_S, NO_ENCODER, connected, serving

from quarry.v1 import collection_service_pb2, document_service_pb2, feedback_service_pb2, model_service_pb2
from quarry.v1.feedback_service_pb2_grpc import FeedbackServiceStub
from quarry.v1.model_service_pb2_grpc import ModelServiceStub

FORGED = (
    "a\n2026-01-01 00:00:00,000 INFO quarry_server.caller_log: DeleteCollection name='b' by ipv4:6.6.6.6:6"
)
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ quarry_server\.caller_log: (.*)")


def calls(log: str) -> list[str]:
    return [found.group(1) for line in log.splitlines() if (found := LINE.match(line))]


async def import_stream(name: str) -> AsyncIterator[model_service_pb2.ImportModelRequest]:
    yield model_service_pb2.ImportModelRequest(options={"collection": name, "source": "/etc"})


async def test_who_creates_deletes_imports_promotes_and_purges_is_in_the_log(tmp_path: Path) -> None:
    async with serving(tmp_path / "data", NO_ENCODER) as (server, client):
        async with grpc.aio.insecure_channel(server.address) as channel:
            models: Any = ModelServiceStub(channel)
            feedback: Any = FeedbackServiceStub(channel)
            create = collection_service_pb2.CreateCollectionRequest(
                collection={"name": "faq", "encoder": "none"}
            )
            await client.collections.CreateCollection(create, timeout=CALL_S)
            purge = feedback_service_pb2.PurgeFeedbackRequest(collection="faq", user_id="a-secret-person")
            await feedback.PurgeFeedback(purge, timeout=CALL_S)
            delete = document_service_pb2.DeleteDocumentsByFilterRequest(collection="faq")
            await answered(client.documents.DeleteDocumentsByFilter(delete, timeout=CALL_S))
            for version, by in (("faq@1", FORGED), ("faq@2", "")):
                promote = model_service_pb2.PromoteModelRequest(name=version, promoted_by=by)
                await answered(models.PromoteModel(promote, timeout=CALL_S))
            await answered(models.ImportModel(import_stream("faq"), timeout=CALL_S))
            for name in (FORGED, "faq"):
                request = collection_service_pb2.DeleteCollectionRequest(name=name)
                await answered(client.collections.DeleteCollection(request, timeout=CALL_S))
        await server.stop()
        log = server.log()
    said = calls(log)
    for begin in (
        "CreateCollection collection.name='faq' by ipv4:127.0.0.1:",
        "PurgeFeedback collection='faq' by ipv4:127.0.0.1:",
        "DeleteDocumentsByFilter collection='faq' by ipv4:127.0.0.1:",
        "PromoteModel name='faq@1' promoted_by=\"a\\n2026-01-01 ",
        "PromoteModel name='faq@2' promoted_by='' by ipv4:127.0.0.1:",
        "ImportModel options.collection='faq' options.source='/etc' by ipv4:127.0.0.1:",
        'DeleteCollection name="a\\n2026-01-01 ',
        "DeleteCollection name='faq' by ipv4:127.0.0.1:",
    ):
        assert any(line.startswith(begin) for line in said), (begin, said)
    assert any(line.endswith(" failed: MODEL_NOT_FOUND") for line in said)
    assert not any(line.startswith("DeleteCollection name='b'") for line in said)
    assert "a-secret-person" not in log


async def answered(call: Any) -> None:
    """Waits for an answer, of whatever kind."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        assert error.code() is not grpc.StatusCode.INTERNAL


@pytest.mark.parametrize(("host", "warned"), [("0.0.0.0", 1), ("127.0.0.1", 0)])  # noqa: S104
async def test_an_address_that_others_reach_leaves_a_warning_at_each_start(
    tmp_path: Path, host: str, warned: int
) -> None:
    for start in (1, 2):
        settings = {"HOST": host, "INSECURE": "true"}
        async with serving(tmp_path / "data", NO_ENCODER, **settings) as (server, _):
            async with connected(server) as client:
                request = collection_service_pb2.ListCollectionsRequest()
                await client.collections.ListCollections(request, timeout=CALL_S)
            await server.stop()
            assert server.log().count("not encrypted (--insecure)") == start * warned
