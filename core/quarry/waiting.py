"""Waiting for work that others may cancel, and that must not be left behind."""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TypeVar

from quarry.errors import Cancelled

T = TypeVar("T")


async def until_ended(task: "asyncio.Task[T]") -> T:
    """The task's result; whoever cancels the wait cancels the task, and waits for what comes of that.

    Raises Cancelled if the task itself was cancelled: what it works on was deleted.
    """
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if task.cancelled():
            raise Cancelled("what the job works on was deleted meanwhile") from None
        task.cancel()
        await asyncio.wait([task])
        if task.cancelled() or task.exception():
            raise
        return task.result()  # it was too late: the work is done


async def undisturbed(work: Awaitable[T]) -> T:
    """The result of ``work``, which a cancellation neither ends nor leaves behind."""
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            continue
    return task.result()


async def end(tasks: Iterable["asyncio.Task[T]"]) -> None:
    """Cancels them, and waits until they have ended."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    if ending:
        await asyncio.wait(ending)
