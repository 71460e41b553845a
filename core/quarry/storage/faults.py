"""Named points at which the tests of recovery end a process, to see what it leaves behind.

``QUARRY_TEST_FAULT=point:count:file`` sends SIGKILL to the process that reaches ``point`` for the
``count``-th time, and creates ``file``, so that it happens once however often processes are started again.
Without the variable ``reach`` does nothing.
"""

import itertools
import os
import signal
from pathlib import Path

VARIABLE = "QUARRY_TEST_FAULT"
POINTS = (
    "log-written",  # the log's transaction is filled, not committed
    "log-committed",  # it is on disk, and nobody has been told
    "bm25-applied",
    "bm25-committed",
    "dense-applied",
    "dense-flushed",  # the points are on disk, the position that counts them is not
    "dense-positioned",
    "build-copied",
    "build-built",  # the new shard is whole, and not known to be
    "build-flushed",  # the new shard has caught up, the old one is still in use
    "build-switched",
)
REINDEX_POINTS = (
    "reindex-begun",  # it is recorded, and nobody has been told
    "reindex-checked",  # the new indexes are whole, the old ones serve
    "reindex-switched",  # the new ones serve next time, and not yet now
)

_armed, _count, _file = os.environ.get(VARIABLE, ":1:").split(":", 2)
_reached = itertools.count(1)


def reach(point: str) -> None:
    """Ends this process if the environment says so."""
    if point == _armed and next(_reached) == int(_count):
        try:
            Path(_file).touch(exist_ok=False)
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)
