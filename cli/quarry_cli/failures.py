"""Errors as one line that a person can act on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
from google.longrunning import operations_pb2

from quarry.client import QuarryCallError
from quarry.client.errors import read_status
from quarry.errors import QuarryError

HINTS = {
    "ALIAS_NOT_FOUND": "`quarry collection alias list` lists all",
    "COLLECTION_HAS_ALIASES": "`quarry collection alias set ALIAS OTHER` switches one",
    "COLLECTION_NOT_FOUND": "`quarry collection create NAME` makes it, `quarry index NAME FILE --create` one "
    "that fits a file, `quarry collection list` lists all",
    "DATA_LOSS": "`quarry collection check NAME` says what differs",
    "MODEL_DAMAGED": "`quarry model list` says what else there is",
    "MODEL_NOT_FOUND": "`quarry model list` lists all",
    "MODEL_UNUSABLE": "`quarry doctor` says which models load",
    "PAGE_EXPIRED": "search again, without --page-token",
    "RERANKER_UNPROVEN": "`quarry evaluate NAME --model MODEL` measures it, --unproven takes it all the same",
    "STREAM_STALLED": "--timeout SECONDS waits longer; the same command again is safe",
}
"""What to do about an error, by the reason in its ErrorInfo."""

CODE_HINTS = {
    grpc.StatusCode.UNAVAILABLE: "`quarry serve --data DIR` starts a server, --server H:P names one",
    grpc.StatusCode.DEADLINE_EXCEEDED: "--timeout SECONDS gives it longer",
    grpc.StatusCode.UNIMPLEMENTED: "is this port a Quarry server of this version?",
}


TLS_HINTS = {
    "UNTRUSTED": "--tls-ca FILE names the CA's certificate",
    "WRONG_NAME": "--server H:P takes one of its names",
    "NO_TLS": "leave out --tls, --tls-ca and --tls-cert, and the variables QUARRY_USE_TLS, QUARRY_TLS_CA and "
    "QUARRY_TLS_CERT",
    "PLAINTEXT_REFUSED": "--tls-ca FILE, or --tls, connects with TLS",
    "CERTIFICATE_WANTED": "--tls-cert FILE --tls-key FILE shows a certificate",
}
"""What to do when TLS is why there is no connection, by ``QuarryCallError.tls_problem``."""


class CliError(Exception):
    """The command cannot be done; the message says why, in one line.

    Attributes:
        hint: what to type or change, if that is known.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@contextmanager
def name_file(path: Path) -> Iterator[None]:
    """Raises CliError, which names the file, for what the disk refuses and for a file that was cut short."""
    try:
        yield
    except (OSError, EOFError) as error:  # gzip raises EOFError
        raise CliError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def write_text(path: Path, text: str) -> None:
    """Writes a text file. Raises CliError as ``name_file``."""
    with name_file(path):
        path.write_text(text, encoding="utf-8")


def describe(error: CliError | QuarryError) -> str:
    """Describes ``error`` in one line: code, message, wrong fields, hint."""
    if isinstance(error, CliError):
        return _write_line(str(error), error.hint)
    if not isinstance(error, QuarryCallError):  # from the client, or from a server in this process
        return _write_line(str(error), HINTS.get(error.reason, ""))
    violations = [f"{field}: {problem}" for field, problem in error.violations.items()]
    fields = "; ".join(v for v in violations if v not in error.message)
    hint = HINTS.get(error.reason, "") or TLS_HINTS.get(error.tls_problem, "")
    if not hint and (not error.reason or error.code is grpc.StatusCode.DEADLINE_EXCEEDED):
        hint = CODE_HINTS.get(error.code, "")
    return _write_line(f"{error}{f' ({fields})' if fields else ''}", hint)


def check_outcome(operation: operations_pb2.Operation, failed: str) -> None:
    """Raises CliError if the operation ended with an error.

    Args:
        failed: what that means, such as ``mining failed``.
    """
    if operation.HasField("error"):
        failure = read_status(operation.error)
        raise CliError(f"{failed}: {failure}", HINTS.get(failure.reason, ""))


def _write_line(message: str, hint: str) -> str:
    text = " ".join(message.split()) or "failed"
    return f"{text} -- {hint}" if hint else text
