"""Documents packed into batches by their bytes, and streamed."""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar
from uuid import uuid4

from quarry.client.sources import iterate_async
from quarry.client.streams import ACKNOWLEDGEMENT_S, AcknowledgedStream
from quarry.client.upsert_warnings import WarningCounts
from quarry.errors import QuarryError
from quarry.v1 import document_service_pb2 as pb
from quarry.v1 import types_pb2

Request: TypeAlias = pb.UpsertDocumentsRequest
Response: TypeAlias = pb.UpsertDocumentsResponse
Documents: TypeAlias = Iterable[types_pb2.Document] | AsyncIterable[types_pb2.Document]
Item = TypeVar("Item")

BATCH_BYTES = 2**20
MAX_BATCH_DOCUMENTS = 500
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


async def pack_documents_async(documents: Documents, batch_bytes: int = BATCH_BYTES) -> AsyncIterator[Batch]:
    """Yields what ``pack_documents`` yields, for asyncio."""
    packer: Packer[types_pb2.Document] = Packer(lambda document: document.ByteSize(), batch_bytes)
    async for document in iterate_async(documents):
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


def make_config_message(collection: str, wait: pb.WriteVisibility.ValueType) -> Request:
    return Request(config=pb.UpsertDocumentsConfig(collection=collection, wait=wait))


def make_batch_message(batch: Batch) -> Request:
    return Request(batch=pb.UpsertDocumentsBatch(documents=batch.documents, request_id=batch.request_id))


class UpsertStream(AcknowledgedStream[AnyBatch, Response]):
    """Writes batches and yields what became of each, in order.

    Args:
        stub: of DocumentService, made on a CheckedChannel.
        wait: how far each batch must have come before it is acknowledged.
        timeout_s: longest wait for one acknowledgement.
    """

    def __init__(
        self,
        stub: Any,
        collection: str,
        wait: pb.WriteVisibility.ValueType = pb.WRITE_VISIBILITY_UNSPECIFIED,
        timeout_s: float = ACKNOWLEDGEMENT_S,
    ) -> None:
        super().__init__(
            stub.UpsertDocuments,
            make_config_message(collection, wait),
            make_batch_message,
            lambda batch: len(batch.documents),
            timeout_s=timeout_s,
        )
