"""The dense store as the server sees it: calls to the store process, which is started again when it dies."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quarry.errors import QuarryError, RetrieverUnavailableError
from quarry.filters import Filter
from quarry.retrieval.base import VectorChange
from quarry.retrieval.edge.connection import WorkerConnection
from quarry.retrieval.edge.store_settings import EdgeStatus, StoreSettings
from quarry.retrieval.edge.watch import Watch
from quarry.retrieval.points import (
    PackedParts,
    StoredPoint,
    check_vector,
    gather_vectors,
    keep_latest_changes,
    split_part_batches,
)
from quarry.types import Candidate, Docno, Position

logger = logging.getLogger(__name__)

BATCH_ROWS = 64
"""Points of one write: 1 to 5 ms of the engine, which is what a search may have to wait for."""
BATCHES_IN_FLIGHT = 2
"""Enough to keep the process busy; a search's frame stands behind those of the writes in flight."""
VERSIONS_PER_CALL = 2_000
VECTORS_PER_CALL = 128
"""4 ms of the process, which is what a search may have to wait for."""
FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 10.0
HEALTHY_AFTER_S = 60.0


class EdgeDenseStore:
    """DenseStore on Qdrant Edge, for one event loop. Made by ``open``; ended by ``close``.

    While the process is down or hangs every call raises RetrieverUnavailableError; it is started again at
    once, then after growing delays. What was applied but not flushed may be lost with it, so after a lost
    process or a failed ``apply`` the next ``apply`` raises until ``position`` has been read: the caller
    goes on from there.
    """

    def __init__(self, settings: StoreSettings, connection: WorkerConnection) -> None:
        self._settings = settings
        self._connection: WorkerConnection | None = connection
        self._cause: Exception = RetrieverUnavailableError("dense", "its process is starting")
        self._writing = asyncio.Lock()
        self._must_replay = False
        self._closed = False
        self.restarts = 0
        self._watch: Watch | None = None
        self._supervisor = asyncio.create_task(self._supervise(connection), name="dense store supervisor")

    @classmethod
    async def open(cls, settings: StoreSettings) -> "EdgeDenseStore":
        """Starts the store's process, and the store itself where the folder is new.

        Raises:
            DataLossError: the folder is of another generation.
            RetrieverUnavailableError: the process ended, or cannot open the store.
        """
        return cls(settings, await WorkerConnection.start(settings))

    @property
    def pid(self) -> int | None:
        """The id of the store process; None while there is none."""
        return None if self._connection is None else self._connection.pid

    @property
    def problem(self) -> str | None:
        """Why it does not answer now; None if it does."""
        if self._connection is None:
            return str(self._cause)
        return None if self._watch is None else self._watch.problem

    async def read_position(self) -> Position:
        async with self._writing:
            position: Position = await self._call("position")
            self._must_replay = False
            return position

    async def apply(self, changes: Sequence[VectorChange], sequence: int) -> None:
        async with self._writing:
            latest = await asyncio.to_thread(keep_latest_changes, changes, self._settings.dimension)
            if self._must_replay:
                raise RetrieverUnavailableError("dense", "writes may be lost: go on from its position")
            self._must_replay = True
            connection = self._connect()
            await _write(connection, latest)
            await connection.call("applied", sequence)
            self._must_replay = connection is not self._connection

    async def flush(self) -> Position:
        async with self._writing:
            position: Position = await self._call("flush")
            return position

    async def find_nearest(
        self, vector: NDArray[np.float32], depth: int, filter: Filter | None
    ) -> list[Candidate]:
        query = check_vector(vector, self._settings.dimension)
        found: list[Candidate] = await self._call("nearest", query, depth, filter)
        return found

    async def compute_similarities(
        self, vector: NDArray[np.float32], docnos: Collection[Docno]
    ) -> dict[Docno, Candidate]:
        query = check_vector(vector, self._settings.dimension)
        found: dict[Docno, Candidate] = await self._call("similarities", query, list(docnos))
        return found

    async def read_versions(self) -> AsyncIterator[tuple[Docno, int]]:
        start: int | None = 0
        while start is not None:
            found, start = await self._call("versions", start, VERSIONS_PER_CALL)
            for version in found:
                yield version

    async def read_vectors(self, docnos: Collection[Docno]) -> dict[Docno, NDArray[np.float32]]:
        points: list[StoredPoint] = []
        start: int | None = 0
        while docnos and start is not None:
            found, start = await self._call("vectors", list(docnos), start, VECTORS_PER_CALL)
            points += found
        return gather_vectors(points, self._settings.dimension)

    async def count(self) -> int:
        documents: int = await self._call("count")
        return documents

    async def read_status(self) -> EdgeStatus:
        status: EdgeStatus = await self._call("status")
        return status

    async def optimize(self) -> None:
        """Builds the graph now, beside searches and writes, and returns when it is in use.

        Raises:
            RetrieverUnavailableError: the build failed; the store is as good as before.
        """
        await self._call("optimize")

    async def erase(self) -> None:
        """Copies what is there to new files, without what was deleted before, and builds the graph.

        Raises:
            RetrieverUnavailableError: it failed, or another build is running; try again later.
        """
        await self._call("erase")

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._supervisor.cancel()
        await asyncio.gather(self._supervisor, return_exceptions=True)
        connection, self._connection = self._connection, None
        self._cause = RetrieverUnavailableError("dense", "it is closed")
        if connection is not None:
            await connection.close()

    async def _call(self, method: str, *arguments: Any) -> Any:
        return await self._connect().call(method, *arguments)

    def _connect(self) -> WorkerConnection:
        if self._connection is None:
            raise self._cause
        return self._connection

    # keeping a process running

    async def _supervise(self, connection: WorkerConnection) -> None:
        loop = asyncio.get_running_loop()
        delay_s = 0.0
        while True:
            started = loop.time()
            self._watch = Watch(connection, self._settings.patience)
            await self._watch.wait_until_lost()
            self._watch = None
            self._connection, self._must_replay = None, True
            self._cause = RetrieverUnavailableError("dense", "its process has ended and is being restarted")
            logger.error("the dense store's process has ended; starting it again")
            if loop.time() - started > HEALTHY_AFTER_S:
                delay_s = 0.0
            connection, delay_s = await self._start_again(delay_s)
            self._connection = connection
            self.restarts += 1

    async def _start_again(self, delay_s: float) -> tuple[WorkerConnection, float]:
        """Starts a new connection; returns it, and the delay before the next one should this be lost soon."""
        while True:
            await asyncio.sleep(delay_s)
            delay_s = min(max(FIRST_DELAY_S, 2 * delay_s), LONGEST_DELAY_S)
            try:
                return await WorkerConnection.start(self._settings), delay_s
            except (QuarryError, OSError) as error:
                known = isinstance(error, QuarryError)
                self._cause = error if known else RetrieverUnavailableError("dense", str(error))
                logger.error("the dense store's process cannot be started: %s", error)


async def _write(connection: WorkerConnection, changes: Sequence[VectorChange]) -> None:
    """Sends the changes in order, a few batches ahead of the answers."""
    sent: deque[asyncio.Task[Any]] = deque()
    try:
        for batch in split_part_batches(changes, BATCH_ROWS):
            if len(sent) == BATCHES_IN_FLIGHT:
                await sent[0]
                sent.popleft()
            sent.append(asyncio.create_task(connection.call("apply", PackedParts.pack(batch))))
        await asyncio.gather(*sent)
    finally:
        for task in sent:
            task.cancel()
        await asyncio.gather(*sent, return_exceptions=True)
