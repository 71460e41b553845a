"""Unix sockets of real servers: the one that was asked for, and the one of the server's own jobs."""

import asyncio
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.certificates import make_authority, make_certificate
from tests.integration.crash.server import NO_ENCODER, Server, ServerEnded, stopping_in_order
from tests.integration.network.test_tls import listed, run_quarry

from quarry.client import AsyncClient, Client, Tls
from quarry.v1.collection_service_pb2 import ListCollectionsRequest
from quarry_server.transport.sockets import JOBS_PREFIX


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        yield Path(made)


def find_jobs_folder(server: Server) -> Path:
    """The folder of the socket that the server keeps for its jobs."""
    found = {Path(str(one.laddr)) for one in psutil.Process(server.pid).net_connections(kind="unix")}
    (path,) = {path for path in found if path.parent.name.startswith(JOBS_PREFIX)}
    return path.parent


async def test_clients_and_the_command_line_take_the_socket(folder: Path) -> None:
    path = folder / "a b#.sock"
    async with stopping_in_order(folder / "data", SOCKET=str(path)) as server:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        await asyncio.to_thread(listed, f"unix:{path}", None)
        await asyncio.to_thread(listed, server.address, None)  # the port is there as well
        async with AsyncClient(f"unix:{path}") as client:
            await client.collections.ListCollections(ListCollectionsRequest())
        address = ["--server", f"unix:{path}"]
        for command in ([*address, "collection", "list"], ["collection", "list", *address]):
            assert (await run_quarry(*command)).returncode == 0
        ended = await run_quarry("collection", "list", QUARRY_SERVER=f"unix:{path}", QUARRY_USE_TLS="1")
        assert (ended.returncode, ended.stderr) == (0, "")  # a socket needs no TLS
    assert not path.exists()


def test_a_client_that_asks_for_tls_on_a_socket_is_told_so(folder: Path) -> None:
    with pytest.raises(ValueError, match="a Unix socket has no TLS"):
        Client(f"unix:{folder}/q.sock", tls=Tls())


async def test_a_socket_that_is_not_there_is_one_line(folder: Path) -> None:
    ended = await run_quarry("--server", f"unix:{folder}/none.sock", "collection", "list")
    assert ended.returncode == 1
    assert "none.sock" in ended.stderr
    ended = await run_quarry("--server", "unix:/" + "x" * 200, "collection", "list")
    assert (ended.returncode, "107 bytes" in " ".join(ended.stderr.split())) == (2, True)


async def test_a_killed_server_leaves_a_socket_that_the_next_one_takes_and_a_living_one_keeps(
    folder: Path,
) -> None:
    path = folder / "q.sock"
    server = await Server.start(folder / "data", NO_ENCODER, SOCKET=str(path))
    left = find_jobs_folder(server)
    await server.kill()
    assert path.is_socket()
    assert (left / "s").is_socket()
    async with stopping_in_order(folder / "data", SOCKET=str(path)) as server:
        await asyncio.to_thread(listed, f"unix:{path}", None)
        assert not left.exists()
        inside = find_jobs_folder(server)
        with pytest.raises(ServerEnded, match="another server listens on"):
            await Server.start(folder / "other", NO_ENCODER, SOCKET=str(path))
        await asyncio.to_thread(listed, f"unix:{path}", None)
    assert not inside.exists()


async def test_a_file_that_is_no_socket_stays(folder: Path) -> None:
    (folder / "notes").write_text("mine")
    with pytest.raises(ServerEnded, match="is no socket"):
        await Server.start(folder / "data", NO_ENCODER, SOCKET=str(folder / "notes"))
    assert (folder / "notes").read_text() == "mine"


async def test_the_socket_of_jobs_is_reached_without_a_certificate_and_by_its_user_alone(
    folder: Path,
) -> None:
    authority = make_authority(folder / "ca")
    pair = make_certificate(authority, folder / "server")
    settings = {
        "TLS__CERTIFICATE": str(pair.certificate),
        "TLS__KEY": str(pair.key),
        "TLS__CLIENT_CA": str(authority.certificate),
    }
    async with stopping_in_order(folder / "data", **settings) as server:
        inside = find_jobs_folder(server)
        assert stat.S_IMODE(inside.stat().st_mode) == 0o700
        assert stat.S_IMODE((inside / "s").stat().st_mode) == 0o600
        await asyncio.to_thread(listed, f"unix:{inside}/s", None)


async def test_a_start_whose_port_is_taken_leaves_no_socket(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with pytest.raises(ServerEnded, match="cannot listen on"):
            await start_on(port, folder)
    assert not (folder / "q.sock").exists()


async def start_on(port: str, folder: Path) -> None:
    config = folder / "quarry.toml"
    config.write_text(f'data = "{folder}/data"\nport = {port}\nsocket = "{folder}/q.sock"\n')
    ended = await run_quarry("serve", "--config", str(config), QUARRY_MODELS__ENCODER="none")
    raise ServerEnded(ended.returncode, ended.stderr)
