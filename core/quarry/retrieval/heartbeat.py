"""Asks a store for a sign of life, so that one that hangs is known before a search waits for it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from quarry.errors import QuarryError

logger = logging.getLogger(__name__)

BEAT_S, LOOK_S = 0.5, 0.25
"""From an answer to the next question, and between two looks at a question that is not answered."""


@dataclass(frozen=True, slots=True)
class Patience:
    """The times after which a silent store counts as hung, and its process is started again.

    Attributes:
        hung_after_s: silence of a store that does nothing, from which on it is not asked any more.
        restart_after_s: silence after which a process that does nothing is ended and started again.
        busy_restart_after_s: the same for a process that is at work, but does not answer. A flush or the
            opening of a large graph lets nothing else run for as long as it takes.
    """

    hung_after_s: float = 1.0
    restart_after_s: float = 10.0
    busy_restart_after_s: float = 300.0


DEFAULT_PATIENCE = Patience()


class Heartbeat:
    """Asks again and again, one question at a time.

    Args:
        ask: returns when the store has answered. An exception is no answer, nor is a question that somebody
            else cancels; one that is not a QuarryError is logged once of each type.
        judge: gets for how many seconds there has been no answer, every ``LOOK_S``, and 0 at each answer.
            Time in which this program itself stood still does not count. What it raises is logged.
    """

    def __init__(self, ask: Callable[[], Awaitable[object]], judge: Callable[[float], None]) -> None:
        self._ask, self._judge = ask, judge
        self._silent_s = 0.0
        self._logged: set[type[Exception]] = set()

    def hear(self) -> None:
        """Notes another sign of life: the silence begins anew."""
        self._silent_s = 0.0

    async def run(self) -> None:
        """Goes on until it is cancelled; nothing else ends it."""
        while True:
            asked = asyncio.ensure_future(self._has_answered())
            try:
                while not (await asyncio.wait([asked], timeout=LOOK_S))[0]:
                    self._tell(self._silent_s + LOOK_S)
            finally:
                asked.cancel()
            answered = not asked.cancelled() and asked.result()
            self._tell(0.0 if answered else self._silent_s + BEAT_S)
            await asyncio.sleep(BEAT_S)

    async def _has_answered(self) -> bool:
        try:
            await self._ask()
        except QuarryError:
            return False
        except Exception as error:  # noqa: BLE001  # whatever it is, the next question must be asked
            self._log("the question whether a store answers fails", error)
            return False
        return True

    def _tell(self, silent_s: float) -> None:
        self._silent_s = silent_s
        try:
            self._judge(silent_s)
        except Exception as error:  # noqa: BLE001  # as above
            self._log("a silent store cannot be judged", error)

    def _log(self, event: str, error: Exception) -> None:
        if type(error) not in self._logged:
            self._logged.add(type(error))
            logger.error("%s: %s: %s", event, type(error).__name__, error, exc_info=error)
