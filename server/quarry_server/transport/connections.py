"""The limits of connections: how many clients, how long a silent one may stay, and what is left for the
engines.

Each connection takes a descriptor. Engines open files all the time, and fail when there are none left; so
connections get at most half of what the process may open.
"""

import logging
import resource
from collections.abc import Sequence
from dataclasses import dataclass

from quarry.config import MAX_MESSAGE_BYTES, ConnectionSettings

logger = logging.getLogger(__name__)
CONNECTIONS_SHARE = 0.5
"""Of the descriptors of the process; the others are kept for databases, indexes and child processes."""
FEW_DESCRIPTORS = 1_024
"""A limit under this leaves little for the files of many collections."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """The limits of this process.

    Attributes:
        most: connections at once; one more is closed as soon as it is accepted.
        idle_s: a connection without a call is closed after it. Clients connect anew by themselves.
        handshake_s: a connection that has not opened HTTP/2 is closed after it.
        calls: at once on one connection; a client keeps further ones back.
        age_s: a connection that is so old takes no further calls.
        age_grace_s: its calls that still run after it are cut.
    """

    most: int
    idle_s: float
    handshake_s: float
    calls: int
    age_s: float
    age_grace_s: float


def raise_descriptor_limit() -> None:
    """Lets this process open as many files as its hard limit allows; systems start it with less."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:  # macOS says unlimited, and refuses it
        logger.info("the limit of open files stays at %d: %s", soft, error)


def choose_connection_limits(
    settings: ConnectionSettings, descriptors: int | None = None
) -> ConnectionLimits:
    """Chooses the limits for a process that may open so many ``descriptors``.

    By default, what this one may.
    """
    if descriptors is None:
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = settings.max_connections
    if descriptors != resource.RLIM_INFINITY:
        most = max(1, min(most, int(descriptors * CONNECTIONS_SHARE)))
        if descriptors < FEW_DESCRIPTORS:
            logger.warning("this process may open %d files only: raise its limit (ulimit -n)", descriptors)
    return ConnectionLimits(
        most,
        settings.idle_s,
        settings.handshake_s,
        settings.max_calls,
        settings.age_s,
        settings.age_grace_s,
    )


def make_grpc_options(limits: ConnectionLimits) -> Sequence[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        # Clients behind load balancers ping more often than gRPC's five minutes, and are cut off for it.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.max_connection_age_ms", _to_milliseconds(limits.age_s)),
        ("grpc.max_connection_age_grace_ms", _to_milliseconds(limits.age_grace_s)),
        ("grpc.so_reuseport", 0),  # two servers on one port would answer in turn
        ("grpc.max_allowed_incoming_connections", limits.most),
        ("grpc.max_connection_idle_ms", _to_milliseconds(limits.idle_s)),
        ("grpc.server_handshake_timeout_ms", _to_milliseconds(limits.handshake_s)),
        ("grpc.max_concurrent_streams", limits.calls),
        # A client that has gone without a word would keep its connection, and its calls, for two hours.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
    ]


def _to_milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1_000))
