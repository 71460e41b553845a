"""Clients that connect and say nothing take nothing from those that do."""

import asyncio
import contextlib
import resource
import socket
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from tests.integration.crash.server import CALL_S, Client, Server, connected, stopping_in_order, until

from quarry.v1 import collection_service_pb2, document_service_pb2, search_service_pb2, server_service_pb2
from quarry.v1.server_service_pb2_grpc import ServerServiceStub

SILENT = 2_000
DESCRIPTORS = 1_024
HANDSHAKE_S, IDLE_S = 2.0, 1.0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
"""What opens HTTP/2, and empty settings."""
LIMITED = ("bash", "-c", f'ulimit -n {DESCRIPTORS}; exec "$@"', "-")


def limited_server(data: Path) -> AbstractAsyncContextManager[Server]:
    settings = {"CONNECTIONS__HANDSHAKE_S": str(HANDSHAKE_S), "CONNECTIONS__IDLE_S": str(IDLE_S)}
    return stopping_in_order(data, wrapper=LIMITED, **settings)


@pytest.fixture
def many_files() -> Iterator[None]:
    """This process may open as many files as it needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < SILENT + 500:
        pytest.skip(f"this process may open {hard} files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def silent_connections(server: Server, count: int, said: bytes = b"") -> Iterator[list[socket.socket]]:
    host, _, port = server.address.rpartition(":")
    with contextlib.ExitStack() as closing:
        sockets = []
        for _ in range(count):
            one = closing.enter_context(socket.create_connection((host, int(port)), timeout=CALL_S))
            sockets.append(one)
            with contextlib.suppress(ConnectionError):  # closed already: there are too many
                one.sendall(said)
        yield sockets


def files_of(server: Server) -> int:
    return psutil.Process(server.pid).num_fds()


async def write(client: Client, collection: str, number: int) -> Any:
    document = {"id": f"d{number}", "fields": {"text": {"string_value": "word"}}}
    request = document_service_pb2.BatchUpsertDocumentsRequest(
        collection=collection, documents=[document], wait=document_service_pb2.WRITE_VISIBILITY_SEARCHABLE
    )
    return await client.documents.BatchUpsertDocuments(request, timeout=CALL_S)


async def check(client: Client, collection: str, count: int) -> None:
    request = search_service_pb2.SearchRequest(collection=collection, query="word")
    answer = await client.search.Search(request, timeout=CALL_S)
    assert not answer.degraded
    assert answer.total.count == count


async def test_silent_connections_neither_lock_clients_out_nor_take_files_from_engines(
    tmp_path: Path, many_files: None
) -> None:
    async with limited_server(tmp_path / "data") as server, connected(server) as client:
        for name in ("a", "b", "c"):
            request = collection_service_pb2.CreateCollectionRequest(collection={"name": name})
            await client.collections.CreateCollection(request, timeout=CALL_S)
        with silent_connections(server, SILENT):
            assert files_of(server) < 0.7 * DESCRIPTORS
            for number in range(3):  # each commit of an index opens files
                for name in ("a", "b", "c"):
                    await write(client, name, number)
                    await check(client, name, number + 1)
            async with asyncio.timeout(HANDSHAKE_S + 5):
                await new_client(server)
            await until(lambda: files_of(server) < DESCRIPTORS / 4, HANDSHAKE_S + 5)
        for name in ("a", "b", "c"):
            await write(client, name, 3)
            await check(client, name, 4)


async def new_client(server: Server) -> server_service_pb2.GetServerInfoResponse:
    """What the server says of itself to a client that has only now come; asked until it answers."""
    while True:
        async with grpc.aio.insecure_channel(server.address) as channel:
            try:
                request = server_service_pb2.GetServerInfoRequest()
                return await ServerServiceStub(channel).GetServerInfo(request, timeout=1)
            except grpc.aio.AioRpcError as error:
                assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
                await asyncio.sleep(0.1)


async def test_a_connection_without_a_call_is_closed_and_its_client_does_not_notice(
    tmp_path: Path,
) -> None:
    async with limited_server(tmp_path / "data") as server, connected(server) as client:
        limits = (await new_client(server)).limits
        assert limits.max_connections == DESCRIPTORS // 2
        assert limits.connection_idle.ToTimedelta().total_seconds() == IDLE_S
        assert limits.connection_handshake.ToTimedelta().total_seconds() == HANDSHAKE_S
        assert limits.max_calls_per_connection == 1_000
        with silent_connections(server, 50, PREFACE) as opened:
            for one in opened:
                assert await asyncio.to_thread(received_until_closed, one)  # taken first, and then closed
        request = collection_service_pb2.ListCollectionsRequest()
        for pause_s in (0, *[IDLE_S + n / 50 for n in range(-1, 3)]):  # around the moment that it is closed
            await asyncio.sleep(pause_s)
            await client.collections.ListCollections(request, timeout=CALL_S)


def received_until_closed(one: socket.socket) -> bytes:
    """What the server sends until it closes the connection; waits for that."""
    received = b""
    while some := one.recv(4_096):
        received += some
    return received
