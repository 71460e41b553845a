"""Unix sockets: only what nobody listens on any more is replaced, and only its user can open one."""

import contextlib
import os
import socket
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from quarry.client.addresses import LONGEST_PATH_BYTES
from quarry.client.aio_channel import CheckedAioChannel
from quarry.errors import FailedPreconditionError, InvalidArgumentError, UnavailableError
from quarry_server.transport import sockets
from quarry_server.transport.sockets import JOBS_PREFIX, JobsSocket, check_socket_path, listen_on_socket


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path: those of pytest leave little room for a socket's."""
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        yield Path(made)


@pytest.fixture
async def server() -> Any:
    made = grpc.aio.server()
    healths = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healths, made)
    await healths.set("", health_pb2.HealthCheckResponse.SERVING)
    yield made
    await made.start()  # gRPC closes what is bound only of a server that was started
    await made.stop(None)


def leave_socket(path: Path) -> None:
    """Leaves a socket as a killed server does."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
        left.listen()


@pytest.mark.parametrize("umask", [0o000, 0o077])
async def test_only_its_user_can_open_the_socket(server: Any, folder: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        address = listen_on_socket(server, folder / "q.sock")
    finally:
        os.umask(before)
    assert address == f"unix:{folder}/q.sock"
    assert stat.S_IMODE((folder / "q.sock").stat().st_mode) == 0o600


async def test_a_path_with_signs_that_mean_something_in_a_uri_is_reached(server: Any, folder: Path) -> None:
    address = listen_on_socket(server, folder / "a b%20#?ü[1].sock")
    await server.start()
    async with CheckedAioChannel(address, timeout_s=10) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_socket_that_a_killed_server_left_is_replaced(server: Any, folder: Path) -> None:
    leave_socket(folder / "q.sock")
    listen_on_socket(server, folder / "q.sock")


async def test_a_socket_that_somebody_listens_on_stays(server: Any, folder: Path) -> None:
    path = folder / "q.sock"
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(path))
        living.listen()
        with pytest.raises(FailedPreconditionError, match="another server listens"):
            listen_on_socket(server, path)
        assert path.is_socket()


async def test_a_socket_whose_queue_is_full_stays(
    server: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "ANSWER_S", 0.05)
    path = folder / "q.sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)
        waiting.connect(str(path))
        with pytest.raises(UnavailableError, match="nobody can tell"):
            listen_on_socket(server, path)
        assert path.is_socket()


async def test_a_socket_of_datagrams_stays(server: Any, folder: Path) -> None:
    path = folder / "q.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(FailedPreconditionError, match="another program"):
            listen_on_socket(server, path)
        assert path.is_socket()


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
async def test_what_is_no_socket_stays(server: Any, folder: Path, kind: str) -> None:
    path = folder / "q.sock"
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
    else:
        leave_socket(folder / "elsewhere")
        path.symlink_to(folder / "elsewhere")
    with pytest.raises(FailedPreconditionError, match="is no socket"):
        listen_on_socket(server, path)
    assert path.is_symlink() or not path.is_socket()


async def test_two_servers_do_not_look_at_one_folder_at_once(
    server: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "LOCK_S", 0.1)
    with sockets._hold_folder(folder), pytest.raises(UnavailableError, match="keeps sockets from being"):
        listen_on_socket(server, folder / "q.sock")


async def test_a_server_waits_while_another_one_opens_its_socket(server: Any, folder: Path) -> None:
    held = contextlib.ExitStack()
    held.enter_context(sockets._hold_folder(folder))
    release = threading.Timer(0.1, held.close)
    release.start()
    listen_on_socket(server, folder / "q.sock")
    release.join()


async def test_a_stale_socket_that_cannot_be_removed_is_no_fault_of_the_data_folder(
    server: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_socket(folder / "q.sock")

    def refuse(path: Path, missing_ok: bool) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(UnavailableError, match="cannot be removed: Operation not permitted"):
        listen_on_socket(server, folder / "q.sock")
    monkeypatch.undo()


def test_a_path_that_is_too_long_is_refused_before_anything_is_opened(folder: Path) -> None:
    fits = folder / ("x" * (LONGEST_PATH_BYTES - len(str(folder)) - 1))
    check_socket_path(str(fits))
    with pytest.raises(InvalidArgumentError, match=f"may have {LONGEST_PATH_BYTES} bytes"):
        check_socket_path(f"{fits}x")
    umlauts = folder / ("ü" * ((LONGEST_PATH_BYTES - len(str(folder))) // 2 + 1))
    with pytest.raises(InvalidArgumentError, match="bytes"):
        check_socket_path(str(umlauts))


def test_a_path_below_nothing_is_refused(folder: Path) -> None:
    for path in (folder / "none" / "s", folder / "a\0b"):
        with pytest.raises(InvalidArgumentError):
            check_socket_path(str(path))


async def test_the_longest_path_can_be_bound(server: Any, folder: Path) -> None:
    listen_on_socket(server, folder / ("x" * (LONGEST_PATH_BYTES - len(str(folder)) - 1)))


def make_data(folder: Path, length: int = 4) -> Path:
    data = folder / ("d" * length)
    (data / ".quarry-tmp").mkdir(parents=True)
    return data


async def test_the_socket_of_jobs_lies_in_a_folder_of_its_own_until_the_end(
    server: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "SYSTEM_FOLDER", folder)
    made = JobsSocket(server, make_data(folder))
    inside = Path(made.address.removeprefix("unix:")).parent
    assert inside.name.startswith(JOBS_PREFIX)
    assert inside.parent == folder
    assert stat.S_IMODE(inside.stat().st_mode) == 0o700
    made.remove()
    assert not inside.exists()


async def test_what_killed_servers_left_goes_and_what_others_use_stays(
    server: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "SYSTEM_FOLDER", folder)
    stale, empty, alive = (folder / f"{JOBS_PREFIX}{name}" for name in ("stale", "empty", "alive"))
    for left in (stale, empty, alive):
        left.mkdir()
    leave_socket(stale / "s")
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(alive / "s"))
        living.listen()
        JobsSocket(server, make_data(folder)).remove()
    assert not stale.exists()
    assert empty.exists()  # its server may be about to bind
    assert (alive / "s").is_socket()


async def test_where_the_system_has_no_folder_it_lies_in_the_data_folder(
    server: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "SYSTEM_FOLDER", folder / "none")
    data = make_data(folder)
    assert JobsSocket(server, data).address.startswith(f"unix:{data}/.quarry-tmp/{JOBS_PREFIX}")
    with pytest.raises(UnavailableError, match="no place for the socket"):
        JobsSocket(server, make_data(folder, 90))
