"""Checks of the machine: processor, GPU, data folder, disk, port, server."""

import os
import platform
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from grpc_health.v1 import health_pb2, health_pb2_grpc

from quarry.client import QuarryCallError
from quarry.client.addresses import is_loopback, is_unix_address
from quarry.client.channel import DEFAULT_ADDRESS
from quarry.v1 import server_service_pb2
from quarry_cli.checks.check import Check, CheckState
from quarry_cli.connection import connect
from quarry_cli.failures import describe
from quarry_cli.tls_options import read_tls

INSTRUCTION_SETS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "amx_tile",
    "asimd",
    "asimddp",
    "i8mm",
    "sve",
)
SPARE_DISK_BYTES = 2 * 2**30
PROBE_TIMEOUT_S = 5.0
LOCK_NAME = "lock"
ROUTED = ("192.0.2.1", 9)
"""An address that no machine has (RFC 5737), on any other network."""


def check_processor() -> Iterator[Check]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    known = _read_cpu_flags()
    sets = [name for name in INSTRUCTION_SETS if name in known]
    detail = f"{usable} cores, {platform.machine()}, {' '.join(sets) or 'instruction sets unknown'}"
    slow = platform.machine() in {"x86_64", "AMD64"} and bool(known) and "avx2" not in known
    yield Check(
        "processor",
        CheckState.WARN if slow else CheckState.OK,
        detail + (": no AVX2, models run slowly" * slow),
    )


def _read_cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return {f for line in lines if line.startswith(("flags", "Features")) for f in line.split(":")[1].split()}


def check_cuda() -> Iterator[Check]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        yield Check("cuda", CheckState.OK, "no GPU found; models run on the processor")
        return
    query = [tool, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        # The path comes from the user's own PATH, and nothing of it from outside.
        found = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError) as error:
        yield Check("cuda", CheckState.WARN, f"nvidia-smi fails: {error}")
        return
    yield Check("cuda", CheckState.OK, "; ".join(found.stdout.split("\n")).strip("; "))


def check_data_folder(data: Path) -> Iterator[Check]:
    """Checks whether a server could write to ``data``, and how much room there is."""
    folder = next(parent for parent in [data.absolute(), *data.absolute().parents] if parent.exists())
    if not folder.is_dir():
        yield Check("data folder", CheckState.FAIL, f"{folder} is not a folder")
        return
    if not os.access(folder, os.W_OK | os.X_OK):
        yield Check("data folder", CheckState.FAIL, f"cannot write to {folder}")
    elif folder != data.absolute():
        yield Check("data folder", CheckState.OK, f"{data} can be made")
    else:
        yield Check("data folder", CheckState.OK, f"{data} is writable, {_describe_lock(data)}")
    free = shutil.disk_usage(folder).free
    yield Check(
        "disk", CheckState.OK if free > SPARE_DISK_BYTES else CheckState.WARN, f"{free / 2**30:,.1f} GiB free"
    )


def _describe_lock(data: Path) -> str:
    try:
        from filelock import FileLock, Timeout
    except ImportError:
        return "its lock was not looked at: filelock is not installed"
    lock = data / LOCK_NAME
    if not lock.exists():
        return "no server uses it"
    try:
        with FileLock(lock, timeout=0):
            return "no server uses it"
    except Timeout:
        return "a server uses it now"
    except OSError as error:
        return f"its lock cannot be read: {error}"


def check_server(server: str | None) -> Iterator[Check]:
    """Checks whether the server answers, is ready, and which it is; one that nobody named may be absent."""
    address = server or DEFAULT_ADDRESS
    with connect(address, PROBE_TIMEOUT_S) as quarry:
        health = health_pb2_grpc.HealthStub(quarry.channel)
        try:
            # The stubs leave out the methods, which are set when the object is made.
            status = health.Check(health_pb2.HealthCheckRequest(), timeout=PROBE_TIMEOUT_S).status  # type: ignore[attr-defined]
            request = server_service_pb2.GetServerInfoRequest()
            info = quarry.server.GetServerInfo(request, timeout=PROBE_TIMEOUT_S)
        except QuarryCallError as error:
            yield _report_absent(address, named=server is not None, why=describe(error))
            return
    serving = status == health_pb2.HealthCheckResponse.SERVING
    said = health_pb2.HealthCheckResponse.ServingStatus.Name(status)
    detail = f"{address}: {said}, version {info.version}, {info.default_encoder} on {info.device}"
    yield Check("server", CheckState.OK if serving else CheckState.FAIL, detail)
    yield from check_exposure(address, encrypted=read_tls(address) is not None)


def check_exposure(address: str, encrypted: bool) -> Iterator[Check]:
    """Checks whether other machines reach the server that answered at ``address``, and what they can do.

    A server that listens on every address of this machine answers at the one that other machines use, too.
    """
    if is_unix_address(address):
        return
    host, _, port = address.rpartition(":")
    outward = host if not is_loopback(host) else find_outward_address()
    if not outward or (outward != host and not is_port_open(outward, int(port))):
        yield Check("exposure", CheckState.OK, "only this machine reaches the server")
    elif encrypted:
        detail = f"{outward}:{port} speaks TLS; --tls-client-ca lets in only clients that you know"
        yield Check("exposure", CheckState.OK, detail)
    else:
        detail = f"{outward}:{port} is open without TLS: others can read and change everything; serve with "
        yield Check("exposure", CheckState.WARN, detail + "--tls-cert and --tls-key, or on 127.0.0.1")


def find_outward_address() -> str:
    """Finds the address from which this machine would call another one; empty if there is none.

    Nothing is sent: the kernel only looks up a route.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(ROUTED)
        except OSError:
            return ""
        found = str(probe.getsockname()[0])
    return "" if is_loopback(found) else found


def is_port_open(host: str, port: int) -> bool:
    """Tells whether somebody listens there."""
    try:
        socket.create_connection((host, port), PROBE_TIMEOUT_S).close()
    except OSError:
        return False
    return True


def _report_absent(address: str, named: bool, why: str) -> Check:
    if named:
        return Check("server", CheckState.FAIL, f"{address}: {why}")
    if is_port_free(address):
        return Check("server", CheckState.OK, f"none at {address}; the port is free for `quarry serve`")
    return Check("server", CheckState.WARN, f"something that is not Quarry listens at {address}: {why}")


def is_port_free(address: str) -> bool:
    """Tells whether a server could listen at ``HOST:PORT``."""
    host, _, port = address.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError:
            return False
    return True
