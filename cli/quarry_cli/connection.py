"""The channel to a server, and the options that name it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Protocol, TypeVar

import grpc
import typer
from google.longrunning import operations_pb2_grpc

from quarry.v1 import collection_service_pb2
from quarry.v1.collection_service_pb2_grpc import CollectionServiceStub
from quarry.v1.document_service_pb2_grpc import DocumentServiceStub
from quarry.v1.search_service_pb2_grpc import SearchServiceStub
from quarry.v1.server_service_pb2_grpc import ServerServiceStub
from quarry_cli.failures import CliError

DEFAULT_SERVER = "127.0.0.1:50051"
MAX_MESSAGE_BYTES = 64 * 2**20
"""Largest message taken or sent; the server's own limit, which may be lower, is the server's to enforce."""


def named_server(ctx: typer.Context, server: str | None) -> str | None:
    """The command's ``--server`` if it is HOST:PORT, otherwise the one in front of the command."""
    if server is None:
        outer: str | None = ctx.find_root().params.get("_server")
        return outer
    host, colon, port = server.rpartition(":")
    if not (host and colon and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise typer.BadParameter(f"{server!r} is not HOST:PORT")
    return server


ServerOption = Annotated[
    str | None,
    typer.Option("--server", metavar="H:P", callback=named_server, help="The server's address."),
]
TimeoutOption = Annotated[
    float | None,
    typer.Option("--timeout", min=0.001, metavar="SECONDS", help="Longest wait for one call."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


@dataclass(frozen=True, slots=True)
class Connection:
    """Stubs of one server's services.

    Attributes:
        server: its address.
        timeout_s: deadline of every call.
    """

    server: str
    timeout_s: float
    channel: grpc.Channel
    collections: CollectionServiceStub
    documents: DocumentServiceStub
    search: SearchServiceStub
    info: ServerServiceStub
    operations: operations_pb2_grpc.OperationsStub


@contextmanager
def connect(
    server: str | None, timeout_s: float | None, default_timeout_s: float = 30
) -> Iterator[Connection]:
    """A connection for the length of a ``with`` block; the first call opens it."""
    address = server or DEFAULT_SERVER
    options = [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ]
    try:
        channel = grpc.insecure_channel(address, options=options)
    except (RuntimeError, ValueError) as error:
        raise CliError(f"cannot use the address {address}: {error}") from None
    with channel:
        yield Connection(
            address,
            timeout_s or default_timeout_s,
            channel,
            CollectionServiceStub(channel),
            DocumentServiceStub(channel),
            SearchServiceStub(channel),
            ServerServiceStub(channel),
            operations_pb2_grpc.OperationsStub(channel),
        )


def collection_of(quarry: Connection, name: str) -> collection_service_pb2.Collection:
    """The collection's settings and state."""
    request = collection_service_pb2.GetCollectionRequest(name=name)
    return quarry.collections.GetCollection(request, timeout=quarry.timeout_s).collection


class _Page(Protocol):
    next_page_token: str


class _PageRequest(Protocol):
    page_token: str


Page = TypeVar("Page", bound=_Page)


def read_pages(call: Callable[..., Page], request: _PageRequest, timeout_s: float) -> Iterator[Page]:
    """Every page of a list, each asked for with the token that the one before it ended with."""
    while True:
        page = call(request, timeout=timeout_s)
        yield page
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token
