"""A real `quarry serve` in a process of its own, with what the tests need to talk to it and to end it."""

import asyncio
import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import psutil
from google.longrunning import operations_pb2, operations_pb2_grpc

from quarry.storage.faults import VARIABLE
from quarry.v1 import (
    collection_service_pb2,
    collection_service_pb2_grpc,
    document_service_pb2_grpc,
    search_service_pb2_grpc,
)

START_S = 120.0
CALL_S = 90.0
LISTENING = "quarry: listening on "
NO_ENCODER = Path("none")
UNKNOWN_HOST = {"HOST": "no.such.host.invalid", "INSECURE": "true"}
"""Nothing can listen there. A host that is not known to be loopback is otherwise refused before that."""


class Server:
    """A running server. Made by ``start``; its log goes to ``server.log`` beside the data folder.

    Attributes:
        address: where it listens.
    """

    def __init__(self, process: subprocess.Popen[str], address: str, log: Path) -> None:
        self._process, self.address, self._log = process, address, log

    @classmethod
    async def start(
        cls, data: Path, encoder: Path, fault: str = "", wrapper: tuple[str, ...] = (), **settings: str
    ) -> "Server":
        """A server that is ready.

        Args:
            fault: value of QUARRY_TEST_FAULT; empty for none.
            wrapper: a command that runs the server's.
            settings: QUARRY_ variables, without the prefix.
        """
        log = data.with_name("server.log")
        process = launch(data, encoder, log, fault, wrapper, **settings)
        async with asyncio.timeout(START_S):
            line = await asyncio.to_thread(_listening_line, process)
        if line is None:
            status = await asyncio.to_thread(process.wait)
            raise ServerEnded(status, await asyncio.to_thread(log.read_text))
        return cls(process, line, log)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    async def wait(self) -> int:
        """The exit status, when it has ended."""
        status = await asyncio.to_thread(self._process.wait)
        _close(self._process)
        return status

    async def kill(self) -> None:
        """SIGKILL, to it alone."""
        self._process.kill()
        await self.wait()

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        self._process.terminate()

    async def stop(self) -> None:
        """SIGTERM, and the orderly end that it must bring about."""
        self.terminate()
        async with asyncio.timeout(CALL_S):
            assert await self.wait() == 0, self.log()

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def processes(self, module: str) -> list[psutil.Process]:
        """Its processes that run ``quarry.retrieval.edge.<module>``."""
        name = f"quarry.retrieval.edge.{module}"
        assert importlib.util.find_spec(name) is not None, name  # or nobody would be killed
        found = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                    if name in process.cmdline():
                        found.append(process)
        return found


class ServerEnded(Exception):
    """It ended before it was ready."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"status {status}:\n{said[-4_000:]}")
        self.status, self.said = status, said


def launch(
    data: Path, encoder: Path, log: Path, fault: str = "", wrapper: tuple[str, ...] = (), **settings: str
) -> "subprocess.Popen[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("QUARRY_")}
    environment |= {"QUARRY_DRAIN_S": "1", "QUARRY_DRAIN_NOTICE_S": "0"}
    environment |= {f"QUARRY_{name}": value for name, value in settings.items()}
    environment["QUARRY_MODELS__ENCODER"] = str(encoder)
    environment.setdefault("QUARRY_MODELS__FOLDERS", json.dumps([tempfile.gettempdir()]))
    if fault:
        environment[VARIABLE] = fault
    with log.open("a") as errors:
        return subprocess.Popen(
            [*wrapper, sys.executable, "-m", "quarry_cli", "serve", "--data", str(data), "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        )


def _listening_line(process: "subprocess.Popen[str]") -> str | None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(LISTENING):
            return line.removeprefix(LISTENING).strip()
    _close(process)
    return None


def _close(process: "subprocess.Popen[str]") -> None:
    if process.stdout is not None:
        process.stdout.close()


class Client:
    """Stubs for one server. Made by ``connected``."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.collections: Any = collection_service_pb2_grpc.CollectionServiceStub(channel)
        self.documents: Any = document_service_pb2_grpc.DocumentServiceStub(channel)
        self.search: Any = search_service_pb2_grpc.SearchServiceStub(channel)
        self.operations: Any = operations_pb2_grpc.OperationsStub(channel)

    async def read_collection(self, name: str) -> collection_service_pb2.Collection:
        request = collection_service_pb2.GetCollectionRequest(name=name)
        return (await self.collections.GetCollection(request, timeout=CALL_S)).collection

    async def consistency(self, name: str) -> collection_service_pb2.CheckConsistencyResponse:
        """Asked again while an arm has yet to catch up."""
        request = collection_service_pb2.CheckConsistencyRequest(name=name)
        return await eventually(lambda: self.collections.CheckConsistency(request, timeout=CALL_S))

    async def repair(self, name: str) -> collection_service_pb2.RepairCollectionResponse:
        request = collection_service_pb2.RepairCollectionRequest(name=name)
        operation = await self.collections.RepairCollection(request, timeout=CALL_S)
        wait = operations_pb2.WaitOperationRequest(name=operation.name)
        wait.timeout.FromSeconds(int(CALL_S) - 10)
        done = await self.operations.WaitOperation(wait, timeout=CALL_S)
        assert done.done and not done.HasField("error"), done
        response = collection_service_pb2.RepairCollectionResponse()
        assert done.response.Unpack(response)
        return response


@contextlib.asynccontextmanager
async def connected(server: Server) -> AsyncIterator[Client]:
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield Client(channel)


@contextlib.asynccontextmanager
async def serving(
    data: Path, encoder: Path, fault: str = "", **settings: str
) -> AsyncIterator[tuple[Server, Client]]:
    """A server and a client of it; killed at the end unless it has ended."""
    server = await Server.start(data, encoder, fault, **settings)
    try:
        async with connected(server) as client:
            yield server, client
    finally:
        if not server.ended:
            await server.kill()
        else:
            await server.wait()


@contextlib.asynccontextmanager
async def stopping_in_order(
    data: Path, encoder: Path = NO_ENCODER, wrapper: tuple[str, ...] = (), **settings: str
) -> AsyncIterator[Server]:
    """A server, which must stop in order; killed if the test fails."""
    server = await Server.start(data, encoder, wrapper=wrapper, **settings)
    try:
        yield server
        await server.stop()
    finally:
        if not server.ended:
            await server.kill()


async def eventually(call: Callable[[], Awaitable[Any]]) -> Any:
    """What ``call`` gives once it is not UNAVAILABLE."""
    async with asyncio.timeout(CALL_S):
        while True:
            try:
                return await call()
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                await asyncio.sleep(0.05)


async def until(condition: Callable[[], bool], timeout_s: float = CALL_S) -> None:
    """Waits for what another process brings about, of which no event reaches this one."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
