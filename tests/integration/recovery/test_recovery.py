"""What is done to a data folder from outside, and how the next start, or the running server, answers."""

import json
import os
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from random import Random

import grpc
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from tests.integration.crash.checks import describe, listed
from tests.integration.crash.oracle import document_of
from tests.integration.crash.server import (
    CALL_S,
    Client,
    Server,
    ServerEnded,
    eventually,
    serving,
)
from tests.integration.recovery.small_disk import fill, small_disk

from quarry.testing import make_tiny_encoder
from quarry.v1 import collection_service_pb2 as collections_pb
from quarry.v1 import document_service_pb2 as documents_pb
from quarry.v1 import search_service_pb2 as search_pb

THINGS = "things"
DOCUMENTS = 150
SEARCHABLE = documents_pb.WRITE_VISIBILITY_SEARCHABLE
COLOURS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_encoder(tmp_path_factory.mktemp("encoder"), seed=1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def filled(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """The folder of a server that was stopped in good order after it had indexed some documents."""
    data = tmp_path_factory.mktemp("filled") / "data"
    async with serving(data, encoder) as (server, client):
        await create(client, encoder)
        await upsert(client, range(DOCUMENTS))
        await server.stop()
    return data


@pytest.fixture
def data(filled: Path, tmp_path: Path) -> Path:
    """A folder with as many documents as ``DOCUMENTS``, to be damaged."""
    return Path(shutil.copytree(filled, tmp_path / "data"))


async def create(client: Client, encoder: Path) -> None:
    fields = [
        collections_pb.SchemaField(name="text", type=collections_pb.SCHEMA_FIELD_TYPE_TEXT),
        collections_pb.SchemaField(name="colour", type=collections_pb.SCHEMA_FIELD_TYPE_KEYWORD),
    ]
    collection = collections_pb.Collection(
        name=THINGS, encoder=str(encoder), schema=collections_pb.Schema(fields=fields)
    )
    request = collections_pb.CreateCollectionRequest(collection=collection)
    await client.collections.CreateCollection(request, timeout=CALL_S)


async def upsert(
    client: Client, numbers: Sequence[int], word: str = "first", wait: int = SEARCHABLE
) -> documents_pb.BatchUpsertDocumentsResponse:
    documents = [
        document_of(f"{n:04}", {"text": f"thing thing{n} {word} {COLOURS[n % 3]}", "colour": COLOURS[n % 3]})
        for n in numbers
    ]
    request = documents_pb.BatchUpsertDocumentsRequest(collection=THINGS, documents=documents, wait=wait)
    answer = await client.documents.BatchUpsertDocuments(request, timeout=CALL_S)
    assert not any(status.status.code for status in answer.statuses)
    assert wait != SEARCHABLE or answer.result.reached == SEARCHABLE
    return answer


async def search(client: Client, query: str = "thing", **settings: bool) -> search_pb.SearchResponse:
    arms = [search_pb.Arm(name=arm, depth=1_000) for arm in ("bm25", "dense")]
    request = search_pb.SearchRequest(collection=THINGS, query=query, page_size=500, arms=arms, **settings)
    return await client.search.Search(request, timeout=CALL_S)


async def refusal(call: AsyncIterator[object] | object) -> tuple[grpc.StatusCode, str, str]:
    """Code, reason and message of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    status = rpc_status.from_call(caught.value)
    assert isinstance(status, status_pb2.Status)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return caught.value.code(), info.reason, status.message


async def assert_whole(client: Client, count: int = DOCUMENTS) -> None:
    """Both arms equal the log, and searches find all of it, in full."""
    found = await client.consistency(THINGS)
    assert found.consistent, describe(found)
    assert [arm.documents for arm in found.arms] == [count, count]
    answer = await eventually(lambda: search(client, require_complete=True))
    assert len(answer.hits) == count
    collection = await client.read_collection(THINGS)
    assert collection.status.document_count == count
    assert collection.status.read_only_reason == ""
    assert [arm.error for arm in collection.status.arms] == ["", ""]


async def started_whole(data: Path, encoder: Path, count: int = DOCUMENTS) -> str:
    """Starts a server that must find all documents and take new ones; what it logged."""
    async with serving(data, encoder) as (server, client):
        await assert_whole(client, count)
        await upsert(client, range(count, count + 10))
        await assert_whole(client, count + 10)
        await server.stop()
        return server.log()


def generation(data: Path) -> Path:
    (folder,) = (data / "collections").glob("*/*")
    return folder


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def garble(path: Path) -> None:
    path.write_bytes(Random(1).randbytes(path.stat().st_size))


# indexes


@pytest.mark.parametrize("arm", ["bm25", "dense"])
async def test_a_deleted_index_is_made_again_from_the_log(data: Path, encoder: Path, arm: str) -> None:
    shutil.rmtree(generation(data) / arm)
    await started_whole(data, encoder)


@pytest.mark.parametrize(
    ("damage", "file"),
    [(truncate, "meta.json"), (garble, "meta.json"), (truncate, "*.term"), (garble, "*.store")],
)
async def test_a_damaged_bm25_index_is_set_aside_and_made_again(
    data: Path, encoder: Path, damage: Callable[[Path], None], file: str
) -> None:
    damage(next((generation(data) / "bm25").glob(file)))
    log = await started_whole(data, encoder)
    assert "the index bm25 is set aside and rebuilt from the log" in log
    assert len(list(generation(data).glob("bm25.damaged-*"))) == 1


@pytest.mark.parametrize(
    ("damage", "file"),
    [
        (garble, "shard-*/edge_config.json"),
        (truncate, "shard-*/segments/*/segment.json"),
        (garble, "shard-*/segments/*/mutable_id_tracker.mappings"),
        (garble, "CURRENT"),
    ],
)
async def test_a_damaged_dense_shard_is_set_aside_and_made_again(
    data: Path, encoder: Path, damage: Callable[[Path], None], file: str
) -> None:
    damage(next((generation(data) / "dense").glob(file)))
    await started_whole(data, encoder)
    kept = list((generation(data) / "dense").glob("damaged-*"))
    assert len(kept) == (0 if file == "CURRENT" else 1)


async def test_a_dense_shard_that_opens_with_points_missing_is_made_whole(data: Path, encoder: Path) -> None:
    """The engine takes a shortened list of points for one that a crash cut off, and says nothing."""
    truncate(next((generation(data) / "dense").glob("shard-*/segments/*/mutable_id_tracker.mappings")))
    await started_whole(data, encoder)


@pytest.mark.parametrize("damage", [truncate, garble])
async def test_a_damaged_position_costs_a_replay_and_no_more(
    data: Path, encoder: Path, damage: Callable[[Path], None]
) -> None:
    damage(generation(data) / "dense" / "position.json")
    await started_whole(data, encoder)


async def test_a_damaged_vector_cache_is_begun_anew(data: Path, encoder: Path) -> None:
    garble(data / "vectors.db")
    shutil.rmtree(generation(data) / "dense")  # so that every vector is wanted
    log = await started_whole(data, encoder)
    assert "begun anew" in log


async def test_a_deleted_vector_cache_is_made_again(data: Path, encoder: Path) -> None:
    (data / "vectors.db").unlink()
    shutil.rmtree(generation(data) / "dense")
    await started_whole(data, encoder)


async def test_a_bm25_index_that_vanishes_while_the_server_runs_comes_back_at_the_next_start(
    data: Path, encoder: Path
) -> None:
    async with serving(data, encoder) as (_, client):
        shutil.rmtree(generation(data) / "bm25")
        await upsert(client, [DOCUMENTS], wait=documents_pb.WRITE_VISIBILITY_LOGGED)
        answer = await search(client)
        assert len(answer.hits) >= DOCUMENTS
    await started_whole(data, encoder, DOCUMENTS + 1)


# the server's folder


async def test_a_second_server_on_the_folder_is_refused(data: Path, encoder: Path, tmp_path: Path) -> None:
    async with serving(data, encoder) as (_, client):
        with pytest.raises(ServerEnded) as ended:
            await Server.start(data, encoder)
        assert ended.value.status == 1
        last = ended.value.said.strip().splitlines()[-1]
        assert "another server is using" in ended.value.said
        assert "Traceback" not in last
        await assert_whole(client)


async def test_indexes_without_their_log_are_not_served(data: Path, encoder: Path) -> None:
    (data / "documents.db").unlink()
    with pytest.raises(ServerEnded) as ended:
        await Server.start(data, encoder)
    assert ended.value.status == 1
    assert (
        "documents.db is not there, but its folder holds feedback.db, collections, vectors.db"
        in ended.value.said
    )
    assert len(list((data / "collections").glob("*/*"))) == 1


async def test_a_log_that_is_no_database_is_not_served(data: Path, encoder: Path) -> None:
    garble(data / "documents.db")
    with pytest.raises(ServerEnded) as ended:
        await Server.start(data, encoder)
    assert ended.value.status == 1
    assert "documents.db" in ended.value.said
    assert "Traceback" not in ended.value.said
    assert len(list((data / "collections").glob("*/*"))) == 1


async def test_an_older_log_makes_the_collection_read_only_until_it_is_accepted(
    data: Path, encoder: Path, filled: Path
) -> None:
    async with serving(data, encoder) as (server, client):
        await upsert(client, range(50, DOCUMENTS + 50), "second")
        await server.stop()
    shutil.copy(filled / "documents.db", data / "documents.db")  # a backup, put back
    async with serving(data, encoder) as (server, client):
        code, reason, message = await refusal(upsert(client, [1]))
        assert (code, reason) == (grpc.StatusCode.DATA_LOSS, "DATA_LOSS")
        assert "part of the log is lost" in message
        assert (await refusal(client.consistency(THINGS)))[0] is grpc.StatusCode.DATA_LOSS
        status = (await client.read_collection(THINGS)).status
        assert "part of the log is lost" in status.read_only_reason
        assert all("part of the log is lost" in arm.error for arm in status.arms)
        answer = await search(client)
        assert len(answer.hits) == DOCUMENTS  # only what the log still has, and said to be in doubt
        assert answer.degraded
        assert len(await listed(client, THINGS)) == DOCUMENTS

        repaired = await client.repair(THINGS)
        assert repaired.after.consistent
        await assert_whole(client)
        await upsert(client, [DOCUMENTS], "third")
        await assert_whole(client, DOCUMENTS + 1)
        await server.stop()
    await started_whole(data, encoder, DOCUMENTS + 1)


async def test_a_repair_makes_an_arm_equal_to_the_log_again(data: Path, encoder: Path, filled: Path) -> None:
    """The dense arm is put back to an older state under its present position."""
    async with serving(data, encoder) as (server, client):
        await upsert(client, range(100, DOCUMENTS), "second")
        await upsert(client, range(DOCUMENTS, DOCUMENTS + 20))
        await server.stop()
    dense = generation(data) / "dense"
    position = (dense / "position.json").read_text()
    shutil.rmtree(dense)
    shutil.copytree(generation(filled) / "dense", dense)
    (dense / "position.json").write_text(position)
    async with serving(data, encoder) as (server, client):
        repaired = await client.repair(THINGS)
        assert repaired.after.consistent
        await assert_whole(client, DOCUMENTS + 20)
        before = json.loads((dense / "position.json").read_text())["sequence"]
        assert before == (await client.read_collection(THINGS)).status.last_sequence
        await server.stop()
    await started_whole(data, encoder, DOCUMENTS + 20)


# a full disk


async def test_a_full_disk_refuses_writes_answers_reads_and_is_forgotten_when_there_is_space(
    encoder: Path, tmp_path: Path, filled: Path
) -> None:
    with small_disk(tmp_path / "disk", size_mb=400) as disk:
        data = disk / "data"
        shutil.copytree(filled, data)
        async with serving(data, encoder) as (server, client):
            await assert_whole(client)
            ballast = disk / "ballast"
            fill(ballast)
            code = reason = None
            written = DOCUMENTS
            while code is None and written < DOCUMENTS + 5_000:  # what SQLite has allocated takes some more
                try:
                    await upsert(client, range(written, written + 50), wait=1)
                    written += 50
                except grpc.aio.AioRpcError:
                    code, reason, _ = await refusal(upsert(client, range(written, written + 50), wait=1))
            assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "DISK_FULL")
            assert len((await search(client)).hits) >= DOCUMENTS
            assert len(await listed(client, THINGS)) == written
            assert not server.ended
            ballast.unlink()
            await upsert(client, range(written, written + 10))
            await assert_whole(client, written + 10)
            await server.stop()
        await started_whole(data, encoder, written + 10)
