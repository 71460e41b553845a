"""Operations that a request id starts once, however often the call is repeated."""

import asyncio
from collections.abc import Awaitable, Callable

from quarry.documents.catalog import Collection
from quarry.documents.requests import once, recall
from quarry.documents.store import Database, RequestId
from quarry.jobs.operations import Operation, Operations


class StartedOnce:
    """Starts operations of collections, or finds those that the same request has started."""

    def __init__(self, database: Database, operations: Operations) -> None:
        self._database, self._operations = database, operations
        self._starting = asyncio.Lock()

    async def first(self, collection: Collection, request: RequestId) -> Operation | None:
        """The operation of an earlier call with this request id. Raises InvalidArgumentError if that asked
        something else."""
        async with self._starting:
            name = await asyncio.to_thread(
                self._database.read,
                lambda c: recall(c, _scope(collection, request), request.id, request.request, bytes.decode),
            )
        return await self._operations.get(name) if name else None

    async def start(
        self,
        collection: Collection,
        request: RequestId,
        name: str,
        start: Callable[[], Awaitable[Operation]],
    ) -> Operation:
        """What ``start`` starts under ``name``, or the first call's operation. Raises as ``first``."""
        async with self._starting:  # or a repeat might not find the operation that it should return
            first = await self._database.write(
                lambda c: once(
                    c,
                    _scope(collection, request),
                    request.id,
                    request.request,
                    lambda: name,
                    str.encode,
                    bytes.decode,
                )
            )
            return await (start() if first == name else self._operations.get(first))


def _scope(collection: Collection, request: RequestId) -> str:
    return f"{collection.key}/{request.method}"
