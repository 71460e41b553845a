"""Streams batches to a collection, a bounded number ahead of their acknowledgements."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Protocol

import grpc

from quarry.v1 import document_service_pb2
from quarry.v1.document_service_pb2_grpc import DocumentServiceStub
from quarry_cli.failures import CliError
from quarry_cli.inputs.batches import Batch

Request = document_service_pb2.UpsertDocumentsRequest
Response = document_service_pb2.UpsertDocumentsResponse

RETRIES = 6
"""Streams opened anew, one after another, while none gets an acknowledgement."""
BACKOFF_S = 0.25
"""Wait before the first of them; it doubles each time."""


class Cancellable(Protocol):
    def cancel(self) -> object: ...


@dataclass(frozen=True, slots=True)
class StreamPolicy:
    """How a stream behaves.

    Attributes:
        window: batches sent and not yet acknowledged, at most.
        ack_timeout_s: longest wait for one acknowledgement. A stream as long as its input can have no
            deadline of its own.
    """

    window: int = 4
    ack_timeout_s: float = 120


class UpsertStream:
    """Writes batches and yields what became of each, in order.

    A stream that breaks with UNAVAILABLE is opened again, and what was not acknowledged is sent again
    with the request ids it had: the server knows those it has written.
    """

    def __init__(self, stub: DocumentServiceStub, collection: str, policy: StreamPolicy) -> None:
        self._stub, self._policy = stub, policy
        self._config = document_service_pb2.UpsertDocumentsConfig(collection=collection)
        self._unacknowledged: deque[Batch] = deque()

    def write(self, batches: Iterator[Batch]) -> Iterator[tuple[Batch, Response]]:
        failed = 0
        while True:
            try:
                for answer in self._one_stream(batches):
                    failed = 0
                    yield answer
                return
            except grpc.RpcError as error:
                unavailable = isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.UNAVAILABLE
                if not unavailable or failed == RETRIES:
                    raise
                time.sleep(BACKOFF_S * 2**failed)
                failed += 1

    def _one_stream(self, batches: Iterator[Batch]) -> Iterator[tuple[Batch, Response]]:
        requests: SimpleQueue[Request | None] = SimpleQueue()
        call = self._stub.UpsertDocuments(iter(requests.get, None))
        try:
            requests.put(Request(config=self._config))
            for batch in self._unacknowledged:
                requests.put(message(batch))
            while self._fill(batches, requests):
                with self._watched(call):
                    response = next(call, None)
                batch = self._unacknowledged[0]
                if response is None or len(response.statuses) != len(batch.documents):
                    raise CliError("the server broke the protocol: an acknowledgement does not fit its batch")
                self._unacknowledged.popleft()
                yield batch, response
            requests.put(None)
            with self._watched(call):
                next(call, None)  # the server ends the stream too
        finally:
            requests.put(None)
            call.cancel()

    def _fill(self, batches: Iterator[Batch], requests: "SimpleQueue[Request | None]") -> bool:
        """Tops up what is on its way; whether anything is."""
        while len(self._unacknowledged) < self._policy.window:
            batch = next(batches, None)
            if batch is None:
                break
            self._unacknowledged.append(batch)
            requests.put(message(batch))
        return bool(self._unacknowledged)

    @contextmanager
    def _watched(self, call: Cancellable) -> Iterator[None]:
        """Ends the call, and what waits for it, if nothing comes in time."""
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            call.cancel()

        timer = threading.Timer(self._policy.ack_timeout_s, expire)
        timer.daemon = True
        timer.start()
        try:
            yield
        except grpc.RpcError:
            if expired.is_set():
                raise CliError(
                    f"no batch was acknowledged for {self._policy.ack_timeout_s:g} s",
                    "--timeout SECONDS waits longer; the same command again is safe",
                ) from None
            raise
        finally:
            timer.cancel()


def message(batch: Batch) -> Request:
    return Request(
        batch=document_service_pb2.UpsertDocumentsBatch(
            documents=batch.documents, request_id=batch.request_id
        )
    )
