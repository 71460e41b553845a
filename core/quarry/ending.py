"""Ends the parts of a program within a time that is known, whatever hangs."""

import asyncio
import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TypeVar

from quarry.errors import QuarryError

logger = logging.getLogger(__name__)
T = TypeVar("T")

LONGEST_STEP_S, SHORTEST_STEP_S = 5.0, 0.5
"""A part gets what is left of the time for all, between these bounds."""
TELL_S = 0.5
"""How long the last words of a process may take: nobody may be reading them."""

Begins = Callable[[BaseException | None], None]


class Ending:
    """Ends parts from the last to the first when its block is left. One that hangs is named and left behind.

    Args:
        seconds: for all parts together, from the moment at which the block is left.
        begins: called at that moment, with what the block raised.

    Attributes:
        doing: the part that is being ended.
        left: parts that were left behind, so that the program cannot end by itself.
    """

    def __init__(self, seconds: float, begins: Begins | None = None) -> None:
        self._seconds, self._begins = seconds, begins
        self._stack = contextlib.AsyncExitStack()
        self._until_s = 0.0
        self.doing = "the start, or calls that run"
        self.left: list[str] = []

    async def __aenter__(self) -> "Ending":
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, problem: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._begins is not None:
            self._begins(problem)
        self._until_s = time.monotonic() + self._seconds
        try:
            await self._stack.aclose()
        except Exception:
            if not isinstance(problem, Exception):
                raise
            logger.exception("a part fails while the program ends because of another failure")
        self.doing = "what is left"

    def push(self, part: str, close: Callable[[], Awaitable[object]]) -> None:
        """Calls ``close`` when the block is left.

        If that fails, the block raises it once all parts have ended. A block that has failed itself raises
        its own failure, and that of ``close`` is logged.
        """
        self._stack.push_async_callback(self._end, part, close)

    async def enter(self, part: str, context: AbstractAsyncContextManager[T]) -> T:
        """Enters ``context``, and leaves it with the block."""
        entered = await context.__aenter__()
        self.push(part, lambda: context.__aexit__(None, None, None))
        return entered

    async def _end(self, part: str, close: Callable[[], Awaitable[object]]) -> None:
        self.doing = part
        limit_s = max(SHORTEST_STEP_S, min(LONGEST_STEP_S, self._until_s - time.monotonic()))
        task = asyncio.ensure_future(close())
        done, _ = await asyncio.wait([task], timeout=limit_s)
        if done:
            task.result()
            return
        task.cancel()
        self.left.append(part)
        logger.error("%s: does not end within %.1f s and is left behind", part, limit_s)


async def end_threads(threads: ThreadPoolExecutor, grace_s: float) -> None:
    """Drops what waits for a thread, and waits at most ``grace_s`` for what the threads are at."""
    try:
        async with asyncio.timeout(grace_s):
            await asyncio.to_thread(threads.shutdown, cancel_futures=True)
    except TimeoutError:
        logger.error("a thread does not end within %.1f s and is left behind", grace_s)


class LastResort:
    """Ends this process after a time if nothing else does.

    Every acknowledged write is on disk before its acknowledgement, so that this loses nothing that anyone was
    promised. The exit status is 0, or 1 if the process ends because of a failure.

    Args:
        seconds: from ``start``.
        doing: says what hangs.
    """

    def __init__(self, seconds: float, doing: Callable[[], str]) -> None:
        self._seconds, self._doing = seconds, doing
        self._timer: threading.Timer | None = None
        self._problem: Exception | None = None
        self._lock = threading.Lock()

    def start(self, problem: BaseException | None = None) -> None:
        """Begins to count; a second call does not begin again. May be called in any thread.

        Args:
            problem: why the process ends; an ``Exception`` is a failure.
        """
        with self._lock:
            if isinstance(problem, Exception):
                self._problem = problem
            if self._timer is None:
                self._timer = threading.Timer(self._seconds, self._end)
                self._timer.daemon = True
                self._timer.start()

    def _end(self) -> None:
        names = sorted(thread.name for thread in threading.enumerate() if not thread.daemon)
        hangs = f"the process ends although this hangs: {self._doing()}; threads: {', '.join(names)}"
        end_now(hangs, self._problem)


def end_now(message: str = "", problem: BaseException | None = None) -> None:
    """Ends this process without waiting for a thread, nor for long for a reader of its log.

    Args:
        message: logged first; empty: nothing.
        problem: logged first, too; the exit status is 1 if there is one.
    """

    def tell() -> None:
        if problem is not None:
            trace = None if isinstance(problem, QuarryError) else problem  # its message says all
            logger.error("the process ends because of a failure: %s", problem, exc_info=trace)
        if message:
            logger.error("%s", message)
        logging.shutdown()

    telling = threading.Thread(target=tell, name="last words", daemon=True)
    telling.start()
    telling.join(TELL_S)
    os._exit(0 if problem is None else 1)


def call_on_signals(numbers: Collection[int], call: Callable[[], None]) -> None:
    """Calls ``call`` for each of these signals that comes, in a thread of its own.

    Python runs handlers of signals in the main thread alone, which may hang. But whichever thread a signal
    arrives in, the interpreter writes its number into the wakeup pipe at once. This must be called in the
    main thread while its event loop runs, because uvloop sets a pipe of its own when it starts.
    """
    receiving, sending = os.pipe()
    os.set_blocking(sending, False)

    def watch() -> None:
        while number := os.read(receiving, 1):
            if number[0] in numbers:
                call()

    threading.Thread(target=watch, name="signals", daemon=True).start()
    signal.set_wakeup_fd(sending, warn_on_full_buffer=False)
    for number in numbers:
        signal.signal(number, lambda *_: None)
