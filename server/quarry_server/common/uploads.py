"""Files that arrive as a stream of requests: the first one says what the file is for, the others hold it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from quarry.errors import InvalidArgumentError, LimitExceededError, RequiredError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StreamForm:
    """The form of the requests of a stream.

    Attributes:
        oneof: the field that is either ``opening``, in the first request, or ``body``, in all others.
        too_large: says that the file has over so many bytes; it holds ``{}`` for the number.
    """

    oneof: str
    opening: str
    body: str
    too_large: str


async def receive_file(
    requests: AsyncIterator[Any],
    form: StreamForm,
    parse: Callable[[Any], Awaitable[T]],
    path: Path,
    most_bytes: int,
) -> tuple[T, int]:
    """Writes a stream to a file, which is the caller's to remove.

    Args:
        parse: gets what the stream opens with.
        most_bytes: of the file.

    Returns:
        What ``parse`` gave, and the size of the file in bytes.

    Raises:
        InvalidArgumentError: the stream does not have this form, or ``parse`` refused what it opens with.
        LimitExceededError: the file is too large.
        OSError: the file cannot be written.
    """
    opened: T | None = None
    size = 0
    with await asyncio.to_thread(path.open, "wb") as file:
        async for request in requests:
            kind = request.WhichOneof(form.oneof)
            if (kind == form.opening) != (opened is None):
                raise InvalidArgumentError(form.oneof, f"the stream opens with {form.opening}, and only once")
            if kind == form.opening:
                opened = await parse(getattr(request, form.opening))
                continue
            if kind is None:
                raise RequiredError(form.oneof, f"holds neither {form.opening} nor {form.body}")
            piece = getattr(request, form.body)
            size += len(piece)
            if size > most_bytes:
                raise LimitExceededError(form.too_large.format(most_bytes))
            await asyncio.to_thread(file.write, piece)
    if opened is None:
        raise RequiredError(form.oneof, f"the stream is empty: it opens with {form.opening}")
    return opened, size
