"""The store process: one thread that serves searches first, then writes and steps of a build in turn.

``python -m quarry.retrieval.edge.store_worker FD`` reads its settings, then requests, from the socket FD.
When the other end closes, it flushes and exits.
"""

import logging
import os
import selectors
import socket
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

from quarry.errors import DataLossError, QuarryError
from quarry.lifetime import leave_signals_to_parent
from quarry.log_lines import log_to_stderr
from quarry.retrieval.edge.store import ShardStore
from quarry.retrieval.edge.store_settings import StoreSettings
from quarry.retrieval.edge.wire import PING, FrameBuffer, Greeting, Reply, StoreRequest, encode

logger = logging.getLogger(__name__)

RECEIVE_BYTES = 2**20


class StoreWorker:
    """Serves one store to one peer until that closes the connection.

    Args:
        store: open.
        peer: connected socket.
        frames: what has arrived of it so far.
    """

    def __init__(self, store: ShardStore, peer: socket.socket, frames: FrameBuffer) -> None:
        self._store, self._peer, self._frames = store, peer, frames
        self._reads: deque[StoreRequest] = deque()
        self._writes: deque[StoreRequest] = deque()
        self._awaiting_build: list[int] = []
        self._build_turn = False
        self._connected = True
        self._selector = selectors.DefaultSelector()
        self._selector.register(peer, selectors.EVENT_READ, self._receive)
        self._read_methods: dict[str, Callable[..., Any]] = {
            "nearest": store.find_nearest,
            "similarities": store.compute_similarities,
            "versions": store.read_versions,
            "vectors": store.read_vectors,
            "count": store.count,
            "status": store.read_status,
        }
        self._write_methods: dict[str, Callable[..., Any]] = {
            "apply": store.apply,
            "applied": store.note_applied,
            "flush": store.flush,
            "position": store.read_position,
        }

    def run(self) -> None:
        while self._connected:
            for key, _ in self._selector.select(0 if self._has_work() else None):
                key.data()
            self._do_piece()
        self._store.close()

    def _has_work(self) -> bool:
        return (
            bool(self._reads) or self._store.has_work or (bool(self._writes) and not self._store.holds_writes)
        )

    def _do_piece(self) -> None:
        """Does one short piece, so that a search that arrives meanwhile waits for no more than that."""
        if self._reads:
            self._answer(self._reads.popleft(), self._read_methods)
            return
        self._build_turn = not self._build_turn
        if self._store.has_work and (self._build_turn or not self._writes):
            self._guard(self._step_build)
        elif self._writes and not self._store.holds_writes:
            self._write(self._writes.popleft())

    def _write(self, request: StoreRequest) -> None:
        if request.method in ("optimize", "erase"):
            erase = request.method == "erase"
            if erase and self._store.rebuild is not None:
                self._send(Reply(request.id, error="a graph is being built: erase after that"))
                return
            self._awaiting_build.append(request.id)
            self._guard(lambda: self._start_build(erase))
            return
        self._answer(request, self._write_methods)
        if request.method == "flush" and self._store.needs_rebuild():
            self._guard(self._start_build)

    def _answer(self, request: StoreRequest, methods: dict[str, Callable[..., Any]]) -> None:
        try:
            reply = Reply(request.id, methods[request.method](*request.arguments))
        except Exception as error:  # the engine raises plain Exceptions; the caller is told
            logger.exception("%s failed", request.method)
            reply = Reply(request.id, error=f"{type(error).__name__}: {error}")
        self._send(reply)

    def _send(self, reply: Reply) -> None:
        try:
            self._peer.sendall(encode(reply))
        except OSError:
            self._connected = False  # nobody is left to tell

    def _receive(self) -> None:
        """Takes all that has arrived: a search may stand behind the frames of writes."""
        while self._connected:
            try:
                data = self._peer.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except ConnectionError:
                data = b""
            self._connected = bool(data)
            for request in self._frames.feed(data):
                if request.method == PING:
                    self._send(Reply(request.id))
                    continue
                (self._reads if request.method in self._read_methods else self._writes).append(request)

    # building the graph

    def _guard(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:  # noqa: BLE001  # a failed build must not end the store
            self._unwatch()
            self._store.give_up_rebuild(str(error))
            self._tell_builders(f"the build failed: {error}")

    def _start_build(self, erase: bool = False) -> None:
        if self._store.rebuild is None:
            rebuild = self._store.start_rebuild(erase)
            self._selector.register(rebuild, selectors.EVENT_READ, self._build_event)

    def _build_event(self) -> None:
        self._guard(self._advance_build)

    def _advance_build(self) -> None:
        rebuild = self._store.rebuild
        if rebuild is not None:
            watched = rebuild.fileno()
            rebuild.advance()
            if not rebuild.running:
                self._selector.unregister(watched)

    def _step_build(self) -> None:
        if self._store.advance_build():
            self._tell_builders(None)

    def _unwatch(self) -> None:
        for key in list(self._selector.get_map().values()):
            if key.fileobj is not self._peer:
                self._selector.unregister(key.fileobj)

    def _tell_builders(self, error: str | None) -> None:
        for request_id in self._awaiting_build:
            self._send(Reply(request_id, error=error))
        self._awaiting_build.clear()


def serve(peer: socket.socket) -> None:
    """Opens the store that the first frame names, says how that went, and serves it."""
    frames = FrameBuffer()
    settings = receive_first_message(peer, frames)
    try:
        store = ShardStore(settings)
    except DataLossError as error:
        peer.sendall(encode(Greeting(data_loss=str(error))))
        return
    except Exception as error:
        reason = str(error) if isinstance(error, QuarryError) else f"{type(error).__name__}: {error}"
        peer.sendall(encode(Greeting(error=reason)))
        raise
    peer.sendall(encode(Greeting()))
    StoreWorker(store, peer, frames).run()


def receive_first_message(peer: socket.socket, frames: FrameBuffer) -> StoreSettings:
    while True:
        data = peer.recv(RECEIVE_BYTES)
        if not data:
            sys.exit("the parent has gone")
        for message in frames.feed(data):
            return message  # type: ignore[no-any-return]  # the peer sends its settings first


def main() -> None:
    log_to_stderr(os.environ.get("QUARRY_LOG_LEVEL", "INFO"))
    leave_signals_to_parent()
    try:
        with socket.socket(fileno=int(sys.argv[1])) as peer:
            serve(peer)
    except Exception:  # the interpreter would write it as it is, control characters and all
        logger.exception("the store process ends")
        sys.exit(1)


if __name__ == "__main__":
    main()
