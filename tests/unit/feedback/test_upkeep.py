"""Once a day: what is old goes, with what was made of it, and events that no page will ever explain."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.unit.feedback.samples import KEY, NOON_US, event, log_with, page

from quarry.documents.catalog import read_now_us
from quarry.feedback.attribution_tokens import TokenSigner, rotate_keys
from quarry.feedback.impressions import ImpressionLog
from quarry.feedback.log import FeedbackLog, insert_impressions
from quarry.feedback.purge import Selection, purge, remove_orphans
from quarry.feedback.rows import make_impression_row
from quarry.feedback.upkeep import ORPHAN_LIFETIME_US, Retention, Upkeep

HOUR_US = 3_600_000_000


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[FeedbackLog]:
    found = await FeedbackLog.open(tmp_path / "feedback.db")
    yield found
    await found.close()


async def upkeep(log: FeedbackLog, days: float, calls: list[tuple[int, int | None, int | None]]) -> Upkeep:
    async def deleted() -> set[int]:
        return set()

    async def purge_made(key: int, start_us: int | None, end_us: int | None) -> list[str]:
        calls.append((key, start_us, end_us))
        return []

    keys = await log.database.write(lambda c: rotate_keys(c, HOUR_US, HOUR_US))
    return Upkeep(
        log, ImpressionLog(log), TokenSigner(keys), Retention(days), deleted, read_now_us, purge_made
    )


def event_ids(log: FeedbackLog) -> set[str]:
    query = "SELECT event_id FROM events"
    return log.database.read(lambda c: {id for (id,) in c.exec_driver_sql(query)})


async def test_what_was_made_of_old_feedback_goes_with_it(log: FeedbackLog, tmp_path: Path) -> None:
    pages = [page(f"s{n}", time_us=NOON_US + n) for n in range(3)]
    log_with(tmp_path, pages).dispose()
    new = make_impression_row(2, page("new"), read_now_us())
    await log.database.write(lambda c: insert_impressions(c, [new], {}))
    calls: list[tuple[int, int | None, int | None]] = []
    await (await upkeep(log, 36_000.0, calls)).run_once()
    assert calls == []
    purged = await (await upkeep(log, 1.0, calls)).run_once()
    assert purged.impressions == 3
    assert calls == [(KEY, NOON_US, NOON_US + 3)] * 2  # before it goes, and what was begun meanwhile


async def test_an_event_of_a_purged_page_does_not_stay(log: FeedbackLog, tmp_path: Path) -> None:
    log_with(tmp_path, [page("s1", user="u"), page("s2", user="v")]).dispose()
    pages = ImpressionLog(log)
    await purge(log, pages, Selection(KEY, "u"))
    late, kept = event(document="a", search_id="s1"), event(document="a", search_id="s2")
    await log.record(KEY, [late, kept])
    assert (await purge(log, pages, Selection(KEY, "u"))).events == 0  # it names nobody
    await (await upkeep(log, 36_000.0, [])).run_once()
    assert event_ids(log) == {kept.event_id}


async def test_an_event_waits_a_day_for_its_page(log: FeedbackLog, tmp_path: Path) -> None:
    many = [event(document="a", search_id=f"s{n}") for n in range(12_000)]
    log_with(tmp_path, [], many).dispose()
    assert await remove_orphans(log, many[0].received_us) == 0
    assert await remove_orphans(log, many[0].received_us + 1) == 12_000
    assert ORPHAN_LIFETIME_US == 24 * HOUR_US
