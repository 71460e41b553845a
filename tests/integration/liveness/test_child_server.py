"""A server that a program runs for itself does not outlive it."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from quarry_cli.failures import CliError
from quarry_cli.server_process import run_server

PATIENCE_S = 30.0
PROGRAM = """
import sys, time
from pathlib import Path
from quarry_cli.server_process import run_server
with run_server(Path(sys.argv[1])) as address:
    print(address, flush=True)
    time.sleep(600)
"""


def started_again(folder: Path) -> bool:
    try:
        with run_server(folder):
            return True
    except CliError as error:
        assert "another server is using" in str(error)
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal at a parent's death is Linux's")
@pytest.mark.parametrize("end", [subprocess.Popen.terminate, subprocess.Popen.kill])
def test_what_a_killed_program_was_running_lets_go_of_its_data(end, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        started = program.stdout.readline()
        end(program)
    assert started.startswith("127.0.0.1:")
    deadline = time.monotonic() + PATIENCE_S
    while not started_again(tmp_path):
        assert time.monotonic() < deadline, "the server is still there"
