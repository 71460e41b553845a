"""What a network that swallows everything may hold up: the request that needs it, and nothing else."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from tests.integration.crash.server import CALL_S, Client, Server, connected
from tests.integration.network.networks import SilentProxy, hub_of, silent_proxy

from quarry.testing import make_tiny_encoder
from quarry.v1 import collection_service_pb2 as pb
from quarry.v1 import document_service_pb2, search_service_pb2, types_pb2

FLOOD = 40
FETCH_S = 4
SEARCH_S = 2.0
MODEL = "somebody/tiny-encoder"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_encoder(tmp_path_factory.mktemp("encoder"), seed=3)


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[SilentProxy]:
    with silent_proxy() as proxy:
        for name in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")  # the client of this test has the same environment
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield proxy


async def fill(client: Client) -> None:
    await client.collections.CreateCollection(
        pb.CreateCollectionRequest(collection=pb.Collection(name="full")), timeout=CALL_S
    )
    document = types_pb2.Document(id="d", fields={"text": types_pb2.FieldValue(string_value="the rata")})
    await client.documents.BatchUpsertDocuments(
        document_service_pb2.BatchUpsertDocumentsRequest(
            collection="full",
            documents=[document],
            wait=document_service_pb2.WRITE_VISIBILITY_SEARCHABLE,
        ),
        timeout=CALL_S,
    )


async def search(client: Client) -> None:
    """Raises unless the document is found in time by both arms."""
    request = search_service_pb2.SearchRequest(collection="full", query="rata", require_complete=True)
    answer = await client.search.Search(request, timeout=SEARCH_S)
    assert [hit.document.id for hit in answer.hits] == ["d"]


async def created(client: Client, name: str, encoder: str) -> grpc.aio.AioRpcError | None:
    """How the creation failed; None if it did not."""
    request = pb.CreateCollectionRequest(collection=pb.Collection(name=name, encoder=encoder))
    try:
        await client.collections.CreateCollection(request, timeout=CALL_S)
    except grpc.aio.AioRpcError as error:
        return error
    return None


async def test_a_hub_that_is_not_allowed_is_never_asked(
    proxy: SilentProxy, tmp_path: Path, encoder: Path
) -> None:
    server = await Server.start(tmp_path / "data", encoder)
    try:
        async with connected(server) as client:
            await fill(client)
            ends = await asyncio.wait_for(
                asyncio.gather(*(created(client, f"c{n}", MODEL) for n in range(FLOOD))), SEARCH_S
            )
            await search(client)
            assert {end and end.code() for end in ends} == {grpc.StatusCode.FAILED_PRECONDITION}
            assert all(end is not None and "models.hub" in (end.details() or "") for end in ends)
        await asyncio.wait_for(server.stop(), 10)
        assert proxy.connections == 0
    finally:
        if not server.ended:
            await server.kill()


async def test_a_hub_that_does_not_answer_holds_up_nobody_else(
    proxy: SilentProxy, tmp_path: Path, encoder: Path
) -> None:
    server = await Server.start(
        tmp_path / "data", encoder, MODELS__HUB="true", MODELS__HUB_TIMEOUT_S=str(FETCH_S)
    )
    try:
        async with connected(server) as client:
            await fill(client)
            begun = time.monotonic()
            flood = [asyncio.create_task(created(client, f"c{n}", f"{MODEL}-{n}")) for n in range(FLOOD)]
            assert await asyncio.to_thread(proxy.wait_for_one, CALL_S)
            for _ in range(20):
                await search(client)
            ends = await asyncio.gather(*flood)
            assert time.monotonic() - begun < FETCH_S + 10
            assert {end and end.code() for end in ends} == {grpc.StatusCode.UNAVAILABLE}
            said = [end.details() or "" for end in ends if end]
            assert sum("within" in text for text in said) == 2
            assert sum("being fetched" in text for text in said) == FLOOD - 2
            assert len(list((tmp_path / "data" / "hub").glob(".fetch-*"))) == 0
    finally:
        await server.kill()


async def test_a_server_ends_while_a_hub_does_not_answer(
    proxy: SilentProxy, tmp_path: Path, encoder: Path
) -> None:
    server = await Server.start(tmp_path / "data", encoder, MODELS__HUB="true")
    try:
        async with connected(server) as client:
            waiting = asyncio.create_task(created(client, "c", MODEL))
            assert await asyncio.to_thread(proxy.wait_for_one, CALL_S)
            await asyncio.wait_for(server.stop(), 10)
            assert await waiting is not None
    finally:
        if not server.ended:
            await server.kill()


async def test_an_allowed_hub_gives_its_models_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, encoder: Path
) -> None:
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    (elsewhere / MODEL).mkdir(parents=True)  # nothing that a request may name
    monkeypatch.chdir(elsewhere)
    with hub_of(MODEL, make_tiny_encoder(tmp_path / "theirs", seed=4)) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        server = await Server.start(data, encoder, MODELS__HUB="true")
        try:
            async with connected(server) as client:
                ends = await asyncio.gather(*(created(client, f"c{n}", MODEL) for n in range(3)))
                assert ends == [None, None, None]
                gone = await created(client, "other", "somebody/else")
                assert gone is not None
                assert gone.code() is grpc.StatusCode.FAILED_PRECONDITION
        finally:
            await server.kill()
    assert sorted(path.name for path in (data / "hub").glob("[!.]*")) == ["somebody--tiny-encoder"]
    server = await Server.start(data, encoder)  # the hub is gone, and no longer allowed
    try:
        async with connected(server) as client:
            assert (await client.read_collection("c0")).encoder == MODEL
            assert (await client.consistency("c0")).consistent
    finally:
        await server.kill()


async def test_a_hub_that_cannot_be_reached_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, encoder: Path
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens
    server = await Server.start(tmp_path / "data", encoder, MODELS__HUB="true")
    try:
        async with connected(server) as client:
            failed = await created(client, "c", MODEL)
            assert failed is not None
            assert failed.code() is grpc.StatusCode.UNAVAILABLE
            assert "127.0.0.1" not in (failed.details() or "")  # an address may hold a password
    finally:
        await server.kill()
