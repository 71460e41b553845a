"""Joins events to their pages and marks those that do not count, user by user, over a window of time."""

from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from typing import Any

import orjson
import sqlalchemy as sa

from quarry.feedback.guards import GuardPolicy, JoinedEvent, marks_of
from quarry.feedback.hits import packed_ids
from quarry.feedback.types import EventMark, EventType

_ROWS_PER_FETCH = 1_000
_PAGES_KEPT = 1_024

_OWNER = """CASE WHEN {0}.user_id <> '' THEN 'u:' || {0}.user_id
    WHEN {0}.session_id <> '' THEN 's:' || {0}.session_id ELSE 'q:' || {0}.search_id END"""
_PAGE_OWNER = _OWNER.format("i")
_EVENT_OWNER = f"""CASE WHEN e.user_id <> '' THEN 'u:' || e.user_id
    WHEN i.user_id <> '' THEN 'u:' || i.user_id
    WHEN e.session_id <> '' THEN 's:' || e.session_id ELSE {_PAGE_OWNER} END"""
_JOIN = (
    "events e JOIN impressions i ON i.collection_id = e.collection_id AND i.search_id = e.search_id "
    "AND i.page_offset = e.page_offset"
)
_WINDOW = "i.collection_id = ? AND i.time_us >= ? AND i.time_us < ?"
_EVENTS = f"""SELECT {_EVENT_OWNER} AS owner, {_PAGE_OWNER} AS page_owner, e.id, e.type, e.document_id,
    e.time_us, e.details, i.id AS page, i.query, i.time_us AS page_time_us, i.hits, i.simulated, i.shown
    FROM {_JOIN} WHERE {_WINDOW} ORDER BY owner, e.time_us, e.event_id"""  # noqa: S608
_HITS = f"""SELECT {_PAGE_OWNER} AS owner, SUM(i.hits) FROM impressions i WHERE {_WINDOW}
    GROUP BY owner ORDER BY owner"""  # noqa: S608


def marked_events(
    connection: sa.Connection, key: int, start_us: int, end_us: int, policy: GuardPolicy
) -> dict[int, EventMark]:
    """Events of the pages of [start_us, end_us) that do not count, by row.

    What a user does outside the window is not seen. Memory grows with what is marked and with one user's
    events, not with the log.
    """
    window = (key, start_us, end_us)
    totals = _streamed(connection, _HITS, window)
    owner, hits = "", 0
    marks: dict[int, EventMark] = {}
    for who, rows in groupby(_streamed(connection, _EVENTS, window), key=lambda row: str(row[0])):
        while owner < who and (total := next(totals, None)) is not None:
            owner, hits = str(total[0]), int(total[1])
        marks |= marks_of([_joined(row) for row in rows], hits if owner == who else 0, policy)
    return marks


def orphans(connection: sa.Connection, key: int) -> dict[str, int]:
    """How many events of each type have no page."""
    query = (
        "SELECT e.type, COUNT(*) FROM events e WHERE e.collection_id = ? AND NOT EXISTS (SELECT 1 "
        "FROM impressions i WHERE i.collection_id = e.collection_id AND i.search_id = e.search_id "
        "AND i.page_offset = e.page_offset) GROUP BY e.type"
    )
    return {kind: int(count) for kind, count in connection.exec_driver_sql(query, (key,))}


def _joined(row: Any) -> JoinedEvent:
    shown = _shown(bytes(row.shown))
    kind = EventType(row.type)
    named = 0
    if kind is EventType.RENDERED:
        details = orjson.loads(row.details) if row.details else {}
        named = len(shown & {document for document, _ in details.get("rendered", ())})
    return JoinedEvent(
        row.id,
        kind,
        row.document_id,
        row.time_us,
        row.page,
        row.query,
        row.page_time_us,
        row.hits,
        bool(row.simulated),
        named > 0 if kind is EventType.RENDERED else not row.document_id or row.document_id in shown,
        named,
        row.owner != row.page_owner,
    )


@lru_cache(maxsize=_PAGES_KEPT)
def _shown(packed: bytes) -> frozenset[str]:
    return frozenset(packed_ids(packed))


def _streamed(connection: sa.Connection, query: str, arguments: tuple[Any, ...]) -> Iterator[Any]:
    result = connection.exec_driver_sql(query, arguments)
    try:
        while rows := result.fetchmany(_ROWS_PER_FETCH):
            yield from rows
    finally:
        result.close()
