"""The calls of a loop run to the server: they are tried again, and operations followed to their end."""

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import grpc
from google.longrunning import operations_pb2
from google.protobuf.message import Message

from quarry.client import Client, QuarryCallError
from quarry.client.errors import read_status
from quarry.client.operations import Watch, wait_request
from quarry.errors import (
    AlreadyExistsError,
    Cancelled,
    ConflictError,
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
from quarry.jobs.retrying import Pause, retry

Request = TypeVar("Request", bound=Message)
Answer = TypeVar("Answer")

CALL_S = 120.0
_KINDS: Mapping[grpc.StatusCode, type[QuarryError]] = {
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExistsError,
    grpc.StatusCode.ABORTED: ConflictError,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPreconditionError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: LimitExceededError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.CANCELLED: Cancelled,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.DATA_LOSS: DataLossError,
}


class ServerCalls(Client):
    """A client whose calls may go through ``ask``: each of those may be repeated without harm.

    Args:
        address: the server's ``host:port``.
        pause: waits before a call is tried again.
    """

    def __init__(self, address: str, pause: Pause = time.sleep) -> None:
        super().__init__(address, timeout_s=CALL_S, options=CHANNEL_OPTIONS)
        self._pause = pause

    def ask(self, call: Callable[[Request], Answer], request: Request) -> Answer:
        """Returns the answer. Raises QuarryError: what the server said, as the error that it was there."""
        try:
            return retry(lambda: call(request), _is_unavailable, "the server", self._pause)
        except QuarryCallError as error:
            raise to_domain_error(error) from error

    def finish(self, operation: operations_pb2.Operation, watch: Watch) -> operations_pb2.Operation:
        """Returns the operation when it has ended well. Raises QuarryError: how it failed."""
        while not operation.done:
            watch(operation)
            operation = self.ask(self.operations.WaitOperation, wait_request(operation))
        if operation.HasField("error"):
            raise to_domain_error(read_status(operation.error))
        return operation


def to_domain_error(error: QuarryCallError) -> QuarryError:
    """Returns the error that a server of Quarry made this one of."""
    if error.code is grpc.StatusCode.INVALID_ARGUMENT and error.violations:
        found: QuarryError = InvalidArgumentError(error.field, error.violations[error.field])
    else:
        found = _KINDS.get(error.code, QuarryError)(error.message)
        found.metadata = error.metadata
    if error.reason:
        found.reason = error.reason
    return found


def _is_unavailable(error: Exception) -> bool:
    return isinstance(error, QuarryCallError) and error.code is grpc.StatusCode.UNAVAILABLE
