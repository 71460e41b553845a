"""The certificates of a client, and what it says when TLS is why there is no connection."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc

from quarry.client.errors import QuarryCallError

_NO_CONNECTION = "failed to connect to all addresses"


@dataclass(frozen=True, slots=True)
class Tls:
    """The files of a client that speaks TLS, in PEM. They are read when the client is made.

    Attributes:
        ca: the authorities that may have signed the server's certificate; None means those that gRPC comes
            with, as browsers have them.
        certificate: what the client shows to a server that asks for one, with its chain; with ``key``.
        key: the private key of ``certificate``.
    """

    ca: Path | str | None = None
    certificate: Path | str | None = None
    key: Path | str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a certificate and its key go together: one of both is missing")

    def make_credentials(self) -> grpc.ChannelCredentials:
        """Makes gRPC's credentials. Raises ValueError if a file cannot be read or holds something else."""
        return grpc.ssl_channel_credentials(
            _read("ca", self.ca, b"-----BEGIN CERTIFICATE-----"),
            _read("key", self.key, b"PRIVATE KEY-----"),
            _read("certificate", self.certificate, b"-----BEGIN CERTIFICATE-----"),
        )


def _read(name: str, path: Path | str | None, wanted: bytes) -> bytes | None:
    if path is None:
        return None
    try:
        text = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or error
        raise ValueError(f"{name}: {path} cannot be read: {problem}") from None
    if wanted not in text:
        kind = "private key" if name == "key" else "certificate"
        raise ValueError(f"{name}: {path} holds no {kind} in PEM")
    return text


_SIGNS: Mapping[str, str] = {
    "UNTRUSTED": r"CERTIFICATE_VERIFY_FAILED",
    "WRONG_NAME": r"Hostname Verification Check failed",
    "NO_TLS": r"WRONG_VERSION_NUMBER|HTTP_REQUEST",
    "CLOSED": r"Socket closed|Connection reset|CERTIFICATE_REQUIRED|Handshake read failed",
}
"""What gRPC and BoringSSL say when there is no connection, by what it means."""

_MEANINGS: Mapping[str, str] = {
    "UNTRUSTED": "no authority that the client trusts has signed the server's certificate: give the client "
    "the CA's file",
    "WRONG_NAME": "the server's certificate is for other names: use an address that is in it",
    "NO_TLS": "the server does not speak TLS there: connect without TLS, or name its TLS port",
    "PLAINTEXT_REFUSED": "the server closed the connection at once: it speaks TLS, and then the client has "
    "to as well, or it has too many connections",
    "CERTIFICATE_WANTED": "the server closed the connection at once: it asks clients for a certificate that "
    "its CA has signed, or it has too many connections",
}


def explain_connection(error: QuarryCallError, tls: Tls | None) -> QuarryCallError:
    """Returns ``error`` with what to do, if TLS seems to be why there is no connection."""
    if error.code is not grpc.StatusCode.UNAVAILABLE or _NO_CONNECTION not in error.message:
        return error
    found = next((sign for sign, words in _SIGNS.items() if re.search(words, error.message)), "")
    if not found:
        return error
    may_pass = found == "CLOSED"  # of connections a server may have too many, of certificates a wrong one
    if may_pass:
        found = "PLAINTEXT_REFUSED" if tls is None else "CERTIFICATE_WANTED"
    told = QuarryCallError(error.code, f"{_MEANINGS[found]} ({error.message})", retryable=may_pass)
    told.tls_problem = found
    return told
