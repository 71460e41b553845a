"""Turns the loop by itself: one collection at a time, each when it is due."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence

from quarry.config import LoopSettings
from quarry.documents.catalog import read_now_us
from quarry.errors import QuarryError
from quarry.training.loop_spec import LoopReport

logger = logging.getLogger(__name__)

LOOK_S = 60.0
"""Between two looks at what is due; at the start, so long that searches have come to life."""
_HOUR_US = 3_600 * 1_000_000


class LoopSchedule:
    """Runs in the background from ``start`` to ``close``; with ``every_hours`` 0 it does nothing.

    Args:
        collections: names of those there are.
        turned_us: when the last turn of a collection was that came to an end; 0 if there was none.
        turn: makes a turn; raises QuarryError.
    """

    def __init__(
        self,
        settings: LoopSettings,
        collections: Callable[[], Awaitable[Sequence[str]]],
        turned_us: Callable[[str], Awaitable[int]],
        turn: Callable[[str], Awaitable[LoopReport]],
        clock_us: Callable[[], int] = read_now_us,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._settings, self._collections = settings, collections
        self._turned_us, self._turn = turned_us, turn
        self._clock_us, self._sleep = clock_us, sleep
        self._tried_us: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._settings.every_hours:
            self._task = asyncio.create_task(self.run(), name="loop-schedule")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def run(self) -> None:
        """Goes on until it is cancelled. A turn that fails is tried again when it is due again."""
        while True:
            await self._sleep(LOOK_S)
            for name in await self._list_due():
                self._tried_us[name] = self._clock_us()
                await self._note_try(name)

    async def _list_due(self) -> list[str]:
        """Lists the collections whose last run, or try of one, is long enough ago.

        What waits longest comes first.
        """
        there = await self._collections()
        wanted = [name for name in self._settings.collections or there if name in there]
        before_us = self._clock_us() - round(self._settings.every_hours * _HOUR_US)
        last_us = {name: max(self._tried_us.get(name, 0), await self._turned_us(name)) for name in wanted}
        return sorted((name for name in wanted if last_us[name] <= before_us), key=last_us.__getitem__)

    async def _note_try(self, name: str) -> None:
        try:
            report = await self._turn(name)
        except QuarryError as error:
            logger.error("the loop of %s did not come to its end: %s", name, error)
        except Exception:
            logger.exception("the loop of %s failed with an error that has no type", name)
        else:
            logger.info("the loop of %s: %s %s", name, report.outcome, report.model)
