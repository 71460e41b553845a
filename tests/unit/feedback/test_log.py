"""The log stores each event once and joins calls that wait; the buffer drops and counts what it must."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest_asyncio
import sqlalchemy as sa
from tests.unit.feedback.samples import KEY, event, page

from quarry.errors import DiskFullError
from quarry.feedback.contents import TextSource
from quarry.feedback.impressions import AnsweredPage, BufferPolicy, ContentOf, ImpressionLog
from quarry.feedback.log import FeedbackLog
from quarry.feedback.tables import events, impressions
from quarry.feedback.types import Impression
from quarry.types import Docno


@pytest_asyncio.fixture
async def log(tmp_path: Path) -> AsyncIterator[FeedbackLog]:
    opened = await FeedbackLog.open(tmp_path / "feedback.db")
    yield opened
    await opened.close()


def count(log: FeedbackLog, table: sa.Table) -> int:
    with log.engine.connect() as connection:
        return int(connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0)


class Nothing:
    """A document log without documents."""

    def read(self, docnos: Any) -> dict[Docno, Any]:
        return {}


class Made:
    def __init__(self, impression: Impression) -> None:
        self._impression = impression

    def read_versions(self) -> Iterable[tuple[Docno, int]]:
        return [(Docno(1), 1)]

    def make_impression(self, content: ContentOf) -> Impression:
        return self._impression


def answered(search_id: str, key: int = KEY) -> AnsweredPage:
    return AnsweredPage(TextSource(key, Nothing(), str), Made(page(search_id)))


async def test_an_id_counts_once_in_a_call_over_calls_and_not_over_collections(log: FeedbackLog) -> None:
    a, b = event(event_id="a", document="x"), event(event_id="b", document="x")
    assert await log.record(1, [a, b, a]) == [False, False, True]
    assert await log.record(1, [b]) == [True]
    assert await log.record(2, [b]) == [False]
    assert count(log, events) == 3


async def test_calls_at_once_share_commits_and_each_learns_its_own(log: FeedbackLog) -> None:
    commits = 0
    write = log.database.write

    async def counted(work: Any) -> Any:
        nonlocal commits
        commits += 1
        return await write(work)

    log.database.write = counted  # type: ignore[method-assign]
    calls = [log.record(KEY, [event(event_id=f"e{n % 40}", document="x")]) for n in range(80)]
    found = await asyncio.gather(*calls)
    assert [one for (one,) in found] == [False] * 40 + [True] * 40
    assert commits <= 3


async def test_a_caller_that_goes_away_leaves_the_others_theirs(log: FeedbackLog) -> None:
    tasks = [asyncio.create_task(log.record(KEY, [event(document="x")])) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[0] == results[2] == [False]
    assert isinstance(results[1], asyncio.CancelledError)


async def test_every_call_of_a_group_hears_of_its_failure(log: FeedbackLog) -> None:
    async def full(_: Any) -> Any:
        raise DiskFullError("full")

    write, log.database.write = log.database.write, full  # type: ignore[method-assign]
    results = await asyncio.gather(
        *(log.record(KEY, [event(document="x")]) for _ in range(3)), return_exceptions=True
    )
    assert all(isinstance(result, DiskFullError) for result in results)
    log.database.write = write  # type: ignore[method-assign]
    assert await log.record(KEY, [event(document="x")]) == [False]


async def test_pages_are_written_in_batches_and_at_the_end(log: FeedbackLog) -> None:
    pages = ImpressionLog(log, BufferPolicy(max_pages=50, batch_pages=10, interval_s=60))
    pages.start()
    assert all(pages.offer(answered(f"s{n}")) for n in range(25))
    await pages.close()
    assert count(log, impressions) == 25
    assert not pages.offer(answered("late"))
    assert pages.count_dropped(KEY) == 1


async def test_a_full_buffer_and_a_full_disk_drop_and_count(log: FeedbackLog) -> None:
    pages = ImpressionLog(log, BufferPolicy(max_pages=3, batch_pages=10, interval_s=60))
    pages.start()
    assert [pages.offer(answered(f"s{n}")) for n in range(5)] == [True] * 3 + [False] * 2
    assert pages.count_dropped(KEY) == 2

    async def full(_: Any) -> Any:
        raise DiskFullError("full")

    write, log.database.write = log.database.write, full  # type: ignore[method-assign]
    await pages.flush()
    assert pages.count_dropped(KEY) == 5
    log.database.write = write  # type: ignore[method-assign]
    assert pages.offer(answered("after"))
    await pages.close()
    assert count(log, impressions) == 1


async def test_pages_of_a_collection_that_is_gone_are_not_written(log: FeedbackLog) -> None:
    pages = ImpressionLog(log)
    pages.start()
    pages.offer(answered("a", 1))
    pages.offer(answered("b", 2))
    pages.forget(1)
    await pages.close()
    with log.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT collection_id FROM impressions").all() == [(2,)]
