"""What is purged is gone from the disk, and what a search logs meanwhile is whole."""

from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest_asyncio
import sqlalchemy as sa
from tests.unit.feedback.samples import KEY, event, page

from quarry.feedback.contents import hash_content
from quarry.feedback.impressions import ImpressionLog
from quarry.feedback.log import FeedbackLog, insert_impressions
from quarry.feedback.purge import Purged, Selection, purge, remove_unused_texts
from quarry.feedback.reading.observed_pages import read_texts
from quarry.feedback.rows import make_impression_row
from quarry.feedback.tables import impressions

TEXT = "how to return a parcel"
CONTENT = hash_content(TEXT)
FORGOTTEN = "somebody-who-wants-to-be-forgotten"


@pytest_asyncio.fixture
async def log(tmp_path: Path) -> AsyncIterator[FeedbackLog]:
    opened = await FeedbackLog.open(tmp_path / "feedback.db")
    yield opened
    await opened.close()


class Meanwhile:
    """A lock whose last holder has done something before it is taken."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.work: Callable[[], Coroutine[Any, Any, None]] | None = work

    async def __aenter__(self) -> None:
        work, self.work = self.work, None
        if work is not None:
            await work()

    async def __aexit__(self, *_: object) -> None: ...


async def write_page(log: FeedbackLog, search_id: str, user: str) -> None:
    """Logs a page whose first hit has the text."""
    made = page(search_id, user=user)
    first, *rest = made.shown
    row = make_impression_row(
        KEY, replace(made, shown=(replace(first, content=CONTENT.hex()), *rest)), made.time_us
    )
    await log.database.write(lambda c: insert_impressions(c, [row], {(CONTENT, KEY): TEXT}))


def kept_texts(log: FeedbackLog) -> list[str]:
    return list(read_texts(log.engine, [CONTENT.hex()]).values())


async def test_a_text_goes_with_the_last_page_that_shows_it(log: FeedbackLog) -> None:
    for search_id, user in (("s1", "u"), ("s2", "v")):
        await write_page(log, search_id, user)
    assert await purge(log, ImpressionLog(log), Selection(KEY, "u")) == Purged(1, 0, 0)
    assert kept_texts(log) == [TEXT]
    assert await purge(log, ImpressionLog(log), Selection(KEY, "v")) == Purged(1, 0, 1)
    assert kept_texts(log) == []


async def test_a_page_that_is_logged_meanwhile_keeps_its_texts(log: FeedbackLog) -> None:
    await write_page(log, "old", "u")
    await log.database.write(lambda c: c.execute(sa.delete(impressions)))
    pages = ImpressionLog(log)
    lock: Any = Meanwhile(lambda: write_page(log, "new", "v"))
    pages.writing = lock
    assert await remove_unused_texts(log, pages, KEY) == 0
    assert kept_texts(log) == [TEXT]


async def test_events_on_pages_of_others_are_gone_from_the_disk_when_they_are_purged(
    log: FeedbackLog, tmp_path: Path
) -> None:
    await write_page(log, "s", "u")
    await log.record(KEY, [event(document="a", user_id=FORGOTTEN)])

    def written() -> bytes:
        return b"".join(path.read_bytes() for path in tmp_path.glob("feedback.db*"))

    assert FORGOTTEN.encode() in written()
    assert await purge(log, ImpressionLog(log), Selection(KEY, FORGOTTEN)) == Purged(0, 1, 0)
    assert FORGOTTEN.encode() not in written()
