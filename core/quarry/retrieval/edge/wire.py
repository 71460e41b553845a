"""Frames between the server and its store process: a length, then a pickle.

The peer is this program's own child on a socket pair that nobody else can open, so pickle is as safe as a
function call; vectors travel as buffers at the speed of memory.
"""

import pickle
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

PING = "ping"
"""Method that is answered at once, before whatever waits."""
HEADER = struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """A call of the store process; ``id`` names it in the reply, so many can be in flight."""

    id: int
    method: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a request, or in ``error`` why there is none."""

    id: int
    value: Any = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Greeting:
    """First frame of the store process: it is open, or it is not and will exit."""

    data_loss: str | None = None
    error: str | None = None


def encode(message: object) -> bytes:
    body = pickle.dumps(message, protocol=5)
    return HEADER.pack(len(body)) + body


def decode(body: bytes | bytearray | memoryview) -> Any:
    return pickle.loads(body)  # noqa: S301  # the peer is our own child


class FrameBuffer:
    """Puts frames together from the pieces in which they arrive."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[Any]:
        """Yields the messages that ``data`` completes, in order."""
        self._data += data
        while len(self._data) >= HEADER.size:
            end = HEADER.size + HEADER.unpack_from(self._data)[0]
            if len(self._data) < end:
                return
            message = decode(bytes(self._data[HEADER.size : end]))
            del self._data[:end]
            yield message
