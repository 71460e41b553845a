"""The start of a server in phases: whatever ends it early, what was opened is closed again."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from grpc.aio import insecure_channel
from grpc_health.v1 import health_pb2, health_pb2_grpc

from quarry.config import Settings
from quarry.ending import Ending
from quarry.errors import UnavailableError
from quarry_server.app import StopAsked, run_server

LOOKS = 6
"""At the request to stop, in a whole start."""


class StopAtLook(asyncio.Event):
    """Is set from the ``number``-th look at it on."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number, self.looks = number, 0

    def is_set(self) -> bool:
        self.looks += 1
        return self.looks >= self.number


class NotedEnding(Ending):
    """Notes which parts were opened, and which were closed, in order."""

    def __init__(self) -> None:
        super().__init__(30.0)
        self.opened: list[str] = []
        self.closed: list[str] = []

    def push(self, what: str, close: Callable[[], Awaitable[object]]) -> None:
        async def note() -> None:
            self.closed.append(what)
            await close()

        self.opened.append(what)
        super().push(what, note)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.mark.parametrize("look", range(1, LOOKS + 1))
async def test_a_start_that_is_stopped_at_any_step_closes_what_it_has_opened(
    look: int, tmp_path: Path
) -> None:
    settings, ending = Settings(data=tmp_path, port=free_port()), NotedEnding()
    with pytest.raises(StopAsked):
        async with run_server(settings, ending, StopAtLook(look)):
            pass
    assert ending.opened[:2] == ["the data folder", "the document log"]
    assert ending.closed == ending.opened[::-1]
    assert ending.left == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", settings.port))


async def test_a_server_serves_after_a_start_that_was_stopped_and_closes_in_reverse(tmp_path: Path) -> None:
    settings, ending = Settings(data=tmp_path, port=free_port(), drain_notice_s=0, drain_s=0), NotedEnding()
    with pytest.raises(StopAsked):
        async with run_server(settings, None, StopAtLook(LOOKS)):
            pass
    stop = StopAtLook(LOOKS + 1)
    async with (
        run_server(settings, ending, stop) as server,
        insecure_channel(server.address) as channel,
    ):
        request = health_pb2.HealthCheckRequest(service="quarry.v1.SearchService")
        stub = health_pb2_grpc.HealthStub(channel)  # type: ignore[no-untyped-call]
        answer = await stub.Check(request, timeout=60)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert stop.looks == LOOKS
    assert ending.closed == ending.opened[::-1]
    assert ending.closed[-5:] == [
        "the collections",
        "fetches from the hub",
        "the models",
        "the document log",
        "the data folder",
    ]


async def test_a_port_that_is_taken_fails_the_start_and_closes_what_it_has_opened(tmp_path: Path) -> None:
    ending = NotedEnding()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = Settings(data=tmp_path, port=int(taken.getsockname()[1]))
        with pytest.raises(UnavailableError, match="cannot listen"):
            async with run_server(settings, ending):
                pass
    assert ending.closed == ending.opened[::-1]
    assert "the feedback log" in ending.closed
