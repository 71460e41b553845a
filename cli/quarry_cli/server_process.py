"""A server as a child process, for as long as a ``with`` block lasts."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from quarry_cli.failures import CliError

READY = "quarry: listening on "
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 8.0
POLL_S = 0.05
SHOWN_LOG_LINES = 15
_LISTENING = ("QUARRY_INSECURE", "QUARRY_SOCKET")


@contextmanager
def run_server(folder: Path) -> Iterator[str]:
    """Yields the address of a server with its data in ``folder / "data"`` and its log beside it.

    To be entered on a thread that lives as long: the kernel takes its end for that of the process.

    Raises:
        CliError: it did not come up; with the end of its log.
    """
    said, log = folder / "server.out", folder / "server.log"
    with said.open("wb") as stdout, log.open("wb") as stderr:
        # A session of its own: Ctrl-C in the terminal reaches this process, which then stops the server.
        process = subprocess.Popen(  # noqa: S603
            make_command(folder / "data"),
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            env=make_environment(),
        )
        try:
            yield _wait_for_address(process, said, log)
        finally:
            _stop(process)


def make_environment() -> dict[str, str]:
    """Makes the server's environment: this one, without what the user's own server listens on.

    Nobody balances calls to the new server, so it need not say NOT_SERVING before it stops.
    """
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("QUARRY_TLS", *_LISTENING))
    }
    return {"QUARRY_DRAIN_NOTICE_S": "0", **kept}


def make_command(data: Path) -> list[str]:
    child = [sys.executable, "-P", "-m", "quarry_cli.child_program"]  # -P: not what lies in this folder
    return [*child, str(os.getpid()), "serve", "--data", str(data), "--host", "127.0.0.1", "--port", "0"]


def _wait_for_address(process: "subprocess.Popen[bytes]", said: Path, log: Path) -> str:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        for line in said.read_text().splitlines(keepends=True):
            if line.startswith(READY) and line.endswith("\n"):
                return line.removeprefix(READY).strip()
        if process.poll() is not None:
            raise CliError(f"the server ended with status {process.returncode}: {_read_end(log)}")
        time.sleep(POLL_S)
    raise CliError(f"the server was not ready after {START_TIMEOUT_S:g} s: {_read_end(log)}")


def _read_end(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-SHOWN_LOG_LINES:])


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S)
    finally:  # a second Ctrl-C ends here too
        process.kill()
        process.wait()
