"""The one table from what can go wrong to what a client is told."""

from collections.abc import Sequence

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from quarry.errors import (
    AlreadyExistsError,
    Cancelled,
    ConflictError,
    DataLossError,
    DeadlineExceeded,
    FailedPreconditionError,
    InvalidArgumentError,
    LimitExceededError,
    ModelError,
    NotFoundError,
    QuarryError,
    UnavailableError,
)
from quarry.v1 import errors_pb2

DOMAIN = "quarry"
MAX_MESSAGE_BYTES = 1_000
"""A status travels in HTTP/2 headers, each byte as up to three, of which clients take 8 KiB."""
_RETRY_AFTER_S = 1
_PREFIX = "ERROR_REASON_"
REASONS = frozenset(name.removeprefix(_PREFIX) for name in errors_pb2.ErrorReason.keys()[1:])
"""What the API publishes as ``ErrorInfo.reason``."""

# The first class that an error is an instance of decides.
_CODES: Sequence[tuple[type[QuarryError], grpc.StatusCode]] = (
    (InvalidArgumentError, grpc.StatusCode.INVALID_ARGUMENT),
    (NotFoundError, grpc.StatusCode.NOT_FOUND),
    (AlreadyExistsError, grpc.StatusCode.ALREADY_EXISTS),
    (FailedPreconditionError, grpc.StatusCode.FAILED_PRECONDITION),
    (ModelError, grpc.StatusCode.FAILED_PRECONDITION),
    (ConflictError, grpc.StatusCode.ABORTED),
    (LimitExceededError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (UnavailableError, grpc.StatusCode.UNAVAILABLE),
    (Cancelled, grpc.StatusCode.CANCELLED),
    (DeadlineExceeded, grpc.StatusCode.DEADLINE_EXCEEDED),
    (DataLossError, grpc.StatusCode.DATA_LOSS),
    (QuarryError, grpc.StatusCode.INTERNAL),
)


def choose_status_code(error: QuarryError) -> grpc.StatusCode:
    return next(code for kind, code in _CODES if isinstance(error, kind))


def make_status(error: QuarryError) -> status_pb2.Status:
    """Makes ``error`` with exactly one ErrorInfo (AIP-193), and BadRequest or RetryInfo where they fit."""
    code, _ = choose_status_code(error).value
    status = status_pb2.Status(code=code, message=_shorten(str(error)))
    metadata = {name: _shorten(value, 256) for name, value in error.metadata.items()}
    info = error_details_pb2.ErrorInfo(reason=_name_reason(error), domain=DOMAIN, metadata=metadata)
    status.details.append(_pack_any(info))
    if isinstance(error, InvalidArgumentError):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=_shorten(error.field), description=_shorten(error.problem)
        )
        status.details.append(_pack_any(error_details_pb2.BadRequest(field_violations=[violation])))
    if isinstance(error, UnavailableError):
        delay = duration_pb2.Duration(seconds=_RETRY_AFTER_S)
        status.details.append(_pack_any(error_details_pb2.RetryInfo(retry_delay=delay)))
    return status


def _name_reason(error: QuarryError) -> str:
    """Returns a published reason: an error with another one, such as a client's own, is the server's bug."""
    return error.reason if error.reason in REASONS else QuarryError.reason


def make_ok_status() -> status_pb2.Status:
    return status_pb2.Status(code=code_pb2.OK)


def _pack_any(
    message: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest | error_details_pb2.RetryInfo,
) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def _shorten(text: str, limit: int = MAX_MESSAGE_BYTES) -> str:
    data = text.encode()
    return text if len(data) <= limit else data[: limit - 3].decode(errors="ignore") + "…"
