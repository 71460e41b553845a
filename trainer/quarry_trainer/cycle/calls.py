"""What a turn of the loop asks of the server: calls are tried again, operations followed to their end."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from quarry.errors import (
    Cancelled,
    DataLossError,
    DeadlineExceeded,
    FailedPreconditionError,
    InvalidArgumentError,
    LimitExceededError,
    NotFoundError,
    QuarryError,
    UnavailableError,
)
from quarry.jobs.child import CHANNEL_OPTIONS
from quarry.jobs.retrying import Pause, retried
from quarry.v1.collection_service_pb2_grpc import CollectionServiceStub
from quarry.v1.mining_service_pb2_grpc import MiningServiceStub
from quarry.v1.model_service_pb2_grpc import ModelServiceStub
from quarry.v1.search_service_pb2_grpc import SearchServiceStub
from quarry.v1.training_service_pb2_grpc import TrainingServiceStub

Answer = TypeVar("Answer")

CALL_S = 120.0
WAIT_S = 2
_KINDS: dict[int, type[QuarryError]] = {
    code_pb2.NOT_FOUND: NotFoundError,
    code_pb2.FAILED_PRECONDITION: FailedPreconditionError,
    code_pb2.RESOURCE_EXHAUSTED: LimitExceededError,
    code_pb2.UNAVAILABLE: UnavailableError,
    code_pb2.CANCELLED: Cancelled,
    code_pb2.DEADLINE_EXCEEDED: DeadlineExceeded,
    code_pb2.DATA_LOSS: DataLossError,
}

Heard = Callable[[operations_pb2.Operation], None]
"""Gets an operation now and then while it runs."""


class ServerCalls:
    """Stubs of one server's services. Every call that goes through ``ask`` may be repeated without harm.

    Args:
        pause: waits before a call is tried again.
    """

    def __init__(self, channel: grpc.Channel, pause: Pause = time.sleep) -> None:
        self.collections = CollectionServiceStub(channel)
        self.mining = MiningServiceStub(channel)
        self.models = ModelServiceStub(channel)
        self.search = SearchServiceStub(channel)
        self.training = TrainingServiceStub(channel)
        self._operations = operations_pb2_grpc.OperationsStub(channel)
        self._pause = pause

    def ask(self, call: Callable[..., Answer], request: Message) -> Answer:
        """The answer. Raises QuarryError: what the server said, as the error that it was there."""
        try:
            return retried(lambda: call(request, timeout=CALL_S), _is_transient, "the server", self._pause)
        except grpc.RpcError as error:
            raise _of_call(error) from error

    def finish(self, operation: operations_pb2.Operation, heard: Heard) -> operations_pb2.Operation:
        """The operation when it has ended well. Raises QuarryError: how it failed."""
        while not operation.done:
            heard(operation)
            wait = operations_pb2.WaitOperationRequest(
                name=operation.name, timeout=duration_pb2.Duration(seconds=WAIT_S)
            )
            operation = self.ask(self._operations.WaitOperation, wait)
        if operation.HasField("error"):
            raise typed_error(operation.error)
        return operation


@contextmanager
def connected(server: str) -> Iterator[ServerCalls]:
    """Calls of the server at ``host:port``, for as long as the context lasts."""
    with grpc.insecure_channel(server, CHANNEL_OPTIONS) as channel:
        yield ServerCalls(channel)


def typed_error(status: status_pb2.Status) -> QuarryError:
    """The error that a server of Quarry made this status of."""
    info, wrong = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        for kind in (info, wrong):
            if detail.Is(kind.DESCRIPTOR):
                detail.Unpack(kind)
    if status.code == code_pb2.INVALID_ARGUMENT and wrong.field_violations:
        first = wrong.field_violations[0]
        return InvalidArgumentError(first.field, first.description)
    metadata: dict[str, Any] = dict(info.metadata)
    error = _KINDS.get(status.code, QuarryError)(status.message)
    error.metadata = metadata
    if info.reason:
        error.reason = info.reason
    return error


def _is_transient(error: Exception) -> bool:
    return isinstance(error, grpc.RpcError) and isinstance(_of_call(error), UnavailableError)


def _of_call(error: grpc.RpcError) -> QuarryError:
    try:
        status = rpc_status.from_call(error)
    except ValueError:  # the details contradict the status
        status = None
    if isinstance(status, status_pb2.Status):
        return typed_error(status)
    code, _ = error.code().value
    return typed_error(status_pb2.Status(code=code, message=error.details() or error.code().name))
