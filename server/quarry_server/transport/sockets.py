"""Unix sockets that a server listens on: the one that was asked for, and one for the server's own jobs."""

import contextlib
import errno
import fcntl
import logging
import os
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import grpc

from quarry.client.addresses import find_path_problem, write_grpc_target, write_unix_address
from quarry.environment import TEMPORARY
from quarry.errors import FailedPreconditionError, InvalidArgumentError, QuarryError, UnavailableError

logger = logging.getLogger(__name__)

FIELD = "socket"
ANSWER_S = 1.0
"""A listener takes a connection at once; what takes longer has too much to do, and is there."""
LOCK_S, LOCK_POLL_S = 2.0, 0.02
SYSTEM_FOLDER = Path("/tmp")  # noqa: S108  mkdtemp makes a folder in it that is this user's alone
"""Always a short path. A user's runtime folder goes when the user logs out, and the server may stay."""
JOBS_PREFIX, JOBS_NAME = "quarry-jobs-", "s"


def check_socket_path(text: str) -> None:
    """Raises InvalidArgumentError if no socket can be at the path ``text``."""
    path = Path(text).absolute()
    if problem := find_path_problem(path):
        raise InvalidArgumentError(FIELD, f"{path}: {problem}")
    if not path.parent.is_dir():
        raise InvalidArgumentError(FIELD, f"{path.parent} is not a folder")


def listen_on_socket(server: grpc.aio.Server, place: Path | str) -> str:
    """Listens on a socket at ``place``, which only this user can open, and returns its address.

    What a killed server has left there is replaced. gRPC removes the file when the server stops.

    Raises:
        FailedPreconditionError: a file that is no socket is there, or somebody listens there.
        UnavailableError: the file system refuses it, or nobody can tell whether somebody listens there.
    """
    path = Path(place).absolute()
    with _hold_folder(path.parent):
        _make_room(path)
        address = write_unix_address(path)
        try:
            server.add_insecure_port(write_grpc_target(address))
            path.chmod(0o600)
        except (RuntimeError, OSError) as error:
            raise UnavailableError(f"cannot listen on {address}: {error}") from None
    return address


class JobsSocket:
    """The socket by which jobs reach their server, whatever its port asks of others.

    Attributes:
        address: for ``quarry.client``.
    """

    def __init__(self, server: grpc.aio.Server, data: Path) -> None:
        """Listens in a new folder that only this user can enter.

        It lies outside the data folder, unless there is no other place: what copies that folder while the
        server runs, or after it was killed, may stumble over a socket.

        Raises UnavailableError if there is no place for it.
        """
        root = _choose_root(data)
        _remove_stale(root)
        try:
            self._folder = Path(tempfile.mkdtemp(prefix=JOBS_PREFIX, dir=root))
        except OSError as error:
            raise UnavailableError(f"no folder can be made in {root}: {error.strerror}") from None
        try:
            self.address = listen_on_socket(server, self._folder / JOBS_NAME)
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _choose_root(data: Path) -> Path:
    """Chooses a folder to write to in which the socket's path is short enough."""
    for root in (SYSTEM_FOLDER, (data / TEMPORARY).absolute()):
        fits = not find_path_problem(root / f"{JOBS_PREFIX}{'x' * 8}" / JOBS_NAME)
        if fits and os.access(root, os.W_OK | os.X_OK):
            return root
    raise UnavailableError(
        f"there is no place for the socket of jobs: {SYSTEM_FOLDER} cannot be written to, and the path of "
        f"{data.absolute()} is too long"
    )


def _remove_stale(root: Path) -> None:
    """Removes the folders of servers that were killed: this user's, with a socket that nobody answers.

    One without a socket may be that of a server that is about to make one.
    """
    for path in root.glob(f"{JOBS_PREFIX}*/{JOBS_NAME}"):
        folder = path.parent
        # Others' folders, and sockets that are in use, stay where they are: that is no failure of this start.
        with contextlib.suppress(OSError, QuarryError):
            if folder.lstat().st_uid == os.geteuid() and not folder.is_symlink():
                with _hold_folder(folder):
                    _make_room(path)
                folder.rmdir()


@contextlib.contextmanager
def _hold_folder(folder: Path) -> Iterator[None]:
    """Keeps other servers from looking for sockets in the folder, or from making one, meanwhile."""
    try:
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise UnavailableError(f"{folder} cannot be opened: {error.strerror}") from None
    try:
        _lock(held, folder)
        yield
    finally:
        os.close(held)


def _lock(held: int, folder: Path) -> None:
    """Locks the open folder. Other servers hold it for a moment; what holds it for longer is no server."""
    deadline = time.monotonic() + LOCK_S
    while True:
        try:
            return fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"another process keeps sockets from being opened in {folder}: {error.strerror}"
                ) from None
        time.sleep(LOCK_POLL_S)


def _make_room(path: Path) -> None:
    """Removes a socket that nobody listens on any more. Raises as ``listen_on_socket``."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise UnavailableError(f"{path} cannot be looked at: {error.strerror}") from None
    if not stat.S_ISSOCK(mode):
        raise FailedPreconditionError(f"{path} is there and is no socket: name another path, or remove it")
    _check_stale(path)
    logger.info("removing %s, which a server that was killed has left", path)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise UnavailableError(f"{path} cannot be removed: {error.strerror}") from None


def _check_stale(path: Path) -> None:
    """Raises unless the kernel says that nobody listens on the socket at ``path``."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(ANSWER_S)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):  # nobody listens; its server has just removed it
            return
        except OSError as error:
            if error.errno == errno.EPROTOTYPE:
                raise FailedPreconditionError(f"{path} is a socket of another program") from None
            raise UnavailableError(f"nobody can tell whether a server listens on {path}: {error}") from None
    raise FailedPreconditionError(f"another server listens on {path}")
