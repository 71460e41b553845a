"""Real servers end in time while a part of them, or whoever reads their log, hangs."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from tests.integration.api.helpers.served import document
from tests.integration.crash.server import (
    CALL_S,
    NO_ENCODER,
    UNKNOWN_HOST,
    Client,
    Server,
    ServerEnded,
    connected,
    launch,
    serving,
)
from tests.integration.liveness import hanging
from tests.integration.liveness.calls import create, search, write

from quarry.collections.data_folder import DataFolder
from quarry.v1 import document_service_pb2

SHORT = {"DRAIN_S": "0", "LIVENESS__EXIT_S": "1"}
"""The server then takes 7 s at most to end."""
SHORT_EXIT_S = 7.0


def with_part(name: str) -> tuple[str, ...]:
    """Runs a server with one of the parts that ``hanging`` has."""
    return (sys.executable, hanging.__file__, name)


async def test_a_start_that_fails_while_a_part_hangs_says_why_and_ends(tmp_path: Path) -> None:
    data, began_s = tmp_path / "data", time.monotonic()
    with pytest.raises(ServerEnded, match="cannot listen") as ended:
        await Server.start(data, NO_ENCODER, wrapper=with_part("collections"), **UNKNOWN_HOST, **SHORT)
    assert ended.value.status == 1
    assert "the collections: does not end" in ended.value.said
    assert time.monotonic() - began_s < 30  # with the start; it never ended before


async def test_a_server_that_drains_to_the_end_and_then_hangs_ends_in_time_and_starts_again(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    settings = {"DRAIN_S": "3", "LIVENESS__EXIT_S": "1"}
    server = await Server.start(data, NO_ENCODER, wrapper=with_part("collections"), **settings)
    async with connected(server) as client:
        await create(client, "faq", encoder="none")
        await write(client, "faq", ["one word"], searchable=False)
        async with working(client):
            began_s = time.monotonic()
            await server.stop()
            took_s = time.monotonic() - began_s
    assert 3 + 5 <= took_s < 3 + 8
    assert "the collections: does not end" in server.log()
    async with serving(data, NO_ENCODER) as (server, client):
        assert (await search(client, "faq", "one", CALL_S)).hits
        await server.stop()


@contextlib.asynccontextmanager
async def working(client: Client) -> AsyncIterator[None]:
    """A stream on which batches keep coming, so that a drain takes all its time."""
    upserts = client.documents.UpsertDocuments(timeout=CALL_S)
    config = document_service_pb2.UpsertDocumentsConfig(collection="faq")
    await upserts.write(document_service_pb2.UpsertDocumentsRequest(config=config))
    batch = document_service_pb2.UpsertDocumentsBatch(documents=[document("streamed", text="one")])
    begun = asyncio.Event()

    async def go_on() -> None:
        while True:
            await upserts.write(document_service_pb2.UpsertDocumentsRequest(batch=batch))
            await upserts.read()
            begun.set()

    going_on = asyncio.create_task(go_on())
    await begun.wait()
    yield
    with pytest.raises((grpc.aio.AioRpcError, asyncio.InvalidStateError)):
        await going_on


async def test_a_server_whose_log_nobody_reads_ends_in_time(tmp_path: Path) -> None:
    """Its event loop waits for the reader, so that it cannot even hear of a signal."""
    reading, writing = os.pipe()
    server = await start_with_log(tmp_path / "data", writing)
    try:
        fill(writing)
        async with connected(server) as client:
            creating = asyncio.ensure_future(create(client, "faq", encoder="none"))  # is logged
            await until_blocked(server)
            server.terminate()
            async with asyncio.timeout(SHORT_EXIT_S + 1):
                assert await server.wait() == 0
            with pytest.raises(grpc.aio.AioRpcError):
                await creating
    finally:
        if not server.ended:
            await server.kill()
        os.close(reading)
        os.close(writing)


async def start_with_log(data: Path, log: int) -> Server:
    path = data.with_name("server.log")
    path.symlink_to(f"/proc/{os.getpid()}/fd/{log}")
    return await Server.start(data, NO_ENCODER, **SHORT)


def fill(pipe: int) -> None:
    """Writes until there is no room for a byte."""
    writing = os.open(f"/proc/self/fd/{pipe}", os.O_WRONLY | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x")
    os.close(writing)


async def until_blocked(server: Server) -> None:
    """Waits until the main thread is in a write to a pipe."""
    state = Path(f"/proc/{server.pid}/wchan")
    async with asyncio.timeout(CALL_S):
        while "pipe_w" not in state.read_text():  # noqa: ASYNC110, ASYNC240
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_server_that_is_asked_to_stop_during_its_start_never_serves(
    tmp_path: Path, number: signal.Signals
) -> None:
    process = launch(tmp_path / "data", NO_ENCODER, tmp_path / "server.log", wrapper=with_part("models"))
    assert process.stdout is not None
    assert await asyncio.to_thread(process.stdout.readline) == "loading\n"
    process.send_signal(number)
    said, _ = await asyncio.to_thread(process.communicate, timeout=CALL_S)
    assert process.returncode == 0
    assert not said
    DataFolder(tmp_path / "data").close()
    assert "stopped before the start was done" in (tmp_path / "server.log").read_text()
