"""Addresses of servers: Unix sockets, as people write them and as gRPC takes them, and who reaches a host."""

import ipaddress
import os
import socket
import sys
from pathlib import Path
from urllib.parse import quote

SCHEME = "unix:"
LONGEST_PATH_BYTES = 107 if sys.platform == "linux" else 103
"""What fits into the kernel's ``sun_path`` with the zero byte behind it."""


def is_unix_address(address: str) -> bool:
    """Tells whether ``address`` is ``unix:PATH``."""
    return address.startswith(SCHEME)


def write_unix_address(path: Path) -> str:
    """Writes the address of the socket at ``path``, for people and for ``quarry.client``."""
    return f"{SCHEME}{path}"


def write_grpc_target(address: str) -> str:
    """Writes ``address`` as gRPC takes it. For gRPC a Unix socket is a URI, in which ``#`` has a meaning."""
    if not is_unix_address(address):
        return address
    return SCHEME + quote(address.removeprefix(SCHEME))


def find_path_problem(path: Path) -> str:
    """Says why no socket can be at ``path``; empty if one can."""
    if "\0" in str(path):
        return "a path cannot hold a zero byte"
    length = len(os.fsencode(path))
    if length > LONGEST_PATH_BYTES:
        return f"a socket's path may have {LONGEST_PATH_BYTES} bytes, and this one has {length}"
    return ""


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
