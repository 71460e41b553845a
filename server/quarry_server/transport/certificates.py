"""The server's certificate: read and checked at the start, and again whenever its files have changed."""

import base64
import binascii
import logging
import os
import re
import ssl
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc

from quarry.config import TlsSettings
from quarry.errors import InvalidArgumentError

logger = logging.getLogger(__name__)

MAX_FILE_BYTES = 2**20
"""Nobody's chain is as long: a larger file is a mistake, and would be read at a handshake."""
_OTHERS_READ, _OTHERS_AND_GROUP = 0o007, 0o077
_KEY_BLOCK = re.compile(rb"-----BEGIN ([A-Z ]*)PRIVATE KEY-----(.*?)-----END", re.DOTALL)
_KINDS = ("2a864886f70d010101", "2a8648ce3d030107", "2b81040022", "2b81040023")
"""The object identifiers of RSA and of the three curves, as they stand in a key."""
Stamp = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Certificates:
    """The contents of the files, in PEM.

    Attributes:
        client_ca: the authorities of clients; None if clients need no certificate.
    """

    chain: bytes
    key: bytes
    client_ca: bytes | None


class RenewedCertificates:
    """The certificates that serve now. gRPC asks for them at each handshake, on threads of its own.

    Args:
        tls: names the files.

    Raises:
        InvalidArgumentError: a file is missing, cannot be read, is wrong, or does not belong to the others;
            or others than its owner may read the key.
    """

    def __init__(self, tls: TlsSettings) -> None:
        self._tls, self._lock = tls, threading.Lock()
        self._stamp = read_stamps(tls)
        self._served = read_certificates(tls)

    def make_credentials(self) -> grpc.ServerCredentials:
        """Makes the credentials of a port. With ``client_ca`` a client must show a certificate.

        They call back into this object, which has to live as long as the port: grpc.aio keeps neither.
        """
        self._credentials = grpc.dynamic_ssl_server_credentials(
            _to_grpc(self._served),
            self.fetch_renewed,  # type: ignore[arg-type]  # the stubs leave out None: nothing has changed
            self._served.client_ca is not None,
        )
        return self._credentials

    def fetch_renewed(self) -> "grpc.ServerCertificateConfiguration | None":
        """Returns the certificates if the files hold others than those that serve, else None.

        What is wrong is logged once, and the old ones go on serving. A renewal writes one file after the
        other, so between them a certificate and a key may not belong together.
        """
        with self._lock:
            stamp = read_stamps(self._tls)
            if stamp == self._stamp:
                return None
            self._stamp = stamp
            try:
                found = read_certificates(self._tls)
            except InvalidArgumentError as error:
                logger.error("the old certificate goes on serving, since the new one is refused: %s", error)
                return None
            if found == self._served:
                return None
            self._served = found
            logger.info("a new certificate serves, from %s", self._tls.certificate)
            return _to_grpc(found)


def read_certificates(tls: TlsSettings) -> Certificates:
    """Reads the files and checks that they can serve together. Raises as ``RenewedCertificates``."""
    found = _read_files(tls)
    _check_pair(tls, found)
    if found.client_ca is not None:
        _check_authorities(found.client_ca)
    if _read_files(tls) != found:  # what was checked is not what was read
        raise InvalidArgumentError("tls.certificate", "the files are being changed: try again")
    return found


def read_stamps(tls: TlsSettings) -> Stamp:
    """Reads what tells a file that was changed from the one before, without reading it."""
    return tuple(_read_stamp(path) for _, path in _list_files(tls))


def _read_stamp(path: str) -> Stamp | None:
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _list_files(tls: TlsSettings) -> Iterator[tuple[str, str]]:
    """Yields the setting and the path of each file."""
    yield "tls.certificate", tls.certificate
    yield "tls.key", tls.key
    if tls.client_ca:
        yield "tls.client_ca", tls.client_ca


def _read_files(tls: TlsSettings) -> Certificates:
    pems = {field: _read_file(field, Path(path)) for field, path in _list_files(tls)}
    return Certificates(pems["tls.certificate"], pems["tls.key"], pems.get("tls.client_ca"))


def _read_file(field: str, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if field == "tls.key":
                _check_privacy(path, found)
            text = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or error
        raise InvalidArgumentError(field, f"{path} cannot be read: {problem}") from None
    wanted = b"PRIVATE KEY-----" if field == "tls.key" else b"-----BEGIN CERTIFICATE-----"
    if len(text) > MAX_FILE_BYTES or wanted not in text:
        kind = "private key" if field == "tls.key" else "certificate"
        raise InvalidArgumentError(field, f"{path} holds no {kind} in PEM")
    return text


def _check_privacy(path: Path, found: os.stat_result) -> None:
    """Refuses a key that others may read. Root's may have a group of those that serve with it."""
    of_root = found.st_uid == 0 and os.geteuid() != 0
    if found.st_mode & (_OTHERS_READ if of_root else _OTHERS_AND_GROUP):
        mode = stat.S_IMODE(found.st_mode)
        raise InvalidArgumentError(
            "tls.key", f"others than its owner may use {path} (mode {mode:04o}): chmod 600 {path}"
        )


def _check_pair(tls: TlsSettings, found: Certificates) -> None:
    if b"ENCRYPTED" in found.key:
        raise InvalidArgumentError("tls.key", f"{tls.key} has a passphrase, which nobody can give at a start")
    _check_kind("tls.key", tls.key, found.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(tls.certificate, tls.key, password=_refuse_passphrase)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            problem = f"{tls.key} is not the key of the certificate in {tls.certificate}"
            raise InvalidArgumentError("tls.key", problem) from None
        problem = f"{tls.certificate} and {tls.key} cannot be used: {error.reason or error}"
        raise InvalidArgumentError("tls.certificate", problem) from None
    except (OSError, ValueError) as error:
        raise InvalidArgumentError("tls.certificate", f"cannot be used: {error}") from None


def _check_kind(field: str, path: str, pem: bytes) -> None:
    """Refuses kinds that OpenSSL knows and gRPC does not serve with: they fail at each handshake, unnamed."""
    block = _KEY_BLOCK.search(pem)
    try:
        content = base64.b64decode(block[2]) if block else b""
    except binascii.Error:
        content = b""
    if (block and block[1] == b"RSA ") or any(bytes.fromhex(kind) in content for kind in _KINDS):
        return
    raise InvalidArgumentError(field, f"{path} holds no key of RSA or of the curves P-256, P-384 and P-521")


def _refuse_passphrase() -> str:
    raise ValueError("the key has a passphrase")


def _check_authorities(pem: bytes) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(cadata=pem.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError) as error:
        raise InvalidArgumentError("tls.client_ca", f"cannot be used: {error}") from None


def _to_grpc(found: Certificates) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(found.key, found.chain)], found.client_ca)
