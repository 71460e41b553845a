"""Documents packed into batches by their bytes, and streamed ahead of their acknowledgements."""

import math
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Generic, TypeAlias, TypeVar
from uuid import uuid4

import grpc

from quarry.client.errors import ProtocolError, QuarryCallError, StreamStalledError
from quarry.client.upsert_warnings import WarningCounts
from quarry.errors import QuarryError
from quarry.v1 import document_service_pb2 as pb
from quarry.v1 import types_pb2

Request: TypeAlias = pb.UpsertDocumentsRequest
Response: TypeAlias = pb.UpsertDocumentsResponse
Item = TypeVar("Item")

BATCH_BYTES = 2**20
MAX_BATCH_DOCUMENTS = 500
WINDOW = 4
"""Batches that are sent and not yet acknowledged, at most."""
ACKNOWLEDGEMENT_S = 120.0
RETRIES = 6
"""Streams that are opened anew, one after another, while none gets an acknowledgement."""
BACKOFF_S = 0.25
"""Wait before the first of them; it doubles each time."""
KEPT_REFUSALS = 100


@dataclass(frozen=True, slots=True)
class Batch:
    """Documents of one message.

    Attributes:
        request_id: of this batch; the server writes a batch that arrives again under it only once.
    """

    request_id: str
    documents: Sequence[types_pb2.Document]


AnyBatch = TypeVar("AnyBatch", bound=Batch)


class Packer(Generic[Item]):
    """Collects items until their bytes fill a batch.

    Args:
        size_of: bytes of an item.
        batch_bytes: of a batch at most; a larger item has one of its own.
    """

    def __init__(self, size_of: Callable[[Item], int], batch_bytes: int = BATCH_BYTES) -> None:
        self._size_of, self._batch_bytes = size_of, batch_bytes
        self._items: list[Item] = []
        self._bytes = 0

    def add(self, item: Item) -> list[Item]:
        """Returns the batch that ``item`` no longer fits in, and begins the next with it; mostly empty."""
        size = self._size_of(item)
        full = self._bytes + size > self._batch_bytes or len(self._items) == MAX_BATCH_DOCUMENTS
        ready = self.take_rest() if full else []
        self._items.append(item)
        self._bytes += size
        return ready

    def take_rest(self) -> list[Item]:
        """Returns what is left, and begins anew."""
        rest, self._items, self._bytes = self._items, [], 0
        return rest


def pack_documents(
    documents: Iterable[types_pb2.Document], batch_bytes: int = BATCH_BYTES
) -> Iterator[Batch]:
    """Yields batches in the order of ``documents``."""
    packer: Packer[types_pb2.Document] = Packer(lambda document: document.ByteSize(), batch_bytes)
    for document in documents:
        if ready := packer.add(document):
            yield make_batch(ready)
    if rest := packer.take_rest():
        yield make_batch(rest)


def make_batch(documents: Sequence[types_pb2.Document]) -> Batch:
    return Batch(str(uuid4()), documents)


@dataclass(slots=True)
class UpsertSummary:
    """The result of streamed documents.

    Attributes:
        written: documents on disk.
        refused: documents that were not written.
        refusals: ids and reasons of the first hundred of them.
        sequence: number of the last write, 0 if there was none.
        reached: how far the last batch had come when it was acknowledged. LOGGED although SEARCHABLE was
            asked for: it is safe on disk, and searches find it later.
        warnings: what about the written documents is most likely a mistake, such as that no query can find
            them; one a kind, over all batches.
    """

    written: int = 0
    refused: int = 0
    refusals: list[pb.DocumentStatus] = field(default_factory=list)
    sequence: int = 0
    reached: pb.WriteVisibility.ValueType = pb.WRITE_VISIBILITY_UNSPECIFIED
    _warnings: WarningCounts = field(default_factory=WarningCounts)

    @property
    def warnings(self) -> list[pb.UpsertWarning]:
        return self._warnings.list()

    def add(self, response: Response) -> None:
        refusals = [status for status in response.statuses if status.status.code]
        self.refused += len(refusals)
        self.refusals += refusals[: KEPT_REFUSALS - len(self.refusals)]
        self.written += len(response.statuses) - len(refusals)
        self.sequence = max(self.sequence, response.result.sequence)
        self.reached = response.result.reached
        self._warnings.add(response.warnings)

    def raise_if_refused(self) -> "UpsertSummary":
        """Returns itself. Raises DocumentsRefusedError if a document was not written."""
        if self.refused:
            raise DocumentsRefusedError(self)
        return self


class DocumentsRefusedError(QuarryError):
    """Some documents were not written; all others were.

    Attributes:
        summary: says how many were, and which were not and why.
    """

    reason = "DOCUMENTS_REFUSED"

    def __init__(self, summary: UpsertSummary) -> None:
        first = summary.refusals[0]
        super().__init__(
            f"{summary.refused:,} documents were not written, {summary.written:,} were; "
            f"the first: {first.id!r}: {first.status.message}"
        )
        self.summary = summary


class Window(Generic[AnyBatch]):
    """The batches that are sent and not yet acknowledged, oldest first, and how often a stream broke.

    After a break they are sent again under the same request ids: the server knows those it has written.
    """

    def __init__(self) -> None:
        self.batches: deque[AnyBatch] = deque()
        self._failed = 0

    @property
    def has_room(self) -> bool:
        return len(self.batches) < WINDOW

    def acknowledge(self, response: Response | None) -> AnyBatch:
        """Returns the batch that ``response`` belongs to. Raises ProtocolError if it fits none."""
        if response is None or len(response.statuses) != len(self.batches[0].documents):
            raise ProtocolError("an acknowledgement does not fit its batch")
        self._failed = 0
        return self.batches.popleft()

    def pause_after(self, error: QuarryCallError) -> float:
        """Returns the seconds to wait before the next stream. Raises ``error`` if there is to be none."""
        if error.code is not grpc.StatusCode.UNAVAILABLE or self._failed == RETRIES:
            raise error
        self._failed += 1
        return BACKOFF_S * 2.0 ** (self._failed - 1)


def make_config_message(collection: str, wait: pb.WriteVisibility.ValueType) -> Request:
    return Request(config=pb.UpsertDocumentsConfig(collection=collection, wait=wait))


def make_batch_message(batch: Batch) -> Request:
    return Request(batch=pb.UpsertDocumentsBatch(documents=batch.documents, request_id=batch.request_id))


class UpsertStream(Generic[AnyBatch]):
    """Writes batches and yields what became of each, in order.

    A stream that breaks with UNAVAILABLE is opened again, and goes on where it was.

    Args:
        stub: of DocumentService, made on a CheckedChannel.
        wait: how far each batch must have come before it is acknowledged.
        timeout_s: longest wait for one acknowledgement. A stream as long as its input can have no deadline.
    """

    def __init__(
        self,
        stub: Any,
        collection: str,
        wait: pb.WriteVisibility.ValueType = pb.WRITE_VISIBILITY_UNSPECIFIED,
        timeout_s: float = ACKNOWLEDGEMENT_S,
    ) -> None:
        self._stub, self._timeout_s = stub, timeout_s
        self._config = make_config_message(collection, wait)
        self._window: Window[AnyBatch] = Window()
        self._stopped = threading.Event()
        self._call: Any = None

    def stop(self) -> None:
        """Ends the stream, from another thread: ``write`` raises, and opens no other."""
        self._stopped.set()
        if self._call is not None:
            self._call.cancel()

    def write(self, batches: Iterable[AnyBatch]) -> Generator[tuple[AnyBatch, Response], None, None]:
        """Yields each batch with its acknowledgement.

        Raises:
            QuarryCallError: the server refused the stream, or stayed unavailable.
            StreamStalledError: it acknowledged nothing in time.
            ProtocolError: an acknowledgement does not fit its batch.
        """
        left = iter(batches)
        while True:
            try:
                yield from self._write_once(left)
                return
            except QuarryCallError as error:
                if self._stopped.wait(self._window.pause_after(error)):
                    raise

    def _write_once(self, batches: Iterator[AnyBatch]) -> Iterator[tuple[AnyBatch, Response]]:
        requests: SimpleQueue[Request | None] = SimpleQueue()
        call = self._call = self._stub.UpsertDocuments(iter(requests.get, None))
        if self._stopped.is_set():  # `stop` came before there was a call to end
            call.cancel()
        try:
            requests.put(self._config)
            for batch in self._window.batches:
                requests.put(make_batch_message(batch))
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

    def _fill(self, batches: Iterator[AnyBatch], requests: "SimpleQueue[Request | None]") -> bool:
        """Sends batches while the window has room. Returns whether any is on its way."""
        while self._window.has_room and (batch := next(batches, None)) is not None:
            self._window.batches.append(batch)
            requests.put(make_batch_message(batch))
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
