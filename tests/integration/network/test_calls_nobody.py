"""Quarry calls nobody, and writes nothing outside its data folder."""

import os
import sys
from pathlib import Path

import pytest
from tests.integration.network.isolated import calls_of, why_not

from quarry.testing import make_tiny_encoder

ROOT = Path(__file__).resolve().parents[3]
DAY_S = 280.0
PROBE = """
import socket
for family, address in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as one:
            one.sendto(b"x", (address, 99))
    except OSError:
        assert family == socket.AF_INET6
with socket.socket() as one:
    one.settimeout(0.01)
    assert one.connect_ex(("192.0.2.2", 443)) != 0
with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
    pass
"""


@pytest.fixture(autouse=True)
def can_isolate() -> None:
    if reason := why_not():
        pytest.skip(reason)


def environment(folder: Path) -> dict[str, str]:
    """Of a user whose home and temporary folder are empty, and whose libraries are told nothing."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "LD_LIBRARY_PATH")}
    for name in ("home", "temporary", "work"):
        (folder / name).mkdir()
    sources = [str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return kept | {
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "temporary"),
        "PYTHONPATH": os.pathsep.join(filter(None, sources)),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def test_a_call_is_noticed_whatever_its_form(tmp_path: Path) -> None:
    made = environment(tmp_path)
    command = [sys.executable, "-c", PROBE]
    called = calls_of(command, tmp_path / "calls.json", made, tmp_path / "work", 60)
    assert {"UDP 192.0.2.1:99", "TCP 192.0.2.2:443"} <= set(called)
    assert set(called) <= {"UDP 192.0.2.1:99", "TCP 192.0.2.2:443", "UDP 2001:db8::1:99"}


def test_a_day_of_a_server_and_its_jobs_calls_nobody_and_leaves_nothing_elsewhere(tmp_path: Path) -> None:
    encoder, data = make_tiny_encoder(tmp_path / "encoder", seed=8), tmp_path / "data"
    before = sorted(path.name for path in encoder.rglob("*"))
    made = environment(tmp_path)
    command = [sys.executable, "-m", "tests.integration.network.ordinary_day", str(encoder), str(data)]
    assert calls_of(command, tmp_path / "calls.json", made, tmp_path / "work", DAY_S) == []
    left = [path for name in ("home", "temporary", "work") for path in (tmp_path / name).rglob("*")]
    assert left == []
    assert sorted(path.name for path in encoder.rglob("*")) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["calls.json", "data", "encoder", "home", "server.log", "temporary", "work"]
    )
