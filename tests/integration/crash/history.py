"""One data folder through many crashes: write, kill, start again, check, write on."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import grpc
from tests.integration.crash.checks import assert_documents, assert_indexes, assert_repeats
from tests.integration.crash.oracle import Oracle
from tests.integration.crash.server import CALL_S, Client, Server, ServerEnded, connected, until
from tests.integration.crash.workload import COLLECTION, ServerLostError, Writer

from quarry.v1 import collection_service_pb2 as collections_pb

WRITERS = 5
KILLED = -9
SETTINGS = {"QDRANT__BUILD_AFTER": "40", "QDRANT__BUILD_THRESHOLD_KB": "1"}
"""So that graphs are built all the time."""
REACH_S = 60.0

FIELDS = (
    ("token", collections_pb.SCHEMA_FIELD_TYPE_TEXT),
    ("text", collections_pb.SCHEMA_FIELD_TYPE_TEXT),
    ("group", collections_pb.SCHEMA_FIELD_TYPE_KEYWORD),
    ("number", collections_pb.SCHEMA_FIELD_TYPE_INTEGER),
)


@dataclass(frozen=True)
class Kill:
    """One crash.

    Attributes:
        what: a point of ``quarry.storage.faults``, or ``server``, ``worker`` or ``optimizer`` at any moment.
        after: which time that the point is reached, or after how many acknowledged writes.
    """

    what: str
    after: int


ANYWHERE = ("server", "store_worker", "segment_optimizer")


@dataclass
class History:
    """The folder, its writers and what they were promised.

    Attributes:
        seed: of everything that is chosen.
        done: kills so far.
    """

    data: Path
    encoder: Path
    seed: int
    done: list[Kill] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.oracle = Oracle()
        self.writers = [Writer(f"w{n}", self.oracle, Random(self.random.random())) for n in range(WRITERS)]

    async def crash(self, kill: Kill) -> None:
        """Starts the server, checks what the last crash left, writes, and ends it by ``kill``."""
        marker = self.data.with_name(f"fault-{len(self.done)}")
        fault = "" if kill.what in ANYWHERE else f"{kill.what}:{kill.after}:{marker}"
        try:
            async with self._checked(fault, marker) as (server, client):
                self.done.append(kill)
                await self._write_until_killed(server, client, kill, marker)
        except BaseException as error:
            error.add_note(f"crash {len(self.done)}, {kill}; replay with --crash-seed {self.seed}")
            raise

    async def check(self) -> None:
        """What the last crash left is as was promised; ends the server in good order."""
        async with self._checked("") as (server, _):
            await server.stop()

    @contextlib.asynccontextmanager
    async def _checked(self, fault: str, marker: Path | None = None) -> AsyncIterator[tuple[Server, Client]]:
        """A server that has shown that nothing is lost. If the fault hits it before that, another one.

        ``marker`` is there once the fault has hit. A call that it broke can fail before the kernel says that
        the process has ended, so that is not what is asked.
        """
        while True:
            try:
                server = await Server.start(self.data, self.encoder, fault, **SETTINGS)
            except ServerEnded as error:
                if error.status != KILLED or not fault:
                    raise
                fault = ""
                continue
            try:
                async with connected(server) as client:
                    try:
                        await self._check(client)
                    except (grpc.aio.AioRpcError, ServerLostError):
                        if not (fault and marker and await asyncio.to_thread(marker.exists)):
                            raise
                        fault = ""
                        continue
                    yield server, client
                    return
            finally:
                if not server.ended:
                    await server.kill()
                await server.wait()

    async def _check(self, client: Client) -> None:
        if not self.done and not self.oracle.allowed:
            await self._create(client)
        for writer in self.writers:
            await writer.retry(client)
        await assert_documents(client, self.oracle)
        await assert_repeats(client, self.oracle, self.random)
        await assert_indexes(client, self.oracle, self.random)

    async def _create(self, client: Client) -> None:
        fields = [collections_pb.SchemaField(name=name, type=kind) for name, kind in FIELDS]
        collection = collections_pb.Collection(
            name=COLLECTION,
            schema=collections_pb.Schema(fields=fields),
            encoder=str(self.encoder),
            passages=collections_pb.PassagePolicy(max_tokens=48, overlap_tokens=8),
        )
        request = collections_pb.CreateCollectionRequest(collection=collection, request_id="create")
        await client.collections.CreateCollection(request, timeout=CALL_S)

    async def _write_until_killed(self, server: Server, client: Client, kill: Kill, marker: Path) -> None:
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as writing:
            for writer in self.writers:
                writing.create_task(writer.run(client, stop))
            if kill.what in ANYWHERE:
                await self._acknowledged(kill.after, server)
                _kill(server, kill.what)
            else:
                await until(lambda: marker.exists() or server.ended, REACH_S)
            if not server.ended and kill.what != "server" and not kill.what.startswith(("log-", "bm25-")):
                await self._acknowledged(30, server)  # the server goes on without its process
            if not server.ended:
                await server.kill()
            stop.set()
        assert await server.wait() == KILLED, server.log()

    async def _acknowledged(self, count: int, server: Server) -> None:
        wanted = self.oracle.acknowledged + count
        await until(lambda: self.oracle.acknowledged >= wanted or server.ended)


def _kill(server: Server, what: str) -> None:
    """SIGKILL of one of its processes; there may be none at the moment."""
    for process in server.processes(what) if what != "server" else ():
        process.kill()


def short_round(random: Random) -> Sequence[Kill]:
    """Each named point once, in any order, and each process at some moment."""
    kills = [
        Kill("log-written", random.randint(5, 60)),
        Kill("log-committed", random.randint(5, 60)),
        Kill("bm25-applied", random.randint(3, 12)),
        Kill("bm25-committed", random.randint(3, 12)),
        Kill("dense-applied", random.randint(3, 20)),
        Kill("dense-flushed", random.randint(1, 3)),
        Kill("dense-positioned", random.randint(1, 3)),
        *(Kill(f"build-{step}", 1) for step in ("copied", "built", "flushed", "switched")),
        *(Kill(what, random.randint(20, 200)) for what in ANYWHERE),
    ]
    random.shuffle(kills)
    return kills


def any_kill(random: Random) -> Kill:
    kill = random.choice(short_round(random))
    if kill.what.startswith("build-") or kill.what in ANYWHERE:
        return kill
    return Kill(kill.what, random.randint(1, 4 * kill.after))
