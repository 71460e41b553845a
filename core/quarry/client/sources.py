"""Sources of streams, asynchronous or not, and the errors that they raise."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")


async def iterate_async(items: Iterable[Item] | AsyncIterable[Item]) -> AsyncIterator[Item]:
    """Yields the items of either kind of source."""
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


class SentRequests:
    """A stream of requests that remembers what its source raised: gRPC tells the caller nothing of it.

    Attributes:
        error: of the source, if there was one.
    """

    def __init__(self, source: Any) -> None:
        self._source = source
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self._source
        except Exception as error:
            self.error = error
            raise

    async def read(self) -> AsyncIterator[Any]:
        """Iterates like a plain loop, where the source may be asynchronous."""
        try:
            async for request in iterate_async(self._source):
                yield request
        except Exception as error:
            self.error = error
            raise
