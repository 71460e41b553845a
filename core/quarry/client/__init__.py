"""The Python client: stubs with deadlines, retries and typed errors, and the calls that take many requests.

Importing it loads grpcio and protobuf and what they need; none of the libraries that a server needs.
"""

from quarry.client.aio_client import AsyncClient
from quarry.client.client import Client
from quarry.client.errors import ClientClosedError, ProtocolError, QuarryCallError, StreamStalledError
from quarry.client.events import EventsRefusedError, EventSummary
from quarry.client.tls import Tls
from quarry.client.upserts import Batch, DocumentsRefusedError, UpsertSummary

__all__ = [
    "AsyncClient",
    "Batch",
    "Client",
    "ClientClosedError",
    "DocumentsRefusedError",
    "EventSummary",
    "EventsRefusedError",
    "ProtocolError",
    "QuarryCallError",
    "StreamStalledError",
    "Tls",
    "UpsertSummary",
]
