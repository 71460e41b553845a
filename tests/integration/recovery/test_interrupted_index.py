"""Ctrl-C in the middle of `quarry index`: it ends at once, and what was acknowledged stays."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from quarry_cli.server_process import run_server

PATIENCE_S = 30.0
ENDS_WITHIN_S = 10.0


def quarry(address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "quarry_cli", "--server", address, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True)


def written(address: str) -> int:
    shown = json.loads(quarry(address, "collection", "show", "c", "--json").stdout)
    return int(shown["status"]["document_count"])


def interrupted(process: "subprocess.Popen[str]") -> str:
    """What the process says when it ends.

    As a person would, Ctrl-C is pressed again if nothing happens: a signal that comes between Python's look
    at signals and a read of the pipe does not end that read.
    """
    for _ in range(4):
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=ENDS_WITHIN_S / 5)[1]
    process.kill()
    raise AssertionError(f"it did not end: {process.communicate()[1]}")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_an_interrupted_index_ends_at_once_and_keeps_what_was_written(tmp_path: Path) -> None:
    pipe = tmp_path / "endless.jsonl"
    os.mkfifo(pipe)
    with run_server(tmp_path) as address:
        quarry(address, "collection", "create", "c", "--encoder", "none")
        command = [sys.executable, "-m", "quarry_cli", "--server", address, "index", "c", str(pipe)]
        indexing = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        line = json.dumps({"_id": "x", "title": "t", "text": "word " * 400}) + "\n"
        with pipe.open("w") as stream:
            for number in range(3_000):  # several batches; the last is cut off
                stream.write(line.replace('"x"', f'"{number}"'))
            stream.flush()
            deadline = time.monotonic() + PATIENCE_S
            while not (before := written(address)):
                assert time.monotonic() < deadline, "nothing was written"
            started = time.monotonic()
            problem = interrupted(indexing)
        assert indexing.returncode == 130
        assert time.monotonic() - started < ENDS_WITHIN_S
        assert "interrupted" in problem and "Traceback" not in problem
        assert written(address) >= before
