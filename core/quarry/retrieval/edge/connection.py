"""A running store process and the calls in flight to it."""

import asyncio
import contextlib
import itertools
import logging
import socket
import sys
from collections.abc import Mapping
from typing import Any

from quarry.errors import DataLossError, DiskFullError, QuarryError, RetrieverUnavailableError
from quarry.retrieval.edge.activity import Activity
from quarry.retrieval.edge.store_settings import StoreSettings
from quarry.retrieval.edge.wire import HEADER, PING, Greeting, Reply, StoreRequest, decode, encode
from quarry.storage.disk import says_disk_is_full

logger = logging.getLogger(__name__)

START_TIMEOUT_S = 120.0
CLOSE_TIMEOUT_S, KILL_TIMEOUT_S = 3.0, 1.0
"""How long a process may take to flush and exit, and to be gone once it was killed."""
BUFFER_BYTES = 2**22


class WorkerConnection:
    """Calls of one store process; once it is lost it stays so. Made by ``start``."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process, self._reader, self._writer = process, reader, writer
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._pings: dict[int, asyncio.Future[Any]] = {}
        self._ids = itertools.count(1)
        self._lost = False
        self._hung: str | None = None
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, settings: StoreSettings) -> "WorkerConnection":
        """Starts a process that has the store open.

        Raises:
            DataLossError: the folder is of another generation.
            RetrieverUnavailableError: the process ended, or cannot open the store.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-P", "-m", "quarry.retrieval.edge.store_worker", str(theirs.fileno())),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        reader, writer = await asyncio.open_connection(sock=ours, limit=BUFFER_BYTES)
        connection = cls(process, reader, writer)
        try:
            await connection._greet(settings)
        except BaseException:
            await connection.kill()
            raise
        connection._reading = asyncio.create_task(connection._read(), name="dense store replies")
        return connection

    async def _greet(self, settings: StoreSettings) -> None:
        try:
            self._writer.write(encode(settings))
            async with asyncio.timeout(START_TIMEOUT_S):
                greeting: Greeting = await self._receive()
        except TimeoutError:
            raise RetrieverUnavailableError("dense", "its process does not start") from None
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise RetrieverUnavailableError("dense", "its process ended at start") from error
        if greeting.data_loss is not None:
            raise DataLossError(greeting.data_loss)
        if greeting.error is not None:
            raise _make_store_error(greeting.error)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def call(self, method: str, *arguments: Any) -> Any:
        """Calls the store and returns its answer.

        Raises:
            RetrieverUnavailableError: the process is gone, went, hangs, or could not do it.
        """
        if self._lost:
            raise RetrieverUnavailableError("dense", "its process has ended")
        if self._hung is not None and method != PING:
            raise RetrieverUnavailableError("dense", self._hung)
        request = StoreRequest(next(self._ids), method, arguments)
        waiting = asyncio.get_running_loop().create_future()
        (self._pings if method == PING else self._waiting)[request.id] = waiting
        try:
            self._writer.write(encode(request))
            return await waiting
        finally:
            self._waiting.pop(request.id, None)
            self._pings.pop(request.id, None)

    @property
    def hung(self) -> str | None:
        """Why the process is not asked now; None if it is."""
        return self._hung

    def refuse(self, why: str | None) -> None:
        """Fails calls that wait and those that come, since the process hangs; with None it is asked again."""
        self._hung = why
        if why is not None:
            _fail(self._waiting, why)

    async def wait_until_lost(self) -> None:
        """Returns when the process is gone and its calls have failed."""
        if self._reading is not None:
            await asyncio.shield(self._reading)

    async def _receive(self) -> Any:
        (size,) = HEADER.unpack(await self._reader.readexactly(HEADER.size))
        return decode(await self._reader.readexactly(size))

    async def _read(self) -> None:
        try:
            while True:
                self._settle(await self._receive())
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the process has ended, or is ending because we closed
        except Exception:
            logger.exception("the dense store's process sends what cannot be read")
            self._process.kill()
        finally:
            self._fail_all()
            self._writer.close()
            await self._process.wait()

    def _settle(self, reply: Reply) -> None:
        waiting = self._waiting.get(reply.id) or self._pings.get(reply.id)
        if waiting is None or waiting.done():  # its caller has gone
            return
        if reply.error is None:
            waiting.set_result(reply.value)
        else:
            waiting.set_exception(_make_store_error(reply.error))

    def _fail_all(self) -> None:
        self._lost = True
        _fail(self._waiting, "its process ended during the call")
        _fail(self._pings, "its process ended during the call")

    async def close(self) -> None:
        """Lets the process flush and exit, and kills one that hangs or takes longer than ``CLOSE_TIMEOUT_S``.

        Nothing that was flushed is lost, and what was not comes from the log again.
        """
        if self._writer.can_write_eof():
            self._writer.write_eof()
        why = self._hung
        activity = Activity(self.pid)
        activity.note()
        if why is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self.wait_until_lost()
        if not self._lost:
            state = "is at work" if activity.is_at_work() else "hangs"
            why = why or self._hung or f"it did not end within {CLOSE_TIMEOUT_S:g} s and {state}"
            logger.error("the dense store's process %d is killed: %s", self.pid, why)
            await self.kill()

    def end(self) -> None:
        """Kills the process, and does not wait until it is gone."""
        if self._process.returncode is None:
            self._process.kill()

    async def kill(self) -> None:
        """Ends the process at once; nothing that was flushed is lost."""
        self.end()
        try:
            async with asyncio.timeout(KILL_TIMEOUT_S):
                await self._process.wait()
                await self.wait_until_lost()
        except TimeoutError:  # it waits for a disk that does not answer
            logger.error("the dense store's process %d cannot be killed and is left", self.pid)
        self._writer.close()


def _make_store_error(message: str) -> QuarryError:
    """Makes an error of what the store process said went wrong."""
    if says_disk_is_full(message):
        return DiskFullError(f"the disk that holds the dense index is full: {message}")
    return RetrieverUnavailableError("dense", message)


def _fail(waiting: Mapping[int, "asyncio.Future[Any]"], why: str) -> None:
    for future in waiting.values():
        if not future.done():
            future.set_exception(RetrieverUnavailableError("dense", why))
