"""The errors that calls of a client raise."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from quarry.errors import QuarryError

_CODES: Mapping[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


TRANSIENT = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
)
"""What a server answers that is away, busy or slow: a job, which has time, asks again."""


class QuarryCallError(QuarryError):
    """A call failed, or a long-running operation ended with an error.

    Attributes:
        code: the gRPC status code.
        message: what went wrong, in one sentence, for people.
        reason: UPPER_SNAKE_CASE, for programs: the name of a ``quarry.v1.errors_pb2.ErrorReason`` without
            its prefix. It is empty if no Quarry server gave a reason, as when the connection broke or the
            deadline passed on the way. A newer server may have others: ``code`` says how to act on them.
        field: path of the wrong field in the request, such as ``documents[3].fields.price``; empty if the
            error is about no field.
        violations: what is wrong with each field, by its path.
        retryable: the same call may succeed later, without a change. A write that may have reached the
            server is only safe to repeat under the same ``request_id``.
        metadata: the variable parts of the message, for programs.
        tls_problem: why there is no connection, if TLS is why: PLAINTEXT_REFUSED, NO_TLS, UNTRUSTED,
            WRONG_NAME or CERTIFICATE_WANTED. It is empty otherwise.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        reason: str = "",
        violations: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
        retryable: bool = False,
    ) -> None:
        finer = f" ({reason})" if reason not in ("", code.name) else ""
        super().__init__(f"{code.name}{finer}: {message}")
        self.metadata = dict(metadata or {})
        self.code, self.message, self.reason = code, message, reason
        self.violations = dict(violations or {})
        self.field = next(iter(self.violations), "")
        self.retryable = retryable
        self.tls_problem = ""


class ClientClosedError(QuarryError):
    """A call was made after its client had been closed."""

    reason = "CLIENT_CLOSED"

    def __init__(self) -> None:
        super().__init__(
            "the client is closed: make the call inside its `with` block, or make another client"
        )


class StreamStalledError(QuarryError):
    """A server acknowledged no batch of a stream in time. What it acknowledged before is written."""

    reason = "STREAM_STALLED"

    def __init__(self, timeout_s: float) -> None:
        super().__init__(f"no batch was acknowledged for {timeout_s:g} s")


class ProtocolError(QuarryError):
    """A server answered something that the API excludes."""

    reason = "PROTOCOL_BROKEN"

    def __init__(self, problem: str) -> None:
        super().__init__(f"the server broke the protocol: {problem}")


def is_transient(error: Exception) -> bool:
    """Tells whether a job that has time should make the call again."""
    return isinstance(error, QuarryCallError) and error.code in TRANSIENT


def read_call_error(error: grpc.RpcError) -> QuarryCallError:
    """Reads what a failed call says. An error without a status, which gRPC should not raise, is UNKNOWN."""
    if not isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        return QuarryCallError(grpc.StatusCode.UNKNOWN, f"the call failed: {error}")
    code, message = error.code(), error.details() or ""
    return _with_details(code, message, _read_details(error))


def read_status(status: status_pb2.Status) -> QuarryCallError:
    """Reads a status that is part of an answer, such as the error of an operation."""
    return _with_details(_CODES.get(status.code, grpc.StatusCode.UNKNOWN), status.message, status.details)


def _read_details(error: Any) -> Iterable[Any]:
    """Reads the packed details of a failed call, synchronous or not."""
    for key, value in error.trailing_metadata() or ():
        if key == rpc_status.GRPC_DETAILS_METADATA_KEY:
            try:
                status: status_pb2.Status = status_pb2.Status.FromString(value)
                return list(status.details)
            except DecodeError:  # not made by a Quarry server
                return ()
    return ()


def _with_details(code: grpc.StatusCode, message: str, details: Iterable[Any]) -> QuarryCallError:
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    wrong = error_details_pb2.BadRequest()
    told_to_retry = False
    for detail in details:
        with suppress(DecodeError):  # not made by a Quarry server; the error itself is told all the same
            detail.Unpack(info)
            detail.Unpack(wrong)
            told_to_retry |= detail.Unpack(retry)
    return QuarryCallError(
        code,
        message,
        info.reason,
        {violation.field: violation.description for violation in wrong.field_violations},
        info.metadata,
        retryable=told_to_retry or code is grpc.StatusCode.UNAVAILABLE,
    )
