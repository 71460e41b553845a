"""Files that are sent to a server, or fetched from it, in pieces."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

from quarry.v1 import feedback_service_pb2, model_service_pb2, training_service_pb2

PIECE_BYTES = 2**20

Request = TypeVar("Request")


def read_pieces(path: Path) -> Iterator[bytes]:
    """Yields the file's bytes in pieces of at most 1 MiB."""
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece


async def read_pieces_async(path: Path) -> AsyncIterator[bytes]:
    """As ``read_pieces``; a thread reads, so that the event loop does not wait for the disk."""
    pieces = read_pieces(path)
    while piece := await asyncio.to_thread(next, pieces, b""):
        yield piece


def make_requests(
    pieces: Iterable[bytes], wrap: Callable[[bytes], Request], *first: Request
) -> Iterator[Request]:
    """Yields the ``first`` requests, then one for each piece."""
    yield from first
    for piece in pieces:
        yield wrap(piece)


async def make_requests_async(
    pieces: AsyncIterator[bytes], wrap: Callable[[bytes], Request], *first: Request
) -> AsyncIterator[Request]:
    """As ``make_requests``, for asyncio."""
    for request in first:
        yield request
    async for piece in pieces:
        yield wrap(piece)


def wrap_examples(piece: bytes) -> training_service_pb2.UploadExamplesRequest:
    return training_service_pb2.UploadExamplesRequest(parquet=piece)


def wrap_archive(piece: bytes) -> model_service_pb2.ImportModelRequest:
    return model_service_pb2.ImportModelRequest(archive=piece)


def wrap_log(piece: bytes) -> feedback_service_pb2.ImportEventsRequest:
    return feedback_service_pb2.ImportEventsRequest(data=piece)


@contextmanager
def replace_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a file beside ``path`` that takes its place at the end; after an error, what was there stays."""
    partial = path.with_name(f".{path.name}.part")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
