"""Addresses of Unix sockets, as people write them and as gRPC takes them."""

import os
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
