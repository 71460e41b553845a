"""Waiting for work that others may cancel, and that must not be left behind."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial
from typing import Any, TypeVar

from quarry.errors import Cancelled

T = TypeVar("T")

TellProgress = Callable[[int, int], None]
"""Is told how many parts of how many of a long piece of work are done."""


def tell_nobody(_done: int, _total: int) -> None:
    """Tells nobody, for work that nobody watches."""


async def wait_until_ended(task: "asyncio.Task[T]") -> T:
    """Waits for the task's result; whoever cancels the wait cancels the task, and waits for what comes of
    that.

    Raises Cancelled if the task itself was cancelled: what it works on was deleted.
    """
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if task.cancelled():
            raise Cancelled("what the job works on was deleted meanwhile") from None
        task.cancel()
        await finish_undisturbed(asyncio.wait([task]))  # a second cancellation leaves nothing behind, either
        if task.cancelled() or task.exception():
            raise
        return task.result()  # it was too late: the work is done


class TimedWork:
    """Work that is given up in time, and whose end is not waited for until ``close``."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def wait_for_result(self, work: Coroutine[Any, Any, T], timeout_s: float | None) -> T:
        """Waits for what ``work`` gives. It is cancelled after ``timeout_s``, or if the caller is, and then
        cleans up by itself, however long that takes.

        Raises TimeoutError.
        """
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._note_end)
        try:
            await asyncio.wait([task], timeout=timeout_s)
            if not task.done():
                raise TimeoutError
        finally:
            task.cancel()
        return task.result()

    def _note_end(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # looked at: nobody waits for what is given up

    async def close(self) -> None:
        """Gives up what runs, and waits for its end."""
        await end(self._tasks)


class OngoingWork:
    """Work that goes on to its end when its caller goes. Lives on one event loop."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def finish(self, work: Coroutine[Any, Any, T], on_end: Callable[[], None] | None = None) -> T:
        """Starts the work and returns its result. Who is cancelled meanwhile leaves at once.

        Args:
            on_end: called when the work has ended, well or not.
        """
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(partial(self._note_end, on_end))
        return await asyncio.shield(task)

    async def wait(self, timeout_s: float | None = None) -> None:
        """Waits until nothing is under way, what begins meanwhile included, at most ``timeout_s``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._tasks:
                    await asyncio.wait(self._tasks)

    def _note_end(self, on_end: Callable[[], None] | None, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if on_end is not None:
            on_end()


async def finish_undisturbed(work: Awaitable[T]) -> T:
    """Finishes ``work`` and returns its result, which a cancellation neither ends nor leaves behind.

    Who is cancelled meanwhile stays to the end; with ``OngoingWork`` they would leave.
    """
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            continue
    return task.result()


async def run_to_its_end(work: Awaitable[T]) -> T:
    """Returns what ``work`` gives. Whoever is cancelled meanwhile stays to its end, and is cancelled then: so
    nobody closes what a thread still uses."""
    running = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await finish_undisturbed(asyncio.wait([running]))
        raise


async def end(tasks: Iterable["asyncio.Task[T]"]) -> None:
    """Cancels them, and waits until they have ended."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    if ending:
        await asyncio.wait(ending)
