"""Bounds the memory of a process: whoever started it watches it, and ends it when it takes too much.

A limit of the kernel's on address space would not do: torch, onnxruntime and CUDA reserve many times what
they use, and libraries in C++ and Rust abort where an allocation fails. A control group needs rights that a
server mostly lacks.
"""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

from quarry.errors import LimitExceededError

POLL_S = 0.1
"""A process that fills pages as fast as it can takes some hundred megabytes in this time."""
_GROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_FIRST_TO_GO = "1000"


def resolve_memory_limit(asked_bytes: int) -> int:
    """Chooses the most bytes of one process: those asked for; for 0, three quarters of the machine's or its
    group's.

    It is 0 where memory cannot be watched: that is, not on Linux.
    """
    if sys.platform != "linux":
        return 0
    return asked_bytes or _read_machine_bytes() * 3 // 4


def read_used_bytes(pid: int) -> int:
    """Reads anonymous memory of a process, in swap or not; 0 if it has ended. Mapped files do not count."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    kilobytes = [line.split()[1] for line in status.splitlines() if line.startswith(("RssAnon:", "VmSwap:"))]
    return sum(map(int, kilobytes)) * 1_024


class MemoryWatch:
    """Watches the memory of a process from now until ``stop``, and kills the process if it takes too much.

    Args:
        most_bytes: 0 for no limit.
    """

    def __init__(self, process: asyncio.subprocess.Process, most_bytes: int) -> None:
        self._process, self._most_bytes = process, most_bytes
        self._exceeded = False
        self._killed_before = _count_memory_kills()
        self._task = asyncio.create_task(self._watch()) if most_bytes else None

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def find_problem(self, status: int) -> LimitExceededError | None:
        """Tells why the process ended with this status, if it was killed for its memory, by us or by the
        kernel."""
        if self._exceeded:
            return LimitExceededError(
                f"the job needed more memory than jobs.memory_bytes allows: {self._most_bytes} bytes"
            )
        if status == -signal.SIGKILL and _count_memory_kills() > self._killed_before:
            return LimitExceededError("the job needed more memory than the machine had left")
        return None

    async def _watch(self) -> None:
        while read_used_bytes(self._process.pid) <= self._most_bytes:  # noqa: ASYNC110  nothing tells of it
            await asyncio.sleep(POLL_S)
        self._exceeded = True
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()


def ask_to_be_killed_first() -> None:
    """Asks the kernel to end this process, not its server, when the machine has no memory left."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # where /proc cannot be written the kernel chooses by itself
            Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO, encoding="ascii")


def _read_machine_bytes() -> int:
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for file in _GROUP_LIMITS:
        try:
            whole = min(whole, int(file.read_text(encoding="ascii")))
        except (OSError, ValueError):  # there is no such group, or it says "max"
            continue
    return whole


def _count_memory_kills() -> int:
    """Counts how many processes the kernel has killed since it started, so that others had memory."""
    try:
        counts = Path("/proc/vmstat").read_text(encoding="ascii")
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in counts.splitlines() if line.startswith("oom_kill ")), 0)
