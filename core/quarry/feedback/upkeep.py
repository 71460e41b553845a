"""Once a day: what is past its retention goes, what deleted collections have left goes, keys change."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

import sqlalchemy as sa

from quarry.errors import QuarryError
from quarry.feedback.attribution_tokens import DAY_US, TokenSigner, rotate_keys
from quarry.feedback.impressions import ImpressionLog
from quarry.feedback.log import FeedbackLog
from quarry.feedback.purge import (
    Purged,
    PurgeMade,
    Selection,
    forget_nothing,
    purge,
    read_times,
    remove_orphans,
    remove_unused_texts,
)
from quarry.feedback.tables import events, impressions, texts

logger = logging.getLogger(__name__)
CLOSE_GRACE_S = 5.0
"""A run that was cut off could leave a thread that still reads the log."""
BETWEEN_S = 24 * 3_600.0
ORPHAN_LIFETIME_US = DAY_US
"""How long an event waits for its page. One that comes after its page was purged finds none."""


@dataclass(frozen=True, slots=True)
class Retention:
    """The times that things are kept, in days."""

    days: float = 365.0
    key_rotation_days: float = 30.0

    @property
    def us(self) -> int:
        return int(self.days * DAY_US)

    @property
    def key_rotation_us(self) -> int:
        return int(self.key_rotation_days * DAY_US)


class Upkeep:
    """Runs in the background, at the start and then daily.

    Args:
        deleted: gives the keys of all collections that were deleted.
        now_us: the time by which ages are counted; it never jumps ahead.
        purge_made: removes what was made of feedback that goes for its age.
    """

    def __init__(
        self,
        log: FeedbackLog,
        pages: ImpressionLog,
        signer: TokenSigner,
        retention: Retention,
        deleted: Callable[[], Awaitable[Collection[int]]],
        now_us: Callable[[], int],
        purge_made: PurgeMade = forget_nothing,
    ) -> None:
        self._log, self._pages, self._signer = log, pages, signer
        self._retention, self._deleted, self._now_us = retention, deleted, now_us
        self._purge_made = purge_made
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="feedback-upkeep")

    async def close(self) -> None:
        """Ends after the run that there is; one that takes long is cut off."""
        if self._task is not None:
            self._closing.set()
            await asyncio.wait([self._task], timeout=CLOSE_GRACE_S)
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def run_once(self) -> Purged:
        """Removes what is too old, and returns what was removed."""
        retention, now_us = self._retention, self._now_us()
        keys = await self._log.database.write(
            lambda c: rotate_keys(c, retention.key_rotation_us, retention.us, now_us)
        )
        self._signer.use(keys)
        deleted = await self._deleted()
        for key in await asyncio.to_thread(self._log.database.read, _read_collections):
            if key in deleted:
                await remove_collection(self._log, self._pages, key)
        old = Selection(received_before_us=now_us - retention.us)
        await remove_orphans(self._log, now_us - ORPHAN_LIFETIME_US)
        made_of = await read_times(self._log, old)
        for key, first_us, last_us in made_of:
            await self._purge_made(key, first_us, last_us + 1)
        purged = await purge(self._log, self._pages, old)
        for key, first_us, last_us in made_of:  # what was begun meanwhile has read what is gone
            await self._purge_made(key, first_us, last_us + 1)
        return purged

    async def _run(self) -> None:
        while not self._closing.is_set():
            try:
                purged = await self.run_once()
                logger.info(
                    "the upkeep of the feedback log removed %d answers and %d events older than %g days",
                    purged.impressions,
                    purged.events,
                    self._retention.days,
                )
            except (QuarryError, sa.exc.SQLAlchemyError) as error:
                logger.error("the upkeep of the feedback log failed and is tried again: %s", error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), BETWEEN_S)


async def remove_collection(log: FeedbackLog, pages: ImpressionLog, key: int) -> None:
    """Deletes all feedback of a collection that is gone."""
    pages.forget(key)
    await purge(log, pages, Selection(collection=key))
    await remove_unused_texts(log, pages, key)


def _read_collections(connection: sa.Connection) -> set[int]:
    """Reads keys of the collections that the log holds anything of."""
    return {
        key
        for table in (impressions, events, texts)
        for (key,) in connection.execute(sa.select(table.c.collection_id).distinct())
    }
