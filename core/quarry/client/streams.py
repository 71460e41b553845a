"""Batches that are streamed ahead of their acknowledgements, and go on in a new stream when one breaks.

Servers cut a connection that has become old, and the streams on it. So a stream that takes an hour breaks,
even if nothing is wrong.
"""

import math
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

import grpc

from quarry.client.errors import ProtocolError, QuarryCallError, StreamStalledError
from quarry.client.sources import SentRequests

WINDOW = 4
"""Batches that are sent and not yet acknowledged, at most."""
ACKNOWLEDGEMENT_S = 120.0
RETRIES = 6
"""Streams that are opened anew, one after another, while none gets an acknowledgement."""
BACKOFF_S = 0.25
"""Wait before the first of them; it doubles each time."""


class Acknowledgement(Protocol):
    """The answer of a server to one batch: a status for each of its entries."""

    @property
    def statuses(self) -> Any: ...


B = TypeVar("B")
A = TypeVar("A", bound=Acknowledgement)


class Window(Generic[B]):
    """The batches that are sent and not yet acknowledged, oldest first, and how often a stream broke.

    After a break they are sent again: the server knows those that it has written by the ids in them.
    """

    def __init__(self, most: int, count: Callable[[B], int]) -> None:
        """``count`` says how many entries a batch has."""
        self.batches: deque[B] = deque()
        self._most, self._count = most, count
        self._failed = 0

    @property
    def has_room(self) -> bool:
        return len(self.batches) < self._most

    def acknowledge(self, response: Acknowledgement | None) -> B:
        """Returns the batch that ``response`` belongs to. Raises ProtocolError if it fits none."""
        if response is None or len(response.statuses) != self._count(self.batches[0]):
            raise ProtocolError("an acknowledgement does not fit its batch")
        self._failed = 0
        return self.batches.popleft()

    def pause_after(self, error: QuarryCallError) -> float:
        """Returns the seconds to wait before the next stream. Raises ``error`` if there is to be none."""
        if error.code is not grpc.StatusCode.UNAVAILABLE or self._failed == RETRIES:
            raise error
        self._failed += 1
        return BACKOFF_S * 2.0 ** (self._failed - 1)


class AcknowledgedStream(Generic[B, A]):
    """Sends batches and yields what became of each, in order.

    A stream that breaks with UNAVAILABLE is opened again, and goes on with the first batch that was not
    acknowledged.

    Args:
        method: of a stub that was made on a CheckedChannel.
        config: first message of each stream.
        wrap: makes the message of a batch. It must be the same whenever the batch is sent, with ids by which
            the server knows what it has written.
        count: says how many entries a batch has.
        window: batches that are sent and not yet acknowledged, at most. Of a source that is slow, an
            acknowledgement is read when so many have come, or the source has ended.
        timeout_s: longest wait for one acknowledgement. A stream as long as its input can have no deadline.
    """

    def __init__(
        self,
        method: Callable[[Iterator[Any]], Any],
        config: Any,
        wrap: Callable[[B], Any],
        count: Callable[[B], int],
        *,
        window: int = WINDOW,
        timeout_s: float = ACKNOWLEDGEMENT_S,
    ) -> None:
        self._method, self._config, self._wrap, self._timeout_s = method, config, wrap, timeout_s
        self._window: Window[B] = Window(window, count)
        self._stopped = threading.Event()
        self._call: Any = None

    def stop(self) -> None:
        """Ends the stream, from another thread: ``write`` raises, and opens no other."""
        self._stopped.set()
        if self._call is not None:
            self._call.cancel()

    def write(self, batches: Iterable[B]) -> Generator[tuple[B, A], None, None]:
        """Yields each batch with its acknowledgement.

        What ``batches`` raise ends it, even if that is a failed call to a server.

        Raises:
            QuarryCallError: the server refused the stream, or stayed unavailable.
            StreamStalledError: it acknowledged nothing in time.
            ProtocolError: an acknowledgement does not fit its batch.
        """
        source = SentRequests(batches)
        left = iter(source)
        while True:
            try:
                yield from self._write_once(left)
                return
            except QuarryCallError as error:
                if error is source.error or self._stopped.wait(self._window.pause_after(error)):
                    raise

    def _write_once(self, batches: Iterator[B]) -> Iterator[tuple[B, A]]:
        requests: SimpleQueue[Any] = SimpleQueue()
        call = self._call = self._method(iter(requests.get, None))
        if self._stopped.is_set():  # `stop` came before there was a call to end
            call.cancel()
        try:
            requests.put(self._config)
            for batch in self._window.batches:
                requests.put(self._wrap(batch))
            while self._fill(batches, requests):
                with self._watch(call):
                    response: Any = next(call, None)
                yield self._window.acknowledge(response), response
            requests.put(None)
            with self._watch(call):
                next(call, None)  # the server ends the stream too
        finally:
            requests.put(None)
            call.cancel()

    def _fill(self, batches: Iterator[B], requests: "SimpleQueue[Any]") -> bool:
        """Sends batches while the window has room. Returns whether any is on its way."""
        while self._window.has_room and (batch := next(batches, None)) is not None:
            self._window.batches.append(batch)
            requests.put(self._wrap(batch))
        return bool(self._window.batches)

    @contextmanager
    def _watch(self, call: Any) -> Iterator[None]:
        """Ends the call, and what waits for it, if nothing comes in time; with no bound, never."""
        if math.isinf(self._timeout_s):
            yield
            return
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            call.cancel()

        timer = threading.Timer(self._timeout_s, expire)
        timer.daemon = True
        timer.start()
        try:
            yield
        except QuarryCallError as error:
            if expired.is_set():
                raise StreamStalledError(self._timeout_s) from error
            raise
        finally:
            timer.cancel()
