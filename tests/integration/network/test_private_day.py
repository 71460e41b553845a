"""A server that others could reach lives a day with its jobs: its port asks for certificates, the jobs have
none, and nothing that it writes is open to other users, whatever the umask and the folder were.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from tests.certificates import make_authority, make_certificate
from tests.integration.api.helpers.served import OPTIONS, Api
from tests.integration.crash.server import LISTENING, launch
from tests.integration.network.ordinary_day import live_a_day
from tests.integration.recovery.data_folders import open_to_others

from quarry.testing import make_tiny_encoder

OPEN_UMASK = ("sh", "-c", 'umask 000; exec "$@"', "sh")


@contextmanager
def served_by_tls(folder: Path, encoder: Path) -> Iterator[Api]:
    """A server whose port takes only clients with a certificate, started with an open umask; it must stop."""
    authority = make_authority(folder / "ca")
    pair, of_client = (make_certificate(authority, folder, name) for name in ("server", "client"))
    settings = {
        "TLS__CERTIFICATE": str(pair.certificate),
        "TLS__KEY": str(pair.key),
        "TLS__CLIENT_CA": str(authority.certificate),
    }
    shown = [file.read_bytes() for file in (authority.certificate, of_client.key, of_client.certificate)]
    with launch(folder / "data", encoder, folder / "server.log", wrapper=OPEN_UMASK, **settings) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().removeprefix(LISTENING).strip()
            assert address, (folder / "server.log").read_text()
            credentials = grpc.ssl_channel_credentials(*shown)
            with grpc.secure_channel(address, credentials, OPTIONS) as channel:
                yield Api(channel, address)
        finally:
            process.terminate()
        assert process.wait() == 0, (folder / "server.log").read_text()


@pytest.mark.timeout(580)
def test_jobs_work_behind_tls_and_nothing_is_open_to_others(tmp_path: Path) -> None:
    encoder, data = make_tiny_encoder(tmp_path / "encoder", seed=8), tmp_path / "data"
    left = data / "models" / "left by an earlier version"
    left.mkdir(parents=True)
    (left / "config.json").write_text("{}")
    for path in (data, data / "models", left):
        path.chmod(0o777)
    (left / "config.json").chmod(0o666)
    with served_by_tls(tmp_path, encoder) as api:
        assert open_to_others(data) == []
        live_a_day(api)
        assert open_to_others(data) == []
        assert list(data.rglob("*.db-wal"))  # the walk saw what a server at work has
    assert open_to_others(data) == []
    assert not any(path.is_socket() for path in data.rglob("*"))
    assert {"registry", "collections"} <= {path.name for path in data.iterdir()}


def test_the_umask_of_the_wrapper_is_open() -> None:
    command = [*OPEN_UMASK, sys.executable, "-c", "import os; print(os.umask(0))"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "0\n"
