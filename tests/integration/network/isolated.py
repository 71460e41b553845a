"""Runs a command on a network of its own, and lists whom its processes have called.

``unshare`` gives the command a network namespace in which every address is routed to the loopback device,
and lost there. A raw socket sees every packet before that: of Python and of native code, of processes that
live for a moment, of TCP, UDP and name look-ups, whether anybody answers or not. This needs Linux and user
namespaces, and no further package.

As a program, ``python isolated.py REPORT COMMAND...``, this module is what ``unshare`` starts.
"""

import contextlib
import ctypes
import fcntl
import ipaddress
import json
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

UNSHARE = ("unshare", "--map-root-user", "--net")
_SET_FLAGS, _ADD_ROUTE = 0x8914, 0x890B  # linux/sockios.h
_UP, _RUNNING, _LOOPBACK, _ROUTE_UP = 0x1, 0x40, 0x8, 0x1
_ALL_PROTOCOLS, _IPV4, _IPV6, _TCP, _UDP, _DNS = 3, 0x0800, 0x86DD, 6, 17, 53


def why_not() -> str:
    """Why this machine cannot isolate a command; empty if it can."""
    try:
        tried = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True, timeout=30)
    except FileNotFoundError:
        return "there is no unshare on this machine"
    return "" if tried.returncode == 0 else f"no network namespace can be made: {tried.stderr.strip()}"


def calls_of(
    command: Sequence[str], report: Path, environment: Mapping[str, str], folder: Path, timeout_s: float
) -> list[str]:
    """Whom the command and its children have called, each once, as ``PROTOCOL ADDRESS`` or ``DNS NAME``.

    Args:
        report: file to put the list in.
        folder: the command's working directory.

    Raises AssertionError with the command's output if it fails.
    """
    ended = subprocess.run(
        [*UNSHARE, sys.executable, str(Path(__file__).resolve()), str(report), *command],
        env=dict(environment),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found: list[str] = json.loads(report.read_text())
    return found


class Listener:
    """Notes the receivers of all packets on the loopback device but those that stay on this machine."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL_PROTOCOLS))
        self._socket.bind(("lo", 0))
        self._called: dict[str, None] = {}
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def called(self) -> list[str]:
        return list(self._called)

    def _listen(self) -> None:
        while True:
            packet, address = self._socket.recvfrom(65_535)
            if call := _call_in(packet, address[1]):
                self._called.setdefault(call)


def _call_in(packet: bytes, kind: int) -> str:
    """Whom the packet calls; empty if it stays on this machine."""
    if kind == _IPV4:
        receiver, protocol = ipaddress.ip_address(packet[16:20]), packet[9]
        inner = packet[4 * (packet[0] & 15) :]
    elif kind == _IPV6:
        receiver, protocol = ipaddress.ip_address(packet[24:40]), packet[6]
        inner = packet[40:]
    else:
        return ""
    port = struct.unpack("!H", inner[2:4])[0] if protocol in (_TCP, _UDP) and len(inner) >= 4 else 0
    if port == _DNS and protocol == _UDP:  # also of a resolver on this machine, which would ask others
        return f"DNS {_asked_name(inner[8:])}"
    if receiver.is_loopback or (receiver.is_multicast and not port):  # the kernel's own announcements
        return ""
    return f"{ {_TCP: 'TCP', _UDP: 'UDP'}.get(protocol, f'IP {protocol}') } {receiver}:{port}"


def _asked_name(question: bytes) -> str:
    labels, place = [], 12
    while place < len(question) and (size := question[place]):
        labels.append(question[place + 1 : place + 1 + size].decode(errors="replace"))
        place += 1 + size
    return ".".join(labels)


def _route_everything_to_loopback() -> None:
    name = ctypes.create_string_buffer(b"lo")
    anywhere = struct.pack("=HH4s8x", socket.AF_INET, 0, bytes(4))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
        fcntl.ioctl(device, _SET_FLAGS, struct.pack("16sH14x", b"lo", _UP | _RUNNING | _LOOPBACK))
        # struct rtentry of linux/route.h: receiver, gateway, mask; then flags; then the device's name
        head = struct.pack("@L16s16s16sHhL", 0, anywhere, anywhere, anywhere, _ROUTE_UP, 0, 0)
        tail = struct.pack("@PhPLLH", 0, 0, ctypes.addressof(name), 0, 0, 0)
        fcntl.ioctl(device, _ADD_ROUTE, head + tail)
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as device:
        # struct in6_rtmsg; a machine without IPv6 needs no route
        route = struct.pack("@16s16s16sIHHILIi", b"", b"", b"", 0, 0, 0, 1, 0, _ROUTE_UP, 1)
        fcntl.ioctl(device, _ADD_ROUTE, route)


def main(report: str, *command: str) -> int:
    _route_everything_to_loopback()
    listener = Listener()
    status = subprocess.run(command).returncode
    Path(report).write_text(json.dumps(listener.called))
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
