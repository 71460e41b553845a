"""The options that name a server, and the client for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from quarry.client import Client
from quarry.client.addresses import SCHEME, find_path_problem, is_unix_address
from quarry.client.channel import DEFAULT_ADDRESS
from quarry.v1 import collection_service_pb2
from quarry_cli.failures import CliError
from quarry_cli.tls_options import read_tls


def choose_server(ctx: typer.Context, server: str | None) -> str | None:
    """Chooses the command's ``--server`` if it is an address, otherwise the one in front of the command."""
    if server is None:
        outer: str | None = ctx.find_root().params.get("_server")
        return outer
    if is_unix_address(server):
        if problem := find_path_problem(Path(server.removeprefix(SCHEME))):
            raise typer.BadParameter(problem)
        return server
    host, colon, port = server.rpartition(":")
    if not (host and colon and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise typer.BadParameter(f"{server!r} is neither HOST:PORT nor unix:PATH")
    return server


ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server", metavar="H:P", callback=choose_server, help="The server's address, or unix:PATH."
    ),
]
TimeoutOption = Annotated[
    float | None,
    typer.Option("--timeout", min=0.001, metavar="SECONDS", help="Longest wait for one call."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


@contextmanager
def connect(
    server: str | None, timeout_s: float | None, default_timeout_s: float = 30, plaintext: bool = False
) -> Iterator[Client]:
    """Opens a client for the length of a ``with`` block; its first call connects.

    Args:
        timeout_s: deadline of every call; ``default_timeout_s`` if it is None.
        plaintext: whatever the options and variables of TLS say, for a server that this command has started.

    Raises:
        CliError: gRPC cannot use the address, or a file of TLS cannot be used.
    """
    address = server or DEFAULT_ADDRESS
    try:
        tls = None if plaintext else read_tls(address)
        client = Client(address, timeout_s=timeout_s or default_timeout_s, tls=tls)
    except ValueError as error:
        raise CliError(f"cannot connect to {address}: {error}") from None
    with client:
        yield client


def read_collection(quarry: Client, name: str) -> collection_service_pb2.Collection:
    """Reads the collection's settings and state."""
    request = collection_service_pb2.GetCollectionRequest(name=name)
    return quarry.collections.GetCollection(request).collection
