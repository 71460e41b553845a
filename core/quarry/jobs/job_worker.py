"""One process that does short tasks in turn: started by the first, ended when none comes for a while.

Each task has a bound on its time and its memory. A task that goes over it costs the process, and no more.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Mapping
from typing import Any

import orjson

from quarry.errors import LimitExceededError, QuarryError, UnavailableError
from quarry.jobs.memory_watch import MemoryWatch
from quarry.jobs.process import KEPT_LOG_LINES, describe_kill, end_process, load_error, log_stderr, start

logger = logging.getLogger(__name__)

IDLE_S = 60.0


class JobWorker:
    """Tasks of one kind, one at a time. Lives on one event loop; ended by ``close``.

    Args:
        module: runs ``quarry.jobs.child.work_as_worker``.
        memory_bytes: most memory that its process may take; 0 for no limit.
        task_s: how long a task may take, the start of the process included.
    """

    def __init__(self, module: str, memory_bytes: int, task_s: float) -> None:
        self._module, self._memory_bytes, self._task_s = module, memory_bytes, task_s
        self._turn = asyncio.Lock()
        self._running: _Running | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    async def run(self, task: Mapping[str, Any]) -> None:
        """Does a task when those before it are done. Cancelled, it ends the process.

        Raises:
            QuarryError: the one that the task reported.
            LimitExceededError: it took too much time or memory.
            JobKilledError: the process ended without a word.
            UnavailableError: ``close`` was called meanwhile.
        """
        work = asyncio.create_task(self._take_turn(task))
        self._tasks.add(work)
        work.add_done_callback(self._tasks.discard)
        try:
            await work
        except asyncio.CancelledError:
            if not self._closed:
                work.cancel()
                raise
            raise UnavailableError("the server stopped before the model was tried") from None

    async def close(self) -> None:
        """Ends the process, whatever it does."""
        self._closed = True
        if self._idle is not None:
            self._idle.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._ending, return_exceptions=True)
        await self._end()

    async def _take_turn(self, task: Mapping[str, Any]) -> None:
        async with self._turn:
            if self._closed:
                raise asyncio.CancelledError
            if self._idle is not None:
                self._idle.cancel()
            try:
                async with asyncio.timeout(self._task_s):
                    if self._running is None or self._running.ended:
                        await self._end()
                        self._running = await _Running.start(self._module, self._memory_bytes)
                    error = await self._running.answer(task)
            except TimeoutError:
                await self._end()
                raise LimitExceededError(
                    f"trying the model took over {self._task_s:g} s, the most that jobs.trial_s allows"
                ) from None
            except BaseException:
                await self._end()
                raise
            self._idle = asyncio.get_running_loop().call_later(IDLE_S, self._end_idle)
        if error is not None:
            raise error

    def _end_idle(self) -> None:
        if not self._turn.locked():
            ending = asyncio.create_task(self._end())
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    async def _end(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            await asyncio.shield(running.end())


class _Running:
    """The process while it runs."""

    def __init__(self, module: str, process: asyncio.subprocess.Process, memory_bytes: int) -> None:
        self._module, self._process = module, process
        self._watch = MemoryWatch(process, memory_bytes)
        self._last_words: deque[str] = deque(maxlen=KEPT_LOG_LINES)
        self._logging = asyncio.create_task(log_stderr(process, module, self._last_words))

    @classmethod
    async def start(cls, module: str, memory_bytes: int) -> "_Running":
        return cls(module, await start(module, []), memory_bytes)

    @property
    def ended(self) -> bool:
        return self._process.returncode is not None

    async def answer(self, task: Mapping[str, Any]) -> QuarryError | None:
        """Waits for what the task reports; None if it was done. Raises if the process ends meanwhile."""
        assert self._process.stdin is not None  # noqa: S101  both were asked for
        assert self._process.stdout is not None  # noqa: S101
        with contextlib.suppress(ConnectionError):  # its end is seen below
            self._process.stdin.write(orjson.dumps(dict(task)) + b"\n")
            await self._process.stdin.drain()
        async for line in self._process.stdout:
            try:
                said = orjson.loads(line)
            except orjson.JSONDecodeError:
                said = None
            if isinstance(said, dict) and "done" in said:
                return None
            if isinstance(said, dict) and "error" in said:
                return load_error(said["error"])
            logger.info("%s printed: %s", self._module, line.decode(errors="replace").rstrip())
        status = await self._process.wait()
        raise self._watch.find_problem(status) or describe_kill(self._module, status, self._last_words)

    async def end(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        await end_process(self._process)
        self._watch.stop()
        await self._logging
