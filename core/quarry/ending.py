"""Ends the parts of a program within a time that is known, whatever hangs."""

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

logger = logging.getLogger(__name__)
T = TypeVar("T")

LONGEST_STEP_S, SHORTEST_STEP_S = 5.0, 0.5
"""A part gets what is left of the time for all, between these bounds."""


class Ending:
    """Ends parts from the last to the first when its block is left. One that hangs is named and left behind.

    Args:
        seconds: for all parts together, from the moment at which the block is left.

    Attributes:
        doing: the part that is being ended.
        left: parts that were left behind, so that the program cannot end by itself.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._stack = contextlib.AsyncExitStack()
        self._until_s = 0.0
        self.doing = "the start, or calls that run"
        self.left: list[str] = []

    async def __aenter__(self) -> "Ending":
        return self

    async def __aexit__(self, *problem: object) -> None:
        self._until_s = time.monotonic() + self._seconds
        await self._stack.aclose()
        self.doing = "what is left"

    def push(self, what: str, close: Callable[[], Awaitable[object]]) -> None:
        """Calls ``close`` when the block is left; what it raises is raised there."""
        self._stack.push_async_callback(self._end, what, close)

    async def enter(self, what: str, context: AbstractAsyncContextManager[T]) -> T:
        """Enters ``context``, and leaves it with the block."""
        entered = await context.__aenter__()
        self.push(what, lambda: context.__aexit__(None, None, None))
        return entered

    async def _end(self, what: str, close: Callable[[], Awaitable[object]]) -> None:
        self.doing = what
        limit_s = max(SHORTEST_STEP_S, min(LONGEST_STEP_S, self._until_s - time.monotonic()))
        task = asyncio.ensure_future(close())
        done, _ = await asyncio.wait([task], timeout=limit_s)
        if done:
            task.result()
            return
        task.cancel()
        self.left.append(what)
        logger.error("%s: does not end within %.1f s and is left behind", what, limit_s)


async def end_threads(threads: ThreadPoolExecutor, grace_s: float) -> None:
    """Drops what waits for a thread, and waits at most ``grace_s`` for what the threads are at."""
    try:
        async with asyncio.timeout(grace_s):
            await asyncio.to_thread(threads.shutdown, cancel_futures=True)
    except TimeoutError:
        logger.error("a thread does not end within %.1f s and is left behind", grace_s)


class LastResort:
    """Ends this process after a time if nothing else does. Every acknowledged write is on disk before its
    acknowledgement, so that this loses nothing that anyone was promised; the exit status is 0.

    Args:
        seconds: from ``start``.
        doing: says what hangs.
    """

    def __init__(self, seconds: float, doing: Callable[[], str]) -> None:
        self._seconds, self._doing = seconds, doing
        self._timer: threading.Timer | None = None

    def start(self) -> None:
        """Begins to count; a second call changes nothing."""
        if self._timer is None:
            self._timer = threading.Timer(self._seconds, self._end)
            self._timer.daemon = True
            self._timer.start()

    def _end(self) -> None:
        names = sorted(thread.name for thread in threading.enumerate() if not thread.daemon)
        logger.error("the process ends although this hangs: %s; threads: %s", self._doing(), ", ".join(names))
        end_now()


def end_now() -> None:
    """Ends this process without waiting for a thread."""
    logging.shutdown()
    os._exit(0)
