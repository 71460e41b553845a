"""Judges a store process by its silence: whether it is asked on, and whether it is started again."""

import asyncio
import logging
from functools import partial

from quarry.retrieval.edge.activity import Activity
from quarry.retrieval.edge.connection import KILL_TIMEOUT_S, WorkerConnection
from quarry.retrieval.edge.wire import PING
from quarry.retrieval.heartbeat import Heartbeat, Patience

logger = logging.getLogger(__name__)


class Watch:
    """Keeps an eye on one process, from ``wait_until_lost`` on.

    The engine lets no other code of its process run while it works, so silence alone says little. A process
    that is silent and does nothing hangs: its calls fail at once until it answers, and it is ended when that
    takes too long. One that is silent and at work is waited for, but not for ever.

    Attributes:
        problem: why the process does not answer; None while it does, and while it has only begun to work.
    """

    def __init__(self, connection: WorkerConnection, patience: Patience) -> None:
        self._connection, self._patience = connection, patience
        self._activity = Activity(connection.pid)
        self._silent_s = self._idle_s = 0.0
        self._ended_s: float | None = None
        self._stays = False
        self.problem: str | None = None

    async def wait_until_lost(self) -> None:
        """Returns when the process is gone, of itself or because it was ended here."""
        beating = asyncio.create_task(
            Heartbeat(partial(self._connection.call, PING), self._judge).run(), name="dense store heartbeat"
        )
        try:
            await self._connection.wait_until_lost()
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    def _judge(self, silent_s: float) -> None:
        if silent_s:
            self._judge_silence(silent_s)
            return
        if self._connection.hung is not None:
            logger.warning("the dense store's process %d answers again", self._connection.pid)
        self._activity.note()
        self._silent_s = self._idle_s = 0.0
        self.problem = None
        self._connection.refuse(None)

    def _judge_silence(self, silent_s: float) -> None:
        idle_s = 0.0 if self._activity.is_at_work() else self._idle_s + silent_s - self._silent_s
        self._silent_s, self._idle_s = silent_s, idle_s
        if idle_s >= self._patience.hung_after_s:
            self.problem = f"its process has not answered for {silent_s:.0f} s and does nothing"
            if self._connection.hung is None:
                logger.error("the dense store hangs, and searches leave it out: %s", self.problem)
            self._connection.refuse(self.problem)
        elif silent_s >= min(self._patience.restart_after_s, self._patience.busy_restart_after_s):
            self.problem = f"its process has not answered for {silent_s:.0f} s and is at work"
        if idle_s >= self._patience.restart_after_s or silent_s >= self._patience.busy_restart_after_s:
            self._end(silent_s)

    def _end(self, silent_s: float) -> None:
        """Ends the process, once, and says once if it stays."""
        if self._ended_s is None:
            self._ended_s = silent_s
            logger.error("the dense store is started again: %s", self.problem)
            self._connection.end()
        elif silent_s >= self._ended_s + KILL_TIMEOUT_S:
            if not self._stays:
                self._stays = True
                logger.error("the dense store's process %d cannot be killed", self._connection.pid)
            self.problem = f"{self.problem}, and cannot be killed"
