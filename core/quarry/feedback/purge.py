"""Deletes feedback for good: by user, by time, by age, with its collection.

Rows go in small transactions, so that events are stored in between. SQLite overwrites what is deleted
(``secure_delete``), and the write-ahead log, which holds older copies, is emptied at the end.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from quarry.feedback.hits import unpack_contents
from quarry.feedback.impressions import ImpressionLog
from quarry.feedback.log import FeedbackLog, split_chunks
from quarry.feedback.tables import events, impressions, texts

PAGES_AT_ONCE = 500
EVENTS_AT_ONCE = 5_000
_SCANNED_AT_ONCE = 2_000
_CHECKPOINTS = 5

Progress = Callable[[float], Awaitable[None]]

PurgeMade = Callable[[int, int | None, int | None], Awaitable[list[str]]]
"""Removes what was made of a collection's (by key) feedback of a time, from the first to before the second;
what it was called."""


async def forget_nothing(_key: int, _start_us: int | None, _end_us: int | None) -> list[str]:
    """Removes nothing: the ``PurgeMade`` of whoever makes nothing of feedback."""
    return []


@dataclass(frozen=True, slots=True)
class Selection:
    """The feedback that matches every condition that is given.

    Attributes:
        collection: its key.
        start_us: answered, or done, at this time or later; ``end_us``: before this time.
        received_before_us: when the log got it.
    """

    collection: int | None = None
    user_id: str | None = None
    start_us: int | None = None
    end_us: int | None = None
    received_before_us: int | None = None

    def make_conditions(self, table: sa.Table) -> list[sa.ColumnElement[bool]]:
        columns = table.c
        conditions: list[tuple[Any, Callable[[], sa.ColumnElement[bool]]]] = [
            (self.collection, lambda: columns.collection_id == self.collection),
            (self.user_id, lambda: columns.user_id == self.user_id),
            (self.start_us, lambda: columns.time_us >= self.start_us),
            (self.end_us, lambda: columns.time_us < self.end_us),
            (self.received_before_us, lambda: columns.received_us < self.received_before_us),
        ]
        return [condition() for value, condition in conditions if value is not None]


@dataclass(frozen=True, slots=True)
class Purged:
    """The counts of what was deleted."""

    impressions: int = 0
    events: int = 0
    texts: int = 0


async def purge(
    log: FeedbackLog, pages: ImpressionLog, selection: Selection, report: Progress | None = None
) -> Purged:
    """Deletes impressions with their events, other events that match, and texts that nothing refers to."""
    await pages.flush()
    total = await asyncio.to_thread(log.database.read, lambda c: _count(c, selection))
    removed_pages = removed_events = 0
    while True:
        found, with_them = await log.database.write(lambda c: _delete_pages(c, selection))
        removed_pages += found
        removed_events += with_them
        if report is not None:
            await report(0.9 * removed_pages / max(total, 1))
        if not found:
            break
    while found := await log.database.write(lambda c: _delete_events(c, selection)):
        removed_events += found
    removed_texts = 0
    if removed_pages:
        removed_texts = await remove_unused_texts(log, pages, selection.collection)
    if removed_pages or removed_events:
        await clear_write_ahead_log(log.engine)
    return Purged(removed_pages, removed_events, removed_texts)


async def remove_unused_texts(log: FeedbackLog, pages: ImpressionLog, collection: int | None) -> int:
    """Deletes texts that no impression of their collection refers to; returns how many."""
    used, last = await asyncio.to_thread(log.database.read, lambda c: _read_references(c, collection, 0))
    async with pages.writing:  # no impression is written that refers to what is about to go
        newer, _ = await asyncio.to_thread(log.database.read, lambda c: _read_references(c, collection, last))
        kept = await asyncio.to_thread(log.database.read, lambda c: _read_kept(c, collection))
        unused = sorted(kept - used - newer)
        for some in split_chunks(unused, PAGES_AT_ONCE):
            await log.database.write(lambda c, some=some: _delete_texts(c, some))  # type: ignore[misc]
        pages.forget_texts()
    return len(unused)


async def remove_orphans(log: FeedbackLog, received_before_us: int) -> int:
    """Deletes events, got before that time, that have no impression; returns how many.

    Such an event names no user if it was sent without one, so that no purge would find it.
    """
    removed = last = 0
    while True:
        ids, last = await asyncio.to_thread(
            log.database.read, lambda c, last=last: _find_orphans(c, received_before_us, last)
        )
        for some in split_chunks(ids, PAGES_AT_ONCE):
            removed += await log.database.write(lambda c, some=some: _delete_orphans(c, some))  # type: ignore[misc]
        if last < 0:
            break
    if removed:
        await clear_write_ahead_log(log.engine)
    return removed


async def read_times(log: FeedbackLog, selection: Selection) -> list[tuple[int, int, int]]:
    """Reads, for the impressions that match, each collection's key with the first and the last time."""
    c = impressions.c
    query = sa.select(c.collection_id, sa.func.min(c.time_us), sa.func.max(c.time_us))
    query = query.where(*selection.make_conditions(impressions)).group_by(c.collection_id)
    rows = await asyncio.to_thread(log.database.read, lambda connection: connection.execute(query).all())
    return [(int(key), int(first), int(last)) for key, first, last in rows]


async def clear_write_ahead_log(engine: sa.Engine) -> None:
    """Moves what is in it to the database and cuts it, so that no older copy of a page is left on disk.

    A reader that is still at an older state of the log holds it back; after some tries its end does it.
    """
    for _ in range(_CHECKPOINTS):
        if await asyncio.to_thread(_run_checkpoint, engine):
            return


def _run_checkpoint(engine: sa.Engine) -> bool:
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        (busy, _, _) = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        cursor.close()
        return not busy
    finally:
        connection.close()


def _count(connection: sa.Connection, selection: Selection) -> int:
    query = sa.select(sa.func.count()).select_from(impressions).where(*selection.make_conditions(impressions))
    return int(connection.scalar(query) or 0)


def _delete_pages(connection: sa.Connection, selection: Selection) -> tuple[int, int]:
    c = impressions.c
    query = sa.select(c.id, c.collection_id, c.search_id, c.page_offset).where(
        *selection.make_conditions(impressions)
    )
    rows = connection.execute(query.limit(PAGES_AT_ONCE)).all()
    if not rows:
        return 0, 0
    connection.execute(sa.delete(impressions).where(c.id.in_([row.id for row in rows])))
    done = connection.exec_driver_sql(
        "DELETE FROM events WHERE collection_id = ? AND search_id = ? AND page_offset = ?",
        [(row.collection_id, row.search_id, row.page_offset) for row in rows],
    )
    return len(rows), max(0, done.rowcount)


def _delete_events(connection: sa.Connection, selection: Selection) -> int:
    some = sa.select(events.c.id).where(*selection.make_conditions(events)).limit(EVENTS_AT_ONCE)
    ids = [id for (id,) in connection.execute(some)]
    for part in split_chunks(ids, PAGES_AT_ONCE):
        connection.execute(sa.delete(events).where(events.c.id.in_(part)))
    return len(ids)


_PAGELESS = """NOT EXISTS (SELECT 1 FROM impressions i WHERE i.collection_id = events.collection_id
    AND i.search_id = events.search_id AND i.page_offset = events.page_offset)"""


def _find_orphans(connection: sa.Connection, received_before_us: int, after: int) -> tuple[list[int], int]:
    """Finds rows among some events above row ``after``, and the last of these; -1 at the end."""
    query = "SELECT MAX(id) FROM (SELECT id FROM events WHERE id > ? ORDER BY id LIMIT ?)"
    last = connection.exec_driver_sql(query, (after, EVENTS_AT_ONCE)).scalar()
    if last is None:
        return [], -1
    query = f"SELECT id FROM events WHERE id > ? AND id <= ? AND received_us < ? AND {_PAGELESS}"  # noqa: S608
    rows = connection.exec_driver_sql(query, (after, last, received_before_us))
    return [id for (id,) in rows], int(last)


def _delete_orphans(connection: sa.Connection, ids: Iterable[int]) -> int:
    """Deletes those orphans that have got no impression since."""
    query = f"DELETE FROM events WHERE id = ? AND {_PAGELESS}"  # noqa: S608
    return max(0, connection.exec_driver_sql(query, [(id,) for id in ids]).rowcount)


def _delete_texts(connection: sa.Connection, places: Iterable[tuple[bytes, int]]) -> None:
    connection.exec_driver_sql("DELETE FROM texts WHERE content = ? AND collection_id = ?", list(places))


def _read_references(
    connection: sa.Connection, collection: int | None, after: int
) -> tuple[set[tuple[bytes, int]], int]:
    """Reads texts that impressions above row ``after`` refer to, with their collections; and the last row."""
    c = impressions.c
    used: set[tuple[bytes, int]] = set()
    query = sa.select(c.id, c.collection_id, c.shown, c.pool).where(c.id > after).order_by(c.id)
    if collection is not None:
        query = query.where(c.collection_id == collection)
    result = connection.execution_options(stream_results=True).execute(query)
    while rows := result.fetchmany(_SCANNED_AT_ONCE):
        for row in rows:
            for packed in (row.shown, row.pool):
                used.update((content, row.collection_id) for content in unpack_contents(packed))
            after = row.id
    return used, after


def _read_kept(connection: sa.Connection, collection: int | None) -> set[tuple[bytes, int]]:
    query = sa.select(texts.c.content, texts.c.collection_id)
    if collection is not None:
        query = query.where(texts.c.collection_id == collection)
    return {(content, key) for content, key in connection.execute(query)}
