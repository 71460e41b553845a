"""Child processes that end with their parent and leave Ctrl-C and SIGTERM to it."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def leave_signals_to_parent() -> None:
    """Ignores signals of the whole group, such as Ctrl-C: the parent drains first, then ends its children."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def die_with_parent(parent: int) -> None:
    """Asks the kernel for SIGKILL when the parent goes; a no-op but for signals where there is no prctl.

    A process whose GIL is held cannot see for itself that it is alone.

    Args:
        parent: process id; if it has gone already, this process exits now.
    """
    leave_signals_to_parent()
    die_with(parent)


def die_with(parent: int) -> None:
    """Does the part of ``die_with_parent`` that leaves signals as they are."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        sys.exit("the parent has gone")
