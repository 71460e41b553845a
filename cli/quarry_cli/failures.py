"""Errors as one line that a person can act on."""

from collections.abc import Iterator

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from quarry.errors import QuarryError

HINTS = {
    "COLLECTION_NOT_FOUND": "`quarry collection create NAME` makes it, `quarry collection list` lists all",
    "DATA_LOSS": "`quarry collection check NAME` says what differs",
    "MODEL_DAMAGED": "`quarry model list` says what else there is",
    "MODEL_NOT_FOUND": "`quarry model list` lists all",
    "MODEL_UNUSABLE": "`quarry doctor` says which models load",
    "PAGE_EXPIRED": "search again, without --page-token",
    "READ_ONLY": "`quarry collection show NAME` gives the reason",
}
"""What to do about an error, by the reason in its ErrorInfo."""

CODE_HINTS = {
    grpc.StatusCode.UNAVAILABLE: "`quarry serve --data DIR` starts a server, --server H:P names one",
    grpc.StatusCode.DEADLINE_EXCEEDED: "--timeout SECONDS gives it longer",
    grpc.StatusCode.UNIMPLEMENTED: "is this port a Quarry server of this version?",
}


class CliError(Exception):
    """What was asked cannot be done; the message says why, in one line.

    Attributes:
        hint: what to type or change, if that is known.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def describe(error: grpc.RpcError | CliError | QuarryError) -> str:
    """``error`` in one line: code, message, wrong fields, hint."""
    if isinstance(error, CliError):
        return _line(str(error), error.hint)
    if isinstance(error, QuarryError):  # from a server in this process
        return _line(str(error), HINTS.get(error.reason, ""))
    if not isinstance(error, grpc.Call):
        return _line(f"the call failed: {error}", "")
    code, message = error.code(), error.details() or ""
    details = list(_details(error))
    violations = [
        f"{v.field}: {v.description}"
        for detail in details
        if isinstance(detail, error_details_pb2.BadRequest)
        for v in detail.field_violations
    ]
    fields = "; ".join(v for v in violations if v not in message)
    reasons = [detail.reason for detail in details if isinstance(detail, error_details_pb2.ErrorInfo)]
    hint = next((HINTS[reason] for reason in reasons if reason in HINTS), "")
    if not hint and (not reasons or code is grpc.StatusCode.DEADLINE_EXCEEDED):
        hint = CODE_HINTS.get(code, "")
    return _line(f"{code.name}: {message}{f' ({fields})' if fields else ''}", hint)


def _line(message: str, hint: str) -> str:
    text = " ".join(message.split()) or "failed"
    return f"{text} -- {hint}" if hint else text


def _details(call: grpc.Call) -> Iterator[error_details_pb2.BadRequest | error_details_pb2.ErrorInfo]:
    try:
        status = rpc_status.from_call(call)
    except ValueError:  # the details contradict the status: what the status says is shown
        return
    if isinstance(status, status_pb2.Status):
        for packed in status.details:
            for kind in (error_details_pb2.BadRequest, error_details_pb2.ErrorInfo):
                detail = kind()
                if packed.Is(kind.DESCRIPTOR):
                    packed.Unpack(detail)
                    yield detail
