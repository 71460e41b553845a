"""Stand-ins for the network beyond a server: a proxy that never answers, and a hub with one model."""

import contextlib
import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0" * 39 + "1"


class SilentProxy:
    """Takes every connection and says nothing.

    Attributes:
        url: for ``HTTPS_PROXY``.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._taken: list[socket.socket] = []
        self._first = threading.Event()
        host, port = listener.getsockname()
        self.url = f"http://{host}:{port}"

    @property
    def connections(self) -> int:
        """How many there have been."""
        return len(self._taken)

    def wait_for_one(self, timeout_s: float) -> bool:
        """Whether somebody has connected, waiting so long for it."""
        return self._first.wait(timeout_s)

    def run(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                self._taken.append(self._listener.accept()[0])
                self._first.set()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for one in [self._listener, *self._taken]:
            one.close()


@contextlib.contextmanager
def silent_proxy() -> Iterator[SilentProxy]:
    proxy = SilentProxy(socket.create_server(("127.0.0.1", 0), backlog=128))
    thread = threading.Thread(target=proxy.run)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.close()
        thread.join()


@contextlib.contextmanager
def hub_of(name: str, folder: Path) -> Iterator[str]:
    """A hub that has the model ``name`` alone, made of the files in ``folder``; its URL, for HF_ENDPOINT."""
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(head=True)

        def do_GET(self) -> None:
            self._answer(head=False)

        def _answer(self, head: bool) -> None:
            path = self.path.split("?")[0]
            file = files.get(path.removeprefix(f"/{name}/resolve/{COMMIT}/"))
            if path == f"/api/models/{name}/revision/main":
                self._send(json.dumps({"id": name, "sha": COMMIT, "siblings": []}).encode(), head)
            elif path == f"/api/models/{name}/tree/{COMMIT}":
                self._send(json.dumps([_entry(*one) for one in files.items()]).encode(), head)
            elif file is not None:
                self._send(file, head)
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()

        def _send(self, body: bytes, head: bool) -> None:
            self.send_response(200)
            self.send_header("ETag", f'"{_digest(body)}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if not head:
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _entry(path: str, content: bytes) -> dict[str, object]:
    return {"type": "file", "path": path, "size": len(content), "oid": _digest(content)}


def _digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()  # noqa: S324  as git names blobs, roughly
