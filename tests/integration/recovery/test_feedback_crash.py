"""SIGKILL of the server while events come in: nothing acknowledged is lost, nothing is there twice."""

import asyncio
from pathlib import Path
from random import Random

import grpc
import pytest
from tests.integration.crash.server import CALL_S, Server, connected

from quarry.feedback.tables import read_feedback
from quarry.testing import make_tiny_encoder
from quarry.v1 import collection_service_pb2, document_service_pb2, search_service_pb2, types_pb2
from quarry.v1 import feedback_service_pb2 as pb
from quarry.v1.feedback_service_pb2_grpc import FeedbackServiceStub

ROUNDS = 3
CLIENTS = 8


async def prepared(server: Server) -> tuple[str, str]:
    """A token and a document's id."""
    async with connected(server) as client:
        collection = collection_service_pb2.Collection(name="own", encoder="none")
        create = collection_service_pb2.CreateCollectionRequest(collection=collection)
        await client.collections.CreateCollection(create, timeout=CALL_S)
        document = types_pb2.Document(id="a", fields={"text": types_pb2.FieldValue(string_value="words")})
        upsert = document_service_pb2.BatchUpsertDocumentsRequest(
            collection="own",
            documents=[document],
            wait=document_service_pb2.WRITE_VISIBILITY_SEARCHABLE,
        )
        await client.documents.BatchUpsertDocuments(upsert, timeout=CALL_S)
        search = search_service_pb2.SearchRequest(collection="own", query="words")
        answer = await client.search.Search(search, timeout=CALL_S)
        return answer.attribution_token, "a"


async def send_until_killed(
    server: Server, token: str, batches: list[list[str]], kill_after: int
) -> tuple[set[str], list[list[str]]]:
    """Ids that were acknowledged, and batches whose answer was lost."""
    acknowledged: set[str] = set()
    lost: list[list[str]] = []
    waiting = iter(batches)
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = FeedbackServiceStub(channel)

        async def client() -> None:
            for ids in waiting:
                events = [
                    pb.Event(event_id=id, type=pb.EVENT_TYPE_CLICK, attribution_token=token, document_id="a")
                    for id in ids
                ]
                request = pb.RecordEventsRequest(collection="own", events=events)
                try:
                    answer = await stub.RecordEvents(request, timeout=CALL_S)  # type: ignore[misc]
                except grpc.aio.AioRpcError:
                    lost.append(ids)
                    continue
                assert all(status.status.code == 0 for status in answer.statuses)
                acknowledged.update(ids)
                if len(acknowledged) >= kill_after and not server.ended:
                    await server.kill()

        await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return acknowledged, lost


@pytest.mark.timeout(300)
async def test_no_acknowledged_event_is_lost_or_doubled(tmp_path: Path) -> None:
    random = Random(7)
    encoder = make_tiny_encoder(tmp_path / "encoder", seed=1)
    data = tmp_path / "data"
    acknowledged: set[str] = set()
    server = await Server.start(data, encoder)
    token, _ = await prepared(server)
    lost: list[list[str]] = []
    for turn in range(ROUNDS):
        fresh = [[f"{turn}-{n}-{i}" for i in range(random.randint(1, 20))] for n in range(600)]
        before = len(acknowledged)
        found, lost = await send_until_killed(server, token, lost + fresh, random.randint(300, 1_500))
        acknowledged |= found
        assert len(acknowledged) > before
        assert lost
        await server.wait()
        server = await Server.start(data, encoder)
        assert acknowledged <= await asyncio.to_thread(stored, data)
    sent = {id for ids in lost for id in ids} | acknowledged
    found, still_lost = await send_until_killed(server, token, lost, 10**9)
    await server.stop()
    assert not still_lost
    assert stored(data) == acknowledged | found == sent


def stored(data: Path) -> set[str]:
    """Ids in the log, each of them once."""
    engine = read_feedback(data / "feedback.db")
    with engine.connect() as connection:
        ids = [id for (id,) in connection.exec_driver_sql("SELECT event_id FROM events")]
    engine.dispose()
    assert len(set(ids)) == len(ids)
    return set(ids)
