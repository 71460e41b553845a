"""Streams for asyncio: those of ``quarry.client.streams``, run in a thread.

It is not written anew on ``grpc.aio``, which reports INTERNAL in place of the server's status when a write
meets the end of a stream (https://github.com/grpc/grpc/issues/36066). A stream that may go on and one that
the server refused would look alike.
"""

import asyncio
import threading
from collections.abc import AsyncIterable, AsyncIterator, Coroutine, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from quarry.client.sources import iterate_async
from quarry.client.streams import AcknowledgedStream, Acknowledgement

B = TypeVar("B")
A = TypeVar("A", bound=Acknowledgement)


async def write_in_thread(
    stream: AcknowledgedStream[B, A], batches: Iterable[B] | AsyncIterable[B]
) -> AsyncIterator[tuple[B, A]]:
    """Yields what ``stream.write`` yields. Ended early or cancelled, it ends the stream and the thread."""
    loop = asyncio.get_running_loop()
    source = _ThreadSource(iterate_async(batches), loop)
    answers = stream.write(source)
    thread = ThreadPoolExecutor(1, thread_name_prefix="upsert")
    try:
        while (answer := await loop.run_in_executor(thread, next, answers, None)) is not None:
            yield answer
    finally:
        stream.stop()
        source.cancel()
        closed = loop.run_in_executor(thread, answers.close)
        thread.shutdown(wait=False)  # the thread may wait for this loop, so the loop never waits for it
        await asyncio.shield(closed)


class _ThreadSource(Generic[B]):
    """Batches that an event loop makes and a thread takes."""

    def __init__(self, batches: AsyncIterator[B], loop: asyncio.AbstractEventLoop) -> None:
        self._batches, self._loop = batches, loop
        self._pending: Future[B | None] | None = None
        self._lock, self._cancelled = threading.Lock(), False

    def __iter__(self) -> Iterator[B]:
        while True:
            batch = self._ask().result()
            if batch is None:
                return
            yield batch

    def _ask(self) -> "Future[B | None]":
        with self._lock:
            if self._cancelled:
                raise CancelledError
            following: Coroutine[Any, Any, B | None] = self._take()
            self._pending = asyncio.run_coroutine_threadsafe(following, self._loop)
            return self._pending

    async def _take(self) -> B | None:
        return await anext(self._batches, None)

    def cancel(self) -> None:
        """Ends the wait for a batch that the event loop makes, and lets no other begin."""
        with self._lock:
            self._cancelled = True
            if self._pending is not None:
                self._pending.cancel()
