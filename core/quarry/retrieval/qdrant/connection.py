"""Asks a Qdrant server: every call within a time, and searches only while the server answers."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

import grpc
from qdrant_client import AsyncQdrantClient
from qdrant_client.http.exceptions import ApiException

from quarry.errors import DiskFullError, RetrieverUnavailableError
from quarry.retrieval.heartbeat import Heartbeat, Patience
from quarry.storage.disk import is_disk_full

logger = logging.getLogger(__name__)
T = TypeVar("T")

LEAST_PATIENCE_S, ROUND_TRIPS = 3.0, 4
"""A server may be silent for so long, or for so many of its round trips, before searches leave it out."""
FORGETTING = 0.9
"""How much of the longest round trip still counts at the next one."""


class QdrantConnection:
    """The way to one server. ``start`` begins to watch it, ``stop`` ends that. The client is the caller's.

    A server that is silent is not asked for searches until it answers anything at all. Other calls go on and
    have until ``timeout_s``, since a slow server can do them.

    Args:
        looked_for: a collection on the server; whether it is there is the question that gives a sign of life.
        left_out: what the log says that searches leave out while the server is silent.

    Attributes:
        problem: why the server is not asked for searches now; None if it is.
    """

    def __init__(
        self, client: AsyncQdrantClient, looked_for: str, left_out: str, timeout_s: float, patience: Patience
    ) -> None:
        self._client, self._looked_for, self._left_out = client, looked_for, left_out
        self._timeout_s, self._patience = timeout_s, patience
        self._heartbeat = Heartbeat(self.time_round_trip, self._judge)
        self._round_trip_s = 0.0
        self._searches: set[asyncio.Task[Any]] = set()
        self._beating: asyncio.Task[None] | None = None
        self.problem: str | None = None

    def start(self) -> None:
        """Begins to ask for signs of life."""
        self._beating = asyncio.create_task(self._heartbeat.run(), name="dense store heartbeat")

    async def stop(self) -> None:
        """Asks for signs of life no more. Calls may still be made."""
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)

    async def search(self, search: Coroutine[Any, Any, T]) -> T:
        """Returns what ``search`` finds; it fails at once, also on its way, while the server is silent."""
        if self.problem is not None:
            search.close()
            raise RetrieverUnavailableError("dense", self.problem)
        searching = asyncio.create_task(search)
        self._searches.add(searching)
        try:
            await asyncio.wait([searching])
        finally:
            self._searches.discard(searching)
            searching.cancel()
        if searching.cancelled():
            raise RetrieverUnavailableError("dense", self.problem or "its server does not answer")
        return searching.result()

    async def ask(self, call: Coroutine[Any, Any, T]) -> T:
        """Returns the server's answer within ``timeout_s``, which is a sign of life as well."""
        asked = asyncio.create_task(_raise_typed(call))
        try:
            async with asyncio.timeout(self._timeout_s):
                await asyncio.wait([asked])
        except TimeoutError:
            problem = f"the Qdrant server did not answer within {self._timeout_s:g} s"
            raise RetrieverUnavailableError("dense", problem) from None
        finally:
            asked.cancel()
        if asked.cancelled():
            raise RetrieverUnavailableError("dense", "the client has given up the call")
        answer = asked.result()
        self._heartbeat.hear()
        return answer

    async def time_round_trip(self) -> bool:
        """Asks whether the server has the collection that is looked for, and notes how long that takes."""
        began_s = time.monotonic()
        exists = await self.ask(self._client.collection_exists(self._looked_for))
        self._round_trip_s = max(time.monotonic() - began_s, FORGETTING * self._round_trip_s)
        return exists

    def _judge(self, silent_s: float) -> None:
        slow_s = min(ROUND_TRIPS * self._round_trip_s, self._timeout_s)
        if silent_s < max(self._patience.hung_after_s, LEAST_PATIENCE_S, slow_s):
            self.problem = None
            return
        if self.problem is None:
            logger.error("the Qdrant server does not answer, and searches leave %s out", self._left_out)
        self.problem = f"the Qdrant server has not answered for {silent_s:.0f} s"
        for search in self._searches:
            search.cancel()


async def _raise_typed(call: Awaitable[T]) -> T:
    try:
        return await call
    except (ApiException, grpc.RpcError, OSError) as error:
        if is_disk_full(error):
            raise DiskFullError(f"the disk of the Qdrant server is full: {error}") from error
        raise RetrieverUnavailableError("dense", f"the Qdrant server failed: {error}") from error
