"""Long-running operations: each a row, so that its outcome survives the server.

Payloads are opaque bytes: what they mean is the API's business.
"""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from quarry.documents.catalog import read_now_us
from quarry.documents.tables import operations
from quarry.documents.writer import GroupCommitWriter
from quarry.errors import (
    Cancelled,
    DiskFullError,
    FailedPreconditionError,
    NotFoundError,
    QuarryError,
    UnavailableError,
)
from quarry.storage.disk import is_disk_full
from quarry.waiting import finish_undisturbed

logger = logging.getLogger(__name__)
STOPPED = UnavailableError("the server stopped before the operation ended")


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation as it is now.

    Attributes:
        name: unique, such as ``repair-3f0c...``.
        metadata: progress, serialized.
        response: result, serialized; None unless it ended well.
        error: what went wrong, serialized; None unless it failed.
    """

    name: str
    metadata: bytes
    done: bool
    response: bytes | None = None
    error: bytes | None = None


SetMetadata = Callable[[bytes], Awaitable[None]]
Job = Callable[[SetMetadata], Awaitable[bytes]]
"""Does the work; gets a way to report progress; returns the serialized response."""


def make_name(kind: str) -> str:
    return f"{kind}-{uuid.uuid4().hex}"


class Operations:
    """Starts, remembers, cancels and forgets operations.

    Args:
        describe_error: turns what went wrong into the bytes that ``Operation.error`` holds.
    """

    def __init__(
        self,
        engine: sa.Engine,
        writer: GroupCommitWriter,
        describe_error: Callable[[QuarryError], bytes],
    ) -> None:
        self._engine, self._writer, self._describe_error = engine, writer, describe_error
        self._running: dict[str, asyncio.Task[None]] = {}
        self._lasting: set[str] = set()
        self._closing = False

    @property
    def closing(self) -> bool:
        """Whether jobs are being stopped because the server ends, not because someone cancelled them."""
        return self._closing

    async def recover(self, lasting: Collection[str] = ()) -> None:
        """Marks as failed what was running when the last server ended, but for what is ``lasting``."""
        values = {"done": True, "error": self._describe_error(STOPPED)}
        lost = sa.and_(operations.c.done.is_(False), operations.c.name.not_in(lasting))
        await self._write(sa.update(operations).where(lost).values(values))

    async def resume(self, name: str, metadata: bytes, job: Job) -> Operation:
        """Runs a ``job`` that can be gone on with: when the server ends, its operation is left unfinished.

        The first time, too: then ``name`` is ``make_name(kind)``.
        """
        await self._write(sa.delete(operations).where(operations.c.name == name))
        self._lasting.add(name)
        return await self.start("", metadata, job, name)

    async def start(self, kind: str, metadata: bytes, job: Job, name: str = "") -> Operation:
        """Runs ``job`` in the background. A ``name`` that the caller has chosen is ``make_name(kind)``.

        A caller that goes meanwhile ends nothing: an operation without a task would never end.
        """
        return await finish_undisturbed(self._begin(name or make_name(kind), metadata, job))

    async def _begin(self, name: str, metadata: bytes, job: Job) -> Operation:
        await self._write(
            sa.insert(operations).values(
                name=name, metadata=metadata, done=False, create_time_us=read_now_us()
            )
        )
        self._running[name] = asyncio.create_task(self._run(name, job), name=name)
        return Operation(name, metadata, done=False)

    async def get(self, name: str) -> Operation:
        """Raises NotFoundError."""
        rows = await asyncio.to_thread(self._read, sa.select(operations).where(operations.c.name == name))
        for operation in rows:
            return operation
        raise NotFoundError(f"no operation is called {name[:80]!r}", operation=name[:80])

    async def read_page(self, after: str, limit: int) -> list[Operation]:
        """Reads operations in order of name, those whose name is greater than ``after``; without their
        responses."""
        columns = [column for column in operations.c if column is not operations.c.response]
        query = sa.select(*columns, sa.null().label("response")).where(operations.c.name > after)
        query = query.order_by(operations.c.name)
        return await asyncio.to_thread(self._read, query.limit(limit))

    async def wait(self, name: str, timeout_s: float | None) -> Operation:
        """Waits for the operation: returns it when it is done, or as it is after ``timeout_s``."""
        if task := self._running.get(name):
            await asyncio.wait([task], timeout=timeout_s)
        return await self.get(name)

    async def cancel(self, name: str) -> None:
        """Asks a running operation to stop; one that has ended stays as it is."""
        await self.get(name)
        if task := self._running.get(name):
            task.cancel()

    async def end(self, name: str) -> None:
        """Ends an operation as ``cancel`` does; one that is not there needs nothing."""
        with contextlib.suppress(NotFoundError):
            await self.cancel(name)

    async def forget(self, name: str) -> None:
        """Raises FailedPreconditionError while the operation runs."""
        if not (await self.get(name)).done:
            raise FailedPreconditionError("the operation is still running: cancel it first", operation=name)
        await self._write(sa.delete(operations).where(operations.c.name == name))

    async def forget_telling(self, kind: str, words: Collection[str]) -> int:
        """Forgets ended operations of a kind whose response holds one of the words; returns how many.

        The write-ahead log may hold them still; whoever wants them gone empties it.
        """
        c = operations.c
        forgotten = 0
        for word in words:
            telling = sa.func.instr(c.response, word.encode()) > 0
            statement = sa.delete(operations).where(c.done, c.name.like(f"{kind}-%"), telling)
            forgotten += await self._write(statement)
        return forgotten

    async def close(self) -> None:
        """Stops what is running."""
        self._closing = True
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, name: str, job: Job) -> None:
        async def report(metadata: bytes) -> None:
            await self._set(name, metadata=metadata)

        try:
            await self._set(name, response=await job(report), done=True)
        except asyncio.CancelledError:
            if self._closing and name in self._lasting:
                return
            error = STOPPED if self._closing else Cancelled("the operation was cancelled")
            await self._set(name, error=self._describe_error(error), done=True)
        except QuarryError as error:
            await self._set(name, error=self._describe_error(error), done=True)
        except Exception as error:
            problem = QuarryError(f"internal error: {type(error).__name__}: {error}")
            if is_disk_full(error):
                problem = DiskFullError("a disk of the server is full; the operation was given up")
            logger.exception("the operation %s failed with an error that has no type", name)
            await self._set(name, error=self._describe_error(problem), done=True)
        finally:
            self._running.pop(name, None)
            self._lasting.discard(name)

    async def _set(self, name: str, **values: bytes | bool) -> None:
        await self._write(sa.update(operations).where(operations.c.name == name).values(**values))

    async def _write(self, statement: sa.Insert | sa.Update | sa.Delete) -> int:
        """Writes, and returns how many rows changed."""
        writing = self._writer.submit(lambda connection: max(0, connection.execute(statement).rowcount))
        return await asyncio.wrap_future(writing)

    def _read(self, query: sa.Select[Any]) -> list[Operation]:
        with self._engine.connect() as connection:
            return [
                Operation(row.name, row.metadata, row.done, row.response, row.error)
                for row in connection.execute(query)
            ]
