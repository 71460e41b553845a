"""Streamed upserts for asyncio: the stream of ``quarry.client.upserts``, run in a thread.

It is not written anew on ``grpc.aio``, which reports INTERNAL in place of the server's status when a write
meets the end of a stream (https://github.com/grpc/grpc/issues/36066). A stream that may go on and one that
the server refused would look alike.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Coroutine, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic

from quarry.client.upserts import BATCH_BYTES, AnyBatch, Batch, Packer, Response, UpsertStream, make_batch
from quarry.v1 import types_pb2

Documents = Iterable[types_pb2.Document] | AsyncIterable[types_pb2.Document]


async def pack_documents_async(documents: Documents, batch_bytes: int = BATCH_BYTES) -> AsyncIterator[Batch]:
    """Yields batches in the order of ``documents``."""
    packer: Packer[types_pb2.Document] = Packer(lambda document: document.ByteSize(), batch_bytes)
    async for document in _iterate(documents):
        if ready := packer.add(document):
            yield make_batch(ready)
    if rest := packer.take_rest():
        yield make_batch(rest)


async def _iterate(documents: Documents) -> AsyncIterator[types_pb2.Document]:
    if isinstance(documents, AsyncIterable):
        async for document in documents:
            yield document
    else:
        for document in documents:
            yield document


async def write_in_thread(
    stream: UpsertStream[AnyBatch], batches: AsyncIterator[AnyBatch]
) -> AsyncIterator[tuple[AnyBatch, Response]]:
    """Yields what ``stream.write`` yields. Ended early or cancelled, it ends the stream and the thread."""
    loop = asyncio.get_running_loop()
    source = _ThreadSource(batches, loop)
    answers = stream.write(source)
    with ThreadPoolExecutor(1, thread_name_prefix="upsert") as thread:
        try:
            while (answer := await loop.run_in_executor(thread, next, answers, None)) is not None:
                yield answer
        finally:
            stream.stop()
            source.cancel()
            await asyncio.shield(loop.run_in_executor(thread, answers.close))


class _ThreadSource(Generic[AnyBatch]):
    """Batches that an event loop makes and a thread takes."""

    def __init__(self, batches: AsyncIterator[AnyBatch], loop: asyncio.AbstractEventLoop) -> None:
        self._batches, self._loop = batches, loop
        self._pending: Future[AnyBatch | None] | None = None

    def __iter__(self) -> Iterator[AnyBatch]:
        while True:
            following: Coroutine[Any, Any, AnyBatch | None] = self._take()
            self._pending = asyncio.run_coroutine_threadsafe(following, self._loop)
            batch = self._pending.result()
            if batch is None:
                return
            yield batch

    async def _take(self) -> AnyBatch | None:
        return await anext(self._batches, None)

    def cancel(self) -> None:
        """Ends the wait for a batch that the event loop makes."""
        if self._pending is not None:
            self._pending.cancel()
