"""Streamed upserts for asyncio: the stream of ``quarry.client.upserts``, run in a thread.

It is not written anew on ``grpc.aio``, which reports INTERNAL in place of the server's status when a write
meets the end of a stream (https://github.com/grpc/grpc/issues/36066). A stream that may go on and one that
the server refused would look alike.
"""

import asyncio
import threading
from collections.abc import AsyncIterable, AsyncIterator, Coroutine, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any, Generic

from quarry.client.transfers import iterate_async
from quarry.client.upserts import BATCH_BYTES, AnyBatch, Batch, Packer, Response, UpsertStream, make_batch
from quarry.v1 import types_pb2

Documents = Iterable[types_pb2.Document] | AsyncIterable[types_pb2.Document]


async def pack_documents_async(documents: Documents, batch_bytes: int = BATCH_BYTES) -> AsyncIterator[Batch]:
    """Yields batches in the order of ``documents``."""
    packer: Packer[types_pb2.Document] = Packer(lambda document: document.ByteSize(), batch_bytes)
    async for document in iterate_async(documents):
        if ready := packer.add(document):
            yield make_batch(ready)
    if rest := packer.take_rest():
        yield make_batch(rest)


async def write_in_thread(
    stream: UpsertStream[AnyBatch], batches: Iterable[AnyBatch] | AsyncIterable[AnyBatch]
) -> AsyncIterator[tuple[AnyBatch, Response]]:
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


class _ThreadSource(Generic[AnyBatch]):
    """Batches that an event loop makes and a thread takes."""

    def __init__(self, batches: AsyncIterator[AnyBatch], loop: asyncio.AbstractEventLoop) -> None:
        self._batches, self._loop = batches, loop
        self._pending: Future[AnyBatch | None] | None = None
        self._lock, self._cancelled = threading.Lock(), False

    def __iter__(self) -> Iterator[AnyBatch]:
        while True:
            batch = self._ask().result()
            if batch is None:
                return
            yield batch

    def _ask(self) -> "Future[AnyBatch | None]":
        with self._lock:
            if self._cancelled:
                raise CancelledError
            following: Coroutine[Any, Any, AnyBatch | None] = self._take()
            self._pending = asyncio.run_coroutine_threadsafe(following, self._loop)
            return self._pending

    async def _take(self) -> AnyBatch | None:
        return await anext(self._batches, None)

    def cancel(self) -> None:
        """Ends the wait for a batch that the event loop makes, and lets no other begin."""
        with self._lock:
            self._cancelled = True
            if self._pending is not None:
                self._pending.cancel()
