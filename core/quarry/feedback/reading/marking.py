"""Joins events to their pages and marks those that do not count, over a window of time.

Haste is judged by the page's user, or session; where it has none, by the event's; and else by search. Caps
bind the page's user, or session, and beside it whoever else the event names: neither hides the other. All
pages of a query that name nobody have one owner.
"""

import sqlite3
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from typing import Any

import orjson
import sqlalchemy as sa

from quarry.feedback.hits import unpack_ids
from quarry.feedback.reading.guards import (
    LEAST_DISPLAYED,
    VERDICTS,
    GuardPolicy,
    JoinedEvent,
    OwnedChoice,
    find_capped,
    mark_haste,
)
from quarry.feedback.types import EventMark, EventType
from quarry.questions import make_question_key

_ROWS_PER_FETCH = 1_000
_PAGES_KEPT = 1_024

_JOIN = (
    "events e JOIN impressions i ON i.collection_id = e.collection_id AND i.search_id = e.search_id "
    "AND i.page_offset = e.page_offset"
)
_PAGES = "i.collection_id = ? AND i.time_us >= ? AND i.time_us < ?"
_WINDOW = f"{_PAGES} AND NOT i.trial"
_TRIALS = f"SELECT e.id FROM {_JOIN} WHERE {_PAGES} AND i.trial"  # noqa: S608

_PERSON = """CASE WHEN {0}.user_id <> '' THEN 'u:' || {0}.user_id
    WHEN {0}.session_id <> '' THEN 's:' || {0}.session_id"""
_OF_SEARCH = "ELSE 'q:' || i.search_id END"
_PAGE_OWNER = f"{_PERSON.format('i')} {_OF_SEARCH}"
_EVENT_OWNER = f"{_PERSON.format('i')} ELSE {_PERSON.format('e')} {_OF_SEARCH} END"
_EVENTS = f"""SELECT {_EVENT_OWNER} AS owner, {_PAGE_OWNER} AS page_owner, e.id, e.type, e.document_id,
    e.time_us, e.details, i.id AS page, i.time_us AS page_time_us, i.hits, i.simulated, i.shown
    FROM {_JOIN} WHERE {_WINDOW} ORDER BY owner, e.time_us, e.event_id"""  # noqa: S608
_HITS = f"""SELECT {_PAGE_OWNER} AS owner, SUM(CASE WHEN i.hits >= {LEAST_DISPLAYED} THEN i.hits ELSE 0 END)
    FROM impressions i WHERE {_WINDOW} GROUP BY owner ORDER BY owner"""  # noqa: S608
_CHOICES = f"""SELECT question_key(i.query) AS query, e.id, e.type, e.document_id, e.time_us, i.id AS page,
    i.user_id AS page_user, i.session_id AS page_session, e.user_id, e.session_id
    FROM {_JOIN} WHERE {_WINDOW} AND e.type IN ({", ".join(f"'{kind}'" for kind in sorted(VERDICTS))})
    ORDER BY query, e.time_us, e.event_id"""  # noqa: S608


def mark_events(
    connection: sa.Connection, key: int, start_us: int, end_us: int, policy: GuardPolicy
) -> dict[int, EventMark]:
    """Marks events of the pages of [start_us, end_us) that do not count, by row.

    Events of trials do not count, and they make no other event count less. What is done outside the window is
    not seen. Memory grows with what is marked, and with the events of one owner and the choices of one query,
    not with the log.
    """
    window = (key, start_us, end_us)
    totals = _stream_rows(connection, _HITS, window)
    owner, hits = "", 0
    trials = _stream_rows(connection, _TRIALS, window)
    marks: dict[int, EventMark] = {row.id: EventMark.TRIAL for row in trials}
    for who, rows in groupby(_stream_rows(connection, _EVENTS, window), key=lambda row: str(row[0])):
        while owner < who and (total := next(totals, None)) is not None:
            owner, hits = str(total[0]), int(total[1])
        marks |= mark_haste([_make_joined(row) for row in rows], hits if owner == who else 0, policy)
    _get_raw_connection(connection).create_function("question_key", 1, make_question_key, deterministic=True)
    for _, rows in groupby(_stream_rows(connection, _CHOICES, window), key=lambda row: str(row[0])):
        left = (_make_choice(row) for row in rows if row.id not in marks)
        marks |= dict.fromkeys(find_capped(left, policy), EventMark.CAPPED)
    return marks


def count_orphans(connection: sa.Connection, key: int) -> dict[str, int]:
    """Counts how many events of each type have no page."""
    query = (
        "SELECT e.type, COUNT(*) FROM events e WHERE e.collection_id = ? AND NOT EXISTS (SELECT 1 "
        "FROM impressions i WHERE i.collection_id = e.collection_id AND i.search_id = e.search_id "
        "AND i.page_offset = e.page_offset) GROUP BY e.type"
    )
    return {kind: int(count) for kind, count in connection.exec_driver_sql(query, (key,))}


def _make_joined(row: Any) -> JoinedEvent:
    shown = _unpack_shown(bytes(row.shown))
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
        row.page_time_us,
        row.hits,
        bool(row.simulated),
        named > 0 if kind is EventType.RENDERED else not row.document_id or row.document_id in shown,
        named,
        row.owner != row.page_owner,
    )


def _make_choice(row: Any) -> OwnedChoice:
    owner = _name_person(row.page_user, row.page_session)
    other = _name_person(row.user_id, row.session_id)
    known = {_name_person(row.page_user, ""), _name_person("", row.page_session), ""}
    owners = (owner or "nobody",) if other in known else (owner or "nobody", other)
    return OwnedChoice(
        row.id, EventType(row.type), row.document_id, row.time_us, row.page, owners, anonymous=not owner
    )


def _name_person(user: str, session: str) -> str:
    return f"u:{user}" if user else f"s:{session}" if session else ""


def _get_raw_connection(connection: sa.Connection) -> sqlite3.Connection:
    found = connection.connection.driver_connection
    assert isinstance(found, sqlite3.Connection)  # noqa: S101  the log is SQLite's
    return found


@lru_cache(maxsize=_PAGES_KEPT)
def _unpack_shown(packed: bytes) -> frozenset[str]:
    return frozenset(unpack_ids(packed))


def _stream_rows(connection: sa.Connection, query: str, arguments: tuple[Any, ...]) -> Iterator[Any]:
    result = connection.exec_driver_sql(query, arguments)
    try:
        while rows := result.fetchmany(_ROWS_PER_FETCH):
            yield from rows
    finally:
        result.close()
