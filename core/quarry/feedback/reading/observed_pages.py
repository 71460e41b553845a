"""The feedback log as learning reads it: pages in the order of time, with what became of each hit.

Any process may read while the server writes; what it sees is the log at one moment.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa

from quarry.feedback.hits import unpack_hits
from quarry.feedback.log import split_chunks, unpack_text
from quarry.feedback.reading.guards import CHOICES, VERDICTS, GuardPolicy
from quarry.feedback.reading.marking import mark_events
from quarry.feedback.rows import name_ranker, read_event
from quarry.feedback.tables import events, impressions, read_feedback, texts
from quarry.feedback.types import Event, EventMark, EventType, LoggedHit, ObservedPage

END_OF_TIME_US = 2**62
REFUSED_BELOW = 0.5
"""A RATING under this refuses a hit, another one chooses it."""
MAX_RANK = 200
"""Deeper hits are left out: nobody learns examination there, and tables over ranks stay small."""
_PAGES_AT_ONCE = 200


def read_observed_pages(
    database: Path | sa.Engine,
    collection_key: int,
    start_us: int = 0,
    end_us: int = END_OF_TIME_US,
    policy: GuardPolicy | None = None,
) -> Iterator[ObservedPage]:
    """Yields pages that were answered in [start_us, end_us), in that order.

    Left out are trials (see ``SearchContext``), pages without hits, and pages where a choice does not count
    and leaves its hit without one (see ``guards``): such a hit would seem to have been passed over. Left out
    of their page are pinned hits, hits below ``MAX_RANK``, and hits whose place is unknown or another's
    (``_place_hits``).

    Args:
        database: ``feedback.db``, or an engine for it.
    """
    with _open_reading(database) as connection:
        marks = mark_events(connection, collection_key, start_us, end_us, policy or GuardPolicy())
        query = (
            sa.select(impressions)
            .where(
                impressions.c.collection_id == collection_key,
                impressions.c.time_us >= start_us,
                impressions.c.time_us < end_us,
                impressions.c.trial.is_(False),
            )
            .order_by(impressions.c.time_us, impressions.c.id)
        )
        result = connection.execution_options(stream_results=True).execute(query)
        while rows := result.fetchmany(_PAGES_AT_ONCE):
            joined = _read_events(connection, collection_key, sorted({row.search_id for row in rows}))
            for row in rows:
                page = _make_observed(row, joined.get((row.search_id, row.page_offset), ()), marks)
                if page is not None:
                    yield page


def read_texts(database: Path | sa.Engine, contents: Sequence[str]) -> dict[str, str]:
    """Reads the texts that hits name by these hashes; returns those that are kept, by hash."""
    wanted = [bytes.fromhex(content) for content in contents if content]
    found: dict[str, str] = {}
    with _open_reading(database) as connection:
        for some in split_chunks(wanted, 500):
            query = sa.select(texts.c.content, texts.c.text).where(texts.c.content.in_(some))
            found |= {row.content.hex(): unpack_text(row.text) for row in connection.execute(query)}
    return found


@contextmanager
def _open_reading(database: Path | sa.Engine) -> Iterator[sa.Connection]:
    engine = read_feedback(database) if isinstance(database, Path) else database
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        if engine is not database:
            engine.dispose()


def _read_events(
    connection: sa.Connection, key: int, search_ids: Sequence[str]
) -> dict[tuple[str, int], list[tuple[int, Event]]]:
    """Reads events with their rows, in order of time, by search and page."""
    query = (
        sa.select(events)
        .where(events.c.collection_id == key, events.c.search_id.in_(search_ids))
        .order_by(events.c.time_us, events.c.event_id)
    )
    found: dict[tuple[str, int], list[tuple[int, Event]]] = {}
    for row in connection.execute(query):
        found.setdefault((row.search_id, row.page_offset), []).append((row.id, read_event(row)))
    return found


def _make_observed(
    row: Any, joined: Sequence[tuple[int, Event]], marks: Mapping[int, EventMark]
) -> ObservedPage | None:
    """Makes the page, or None if it must not be counted."""
    details = orjson.loads(row.details)
    pinned = details.get("pinned", 0)
    hits = tuple(hit for hit in unpack_hits(row.shown) if hit.rank > pinned)
    if not hits:
        return None
    counted = [event for id, event in joined if id not in marks]
    clicked = {event.document_id for event in counted if _is_choice(event)}
    refused = {event.document_id for event in counted if _is_refusal(event)}
    for id, event in joined:
        lost = marks.get(id, EventMark.NOT_SHOWN) is not EventMark.NOT_SHOWN and event.type in VERDICTS
        if lost and event.document_id not in clicked | refused:
            return None
    renders = [event for event in counted if event.type is EventType.RENDERED]
    placed = _place_hits(hits, renders, clicked | refused)
    if not placed:
        return None
    kept = [hit for hit, _, _ in placed]
    documents = tuple(hit.document_id for hit in kept)
    return ObservedPage(
        row.search_id,
        row.time_us,
        row.query,
        row.user_id,
        row.session_id,
        name_ranker(details),
        bool(row.simulated),
        documents,
        tuple(hit.content for hit in kept),
        tuple(rank for _, rank, _ in placed),
        tuple(displayed for _, _, displayed in placed),
        bool(renders),
        tuple(document in clicked for document in documents),
        tuple(document in refused for document in documents),
        tuple(hit.rank_before or hit.rank for hit in kept),
        tuple(hit.rank_probability for hit in kept),
    )


def _place_hits(
    hits: Sequence[LoggedHit], renders: Sequence[Event], acted_on: Set[str]
) -> list[tuple[LoggedHit, int, bool]]:
    """Places hits at their ranks and says whether they were displayed, no two at the same rank.

    A hit's rank is its place on the screen, without one its rank in the answer. What RENDERED events do not
    name was not displayed unless someone acted on it. Once they give places, its place is unknown: it is left
    out if it was acted on. So is a hit deeper than ``MAX_RANK``, and one whose rank another one has with
    better right: the first that has a place on the screen, then the first that was displayed.
    """
    places: dict[str, int] = {}
    for document, position in (place for event in renders for place in event.rendered):
        places[document] = places.get(document) or position
    on_screen = any(places.get(hit.document_id) for hit in hits)
    wanted: list[tuple[bool, int, int, bool]] = []
    for index, hit in enumerate(hits):
        place = places.get(hit.document_id)
        if on_screen and place is None and hit.document_id in acted_on:
            continue
        displayed = not renders or place is not None or hit.document_id in acted_on
        if max(place or hit.rank, hit.rank_before) <= MAX_RANK:
            wanted.append((not place, index, place or hit.rank, displayed))
    taken: dict[int, tuple[int, bool]] = {}
    for _, index, rank, displayed in sorted(wanted, key=lambda one: (one[0], not one[3], one[1])):
        taken.setdefault(rank, (index, displayed))
    found = sorted((index, rank, displayed) for rank, (index, displayed) in taken.items())
    return [(hits[index], rank, displayed) for index, rank, displayed in found]


def _is_choice(event: Event) -> bool:
    if event.type is EventType.RATING:
        return (event.value or 0.0) >= REFUSED_BELOW
    return event.type in CHOICES


def _is_refusal(event: Event) -> bool:
    low = event.type is EventType.RATING and (event.value or 0.0) < REFUSED_BELOW
    return low or event.type is EventType.SKIP
