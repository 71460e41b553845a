"""Impressions and events for tests, and a feedback log to put them in."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from quarry.feedback.log import insert_events, insert_impressions
from quarry.feedback.rows import make_impression_row
from quarry.feedback.tables import open_feedback
from quarry.feedback.types import Event, EventType, Impression, LoggedHit
from quarry.search.logged_request import SearchContext

KEY = 1
NOON_US = 1_767_225_600_000_000 + 12 * 3_600_000_000
"""2026-01-01T12:00:00Z."""
SECOND_US = 1_000_000

_numbers = itertools.count(1)


def page(
    search_id: str = "s",
    documents: Sequence[str] = ("a", "b", "c"),
    *,
    offset: int = 0,
    time_us: int = NOON_US,
    query: str = "q",
    user: str = "",
    session: str = "",
    simulated: bool = False,
    trial: bool = False,
    **values: Any,
) -> Impression:
    shown = tuple(
        LoggedHit(id, 1, offset + n, 1.0 / n, rank_before=offset + n)
        for n, id in enumerate(documents, start=1)
    )
    context = SearchContext(user, session, simulated=simulated, trial=trial)
    return Impression(search_id, offset, time_us, query, context, shown, **values)


def event(
    type: EventType = EventType.CLICK,
    document: str = "",
    search_id: str = "s",
    *,
    after_s: float = 10.0,
    offset: int = 0,
    **values: Any,
) -> Event:
    time_us = NOON_US + round(after_s * SECOND_US)
    id = values.pop("event_id", f"e{next(_numbers):06}")
    return Event(id, type, search_id, offset, time_us, time_us, document, **values)


def log_with(
    folder: Path, pages: Sequence[Impression], events: Sequence[Event] = (), key: int = KEY
) -> sa.Engine:
    engine = open_feedback(folder / "feedback.db")
    with engine.begin() as connection:
        insert_impressions(connection, [make_impression_row(key, one, one.time_us) for one in pages], {})
        insert_events(connection, [(key, events)])
    return engine
