"""Says at the start whom an open port lets in."""

import ipaddress
import logging
import socket

logger = logging.getLogger(__name__)

WARNING = (
    "%s can be reached from other machines, and Quarry asks nobody for a key: whoever reaches it may read, "
    "change and delete every collection and document, read and purge the log of what people searched and "
    "clicked, take models out, bring models in and promote them, and start jobs. Listen on 127.0.0.1, or let "
    "only machines through that you trust."
)


def warn_if_exposed(host: str, address: str) -> bool:
    """Logs a warning if other machines can reach a server that listens on ``host``; tells whether.

    Args:
        host: as it was asked for: an address, or a name.
        address: where the server listens, for the message.
    """
    if exposed := not is_loopback(host):
        logger.warning(WARNING, address)
    return exposed


def is_loopback(host: str) -> bool:
    """Tells whether only this machine reaches ``host``; a name counts by all of its addresses."""
    try:
        found = socket.getaddrinfo(
            host.strip("[]") or None, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError):
        return False
    return all(_is_loopback(str(address[0])) for *_, address in found)


def _is_loopback(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
