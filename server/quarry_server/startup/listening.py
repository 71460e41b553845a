"""Binds what a server listens on: its port, with TLS or without, a Unix socket, and one for its own jobs."""

import asyncio
import logging
from dataclasses import dataclass
from functools import partial

import grpc

from quarry.config import Settings
from quarry.ending import Ending
from quarry.errors import UnavailableError
from quarry_server.transport.certificates import RenewedCertificates
from quarry_server.transport.exposure import check_exposure, warn_if_exposed
from quarry_server.transport.sockets import JobsSocket, check_socket_path, listen_on_socket

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TransportParts:
    """The parts of transport that the settings ask for, checked before anything is opened.

    Attributes:
        certificates: None if the port speaks plaintext.
    """

    certificates: RenewedCertificates | None


async def check_transport(settings: Settings) -> TransportParts:
    """Checks what the settings say of transport, and reads the certificates.

    Raises:
        InvalidArgumentError: a file of TLS, or the path of the socket, cannot be used.
        FailedPreconditionError: others would reach a port in plaintext.
    """
    await asyncio.to_thread(check_exposure, settings)
    if settings.socket:
        check_socket_path(settings.socket)
    return TransportParts(RenewedCertificates(settings.tls) if settings.tls.on else None)


async def listen(server: grpc.aio.Server, settings: Settings, transport: TransportParts) -> str:
    """Binds the port, and the Unix socket if there is one; says whom they let in. Returns the port's address.

    Raises:
        UnavailableError: the port is taken, or the socket cannot be made.
        FailedPreconditionError: somebody listens on the socket, or it is another file.
    """
    address = _bind(server, settings, transport.certificates)
    await asyncio.to_thread(warn_if_exposed, settings, address)
    if settings.tls.on:
        shown = f", for clients with a certificate of {settings.tls.client_ca}" * bool(settings.tls.client_ca)
        logger.info("%s speaks TLS with %s%s", address, settings.tls.certificate, shown)
    if settings.socket:
        logger.info("listening on %s, too", listen_on_socket(server, settings.socket))
    return address


def listen_for_jobs(server: grpc.aio.Server, settings: Settings, ending: Ending) -> str:
    """Listens for the server's own jobs until ``ending`` closes that; returns where they reach it.

    Raises UnavailableError if there is no place for the socket.
    """
    socket = JobsSocket(server, settings.data)
    ending.push("the socket of jobs", partial(asyncio.to_thread, socket.remove))
    return socket.address


def _bind(server: grpc.aio.Server, settings: Settings, certificates: RenewedCertificates | None) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    wanted = f"{host}:{settings.port}"
    try:
        if certificates is None:
            port = server.add_insecure_port(wanted)
        else:
            port = server.add_secure_port(wanted, certificates.make_credentials())
    except RuntimeError as error:
        raise UnavailableError(f"cannot listen on {wanted}: {error}") from None
    return f"{host}:{port}"
