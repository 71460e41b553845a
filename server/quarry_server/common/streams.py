"""Streams of batches: the first request says what they are for, the others hold them."""

from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from quarry.errors import InvalidArgumentError, RequiredError

T = TypeVar("T")


async def read_batches(
    requests: AsyncIterator[Any], open_stream: Callable[[Any], T]
) -> AsyncIterator[tuple[T, Any]]:
    """Reads each batch of a stream, with what ``open_stream`` made of the config that it opens with.

    Args:
        requests: each has the oneof ``message``: a ``config`` or a ``batch``.

    Raises:
        InvalidArgumentError: the stream does not have this form.
        QuarryError: the one that ``open_stream`` raised.
    """
    opened: T | None = None
    async for request in requests:
        kind = request.WhichOneof("message")
        if (kind == "config") != (opened is None):
            raise InvalidArgumentError("message", "the stream opens with config, and only once")
        if kind == "config":
            opened = open_stream(request.config)
            continue
        if opened is None or kind is None:
            raise RequiredError("message", "holds neither config nor batch")
        yield opened, request.batch
