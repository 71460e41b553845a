"""Jobs on collections as operations: each starts once for a request id, and says how far it is."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from google.longrunning import operations_pb2
from google.protobuf.message import Message

from quarry.collections.collections import Collections
from quarry.documents.catalog import Collection
from quarry.documents.requests import forget, recall, run_once
from quarry.documents.store import RequestId
from quarry.jobs.operations import Operation, Operations, make_name
from quarry.jobs.process import OnProgress
from quarry.jobs.runner import ReadDeleted
from quarry.waiting import finish_undisturbed
from quarry_server.common.operations import Tell, make_job, pack_any, to_operation_message

Work = Callable[[OnProgress], Awaitable[Message]]
"""Does what an operation is for, and says how far it is; its response."""


class CollectionWork(Protocol):
    """Jobs that go with the collections that they are made from."""

    async def remove_of_deleted(self, read_deleted: ReadDeleted) -> None: ...


@dataclass(frozen=True, slots=True)
class OperationPlan:
    """An operation that can begin: its request was checked.

    Attributes:
        metadata: of the operation. It has ``stage`` and ``progress``.
        work: may set other fields of the metadata; they are written with the next stage.
    """

    metadata: Any
    work: Work


class CollectionJobs:
    """The steps that services of all kinds of jobs share.

    Args:
        jobs: whose remains go with deleted collections.
    """

    def __init__(self, open_collections: Collections, operations: Operations, jobs: CollectionWork) -> None:
        self._open_collections, self._operations, self._jobs = open_collections, operations, jobs
        self._starting = asyncio.Lock()

    async def tidy(self) -> None:
        """Removes at the start what deleted collections have left, and from then on what they leave."""

        async def remove(_deleted: Collection) -> None:
            await self.remove_of_deleted()

        await self.remove_of_deleted()
        self._open_collections.notify_when_deleted(remove)

    async def remove_of_deleted(self) -> None:
        """Removes what is made from collections that were deleted."""
        await self._jobs.remove_of_deleted(self._open_collections.read_deleted_keys)

    async def find_collection(self, name: str) -> Collection:
        """Returns the row of the collection of this name or alias. Raises as ``Collections.use``."""
        return await self._open_collections.read_current(self._open_collections.find_name(name))

    def find_name(self, name: str) -> str:
        """Returns the own name of the collection of a list; none for none. Raises as ``Collections.use``."""
        return self._open_collections.find_name(name) if name else ""

    async def find_started(
        self, collection: Collection, request: RequestId
    ) -> operations_pb2.Operation | None:
        """Finds the operation that an earlier call with this request id has started.

        Ask before the request is checked: a repeated request is not checked again, for what it names may be
        gone.

        Raises:
            InvalidArgumentError: the request id was used for another request.
        """
        scope = _make_scope(collection, request)
        async with self._starting:
            first = await asyncio.to_thread(
                self._open_collections.database.read,
                lambda c: recall(c, scope, request.id, request.request, bytes.decode),
            )
        return to_operation_message(await self._operations.get(first)) if first else None

    async def start_once(
        self, collection: Collection, request: RequestId, kind: str, plan: OperationPlan
    ) -> operations_pb2.Operation:
        """Starts an operation, or finds the one that another call with this request id has started meanwhile.

        Args:
            kind: the operation's name begins with it.

        Raises:
            InvalidArgumentError: the request id was used for another request.
        """
        scope, name = _make_scope(collection, request), make_name(kind)
        database = self._open_collections.database

        async def begin() -> Operation:
            async with self._starting:  # or a repeat might not find the operation that it should return
                first = await database.write(
                    lambda c: run_once(
                        c, scope, request.id, request.request, lambda _: name, str.encode, bytes.decode
                    )
                )
                if first != name:
                    return await self._operations.get(first)
                try:
                    return await self.start(plan, name)
                except BaseException:
                    await database.write(lambda c: forget(c, scope, request.id))
                    raise

        # A caller that goes in between would leave a request id that finds no operation.
        return to_operation_message(await finish_undisturbed(begin()))

    async def start(self, plan: OperationPlan, name: str) -> Operation:
        """Starts an operation; ``name`` comes from ``make_name``."""
        metadata = plan.metadata

        async def work(tell: Tell) -> Message:
            async def on_progress(stage: str, progress: float) -> None:
                metadata.stage, metadata.progress = stage, progress
                await tell()

            response = await plan.work(on_progress)
            await on_progress("done", 1.0)
            return response

        return await self._operations.start("", pack_any(metadata), make_job(metadata, work), name)


def _make_scope(collection: Collection, request: RequestId) -> str:
    return f"{collection.key}/{request.method}"
