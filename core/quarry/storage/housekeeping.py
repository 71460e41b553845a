"""Once an hour: the folder's clock follows the wall clock, and what was in quarantine long enough goes."""

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Callable

logger = logging.getLogger(__name__)
BETWEEN_S = 3_600.0


class Housekeeping:
    """Runs ``keep_house``, which blocks, at the start and then every hour until ``close``."""

    def __init__(self, keep_house: Callable[[], None]) -> None:
        self._keep_house = keep_house
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="housekeeping")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self._keep_house)
            except (OSError, sqlite3.Error) as error:
                logger.error("housekeeping failed and is tried again in an hour: %s", error)
            await asyncio.sleep(BETWEEN_S)
