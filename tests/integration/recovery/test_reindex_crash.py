"""A server that is killed while it reindexes goes on with it, and no crash shows half a switch."""

import shutil
from pathlib import Path
from random import Random

import grpc
import pytest
import pytest_asyncio
from google.longrunning import operations_pb2
from tests.integration.crash.oracle import document_of
from tests.integration.crash.server import CALL_S, Client, Server, connected, serving

from quarry.storage.faults import REINDEX_POINTS
from quarry.testing import SYLLABLES, make_tiny_encoder
from quarry.v1 import collection_service_pb2 as pb
from quarry.v1 import document_service_pb2 as documents_pb
from quarry.v1 import search_service_pb2 as search_pb

NAME = "things"
DOCUMENTS = 1_500
TEXT_FIELDS = [pb.SchemaField(name="text", type=pb.SCHEMA_FIELD_TYPE_TEXT)]


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What the collection has, and what it will have."""
    folder = tmp_path_factory.mktemp("encoders")
    return make_tiny_encoder(folder / "one", seed=1), make_tiny_encoder(folder / "two", seed=2)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def before(tmp_path_factory: pytest.TempPathFactory, encoders: tuple[Path, Path]) -> tuple[Path, str]:
    """Data of a server that was stopped in good order, and the generation that served."""
    data = tmp_path_factory.mktemp("before") / "data"
    async with serving(data, encoders[0]) as (server, client):
        collection = pb.Collection(name=NAME, schema=pb.Schema(fields=TEXT_FIELDS))
        await client.collections.CreateCollection(pb.CreateCollectionRequest(collection=collection))
        await upsert(client, range(DOCUMENTS))
        generation = (await client.read_collection(NAME)).status.generation
        await server.stop()
    return data, generation


@pytest.fixture
def filled(before: tuple[Path, str]) -> str:
    """The generation that serves in ``data``."""
    return before[1]


@pytest.fixture
def data(before: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy of the data, to be worked on."""
    return Path(shutil.copytree(before[0], tmp_path / "data"))


async def upsert(client: Client, numbers: range) -> None:
    words = ["".join(Random(n).choices(SYLLABLES, k=3)) for n in range(100)]
    documents = [
        document_of(f"{n}", {"text": f"number{n} {' '.join(Random(n).choices(words, k=30))}"})
        for n in numbers
    ]
    request = documents_pb.BatchUpsertDocumentsRequest(
        collection=NAME, documents=documents, wait=documents_pb.WRITE_VISIBILITY_SEARCHABLE
    )
    answer = await client.documents.BatchUpsertDocuments(request, timeout=CALL_S)
    assert answer.result.reached == documents_pb.WRITE_VISIBILITY_SEARCHABLE


async def reindex(client: Client, encoder: Path) -> operations_pb2.Operation:
    return await client.collections.Reindex(
        pb.ReindexRequest(name=NAME, encoder=str(encoder)), timeout=CALL_S
    )


async def finished(client: Client, name: str) -> operations_pb2.Operation:
    request = operations_pb2.WaitOperationRequest(name=name)
    request.timeout.FromSeconds(60)
    done = await client.operations.WaitOperation(request, timeout=CALL_S)
    assert done.done, done
    return done


async def assert_reindexed(client: Client, encoder: Path, count: int = DOCUMENTS) -> None:
    collection = await client.read_collection(NAME)
    assert collection.encoder == str(encoder)
    assert not collection.status.HasField("reindex")
    found = await client.consistency(NAME)
    assert found.consistent
    assert [arm.documents for arm in found.arms] == [count, count]
    request = search_pb.SearchRequest(collection=NAME, query="number7", require_complete=True)
    answer = await client.search.Search(request, timeout=CALL_S)
    assert answer.hits[0].document.id == "7"
    assert answer.generation == collection.status.generation


async def test_a_killed_server_goes_on_with_its_reindex(
    data: Path, encoders: tuple[Path, Path], filled: str
) -> None:
    async with serving(data, encoders[0]) as (server, client):
        operation = await reindex(client, encoders[1])
        building = (await client.read_collection(NAME)).status.reindex.generation
        assert building
        await server.kill()
    async with serving(data, encoders[0]) as (server, client):
        done = await finished(client, operation.name)
        assert not done.HasField("error"), done.error
        await assert_reindexed(client, encoders[1])
        status = (await client.read_collection(NAME)).status
        assert (status.generation, status.previous.generation) == (building, filled)
        await upsert(client, range(DOCUMENTS, DOCUMENTS + 5))
        await server.stop()
    async with serving(data, encoders[0]) as (server, client):
        await assert_reindexed(client, encoders[1], DOCUMENTS + 5)
        request = pb.RollbackReindexRequest(name=NAME)
        rollback = await client.collections.RollbackReindex(request, timeout=CALL_S)
        assert not (await finished(client, rollback.name)).HasField("error")
        await assert_reindexed(client, encoders[0], DOCUMENTS + 5)


async def test_a_paused_reindex_stays_paused_over_a_crash_and_a_stop(
    data: Path, encoders: tuple[Path, Path], filled: str
) -> None:
    async with serving(data, encoders[0]) as (server, client):
        operation = await reindex(client, encoders[1])
        await client.collections.PauseReindex(pb.PauseReindexRequest(name=NAME), timeout=CALL_S)
        await server.kill()
    async with serving(data, encoders[0]) as (server, client):
        status = (await client.read_collection(NAME)).status
        assert status.reindex.progress.state == pb.REINDEX_STATE_PAUSED
        assert status.reindex.operation == operation.name
        assert status.generation == filled
        await server.stop()
    async with serving(data, encoders[0]) as (server, client):
        request = operations_pb2.GetOperationRequest(name=operation.name)
        assert not (await client.operations.GetOperation(request, timeout=CALL_S)).done
        await client.collections.ResumeReindex(pb.ResumeReindexRequest(name=NAME), timeout=CALL_S)
        assert not (await finished(client, operation.name)).HasField("error")
        await assert_reindexed(client, encoders[1])


@pytest.mark.parametrize("point", ["bm25-committed", *REINDEX_POINTS])
async def test_a_crash_at_a_step_of_the_reindex_loses_nothing(
    data: Path, encoders: tuple[Path, Path], filled: str, point: str
) -> None:
    server = await Server.start(data, encoders[0], f"{point}:1:{data.with_name('fault')}")
    async with connected(server) as client:
        with pytest.raises(grpc.aio.AioRpcError):
            await finished(client, (await reindex(client, encoders[1])).name)
    assert await server.wait() == -9
    async with serving(data, encoders[0]) as (server, client):
        status = (await client.read_collection(NAME)).status
        if status.HasField("reindex"):
            assert not (await finished(client, status.reindex.operation)).HasField("error")
        await assert_reindexed(client, encoders[1])
        folders = {entry.name for entry in (data / "collections" / "1").iterdir()}
        assert len(folders) == 2
        assert filled in folders
