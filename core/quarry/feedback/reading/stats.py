"""The statistics of a collection's feedback log: what it holds, and what of it does not count and why."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from quarry.feedback.reading.guards import GuardPolicy
from quarry.feedback.reading.marking import count_orphans, mark_events
from quarry.feedback.reading.observed_pages import END_OF_TIME_US, read_observed_pages
from quarry.feedback.tables import events, impressions, texts
from quarry.feedback.types import EventMark, EventType
from quarry.questions import make_question_key

RANKS = 20


@dataclass(frozen=True, slots=True)
class Statistics:
    """Figures of one collection.

    Attributes:
        events: how many of each type became what.
        first_us: when the oldest impression was answered; None without any. So is ``last_us``.
        displayed: how often each of the first ranks was displayed, from rank 1; counted pages only.
        clicked: how often something was chosen there.
        queries: how many different ones were asked, forms of one query counted once.
        trial_impressions: of searches that somebody tried out: nothing is learned from them.
    """

    impressions: int
    simulated_impressions: int
    trial_impressions: int
    events: Mapping[tuple[EventType, EventMark], int]
    texts: int
    first_us: int | None
    last_us: int | None
    displayed: tuple[int, ...]
    clicked: tuple[int, ...]
    queries: int
    users: int
    sessions: int


def read_statistics(engine: sa.Engine, key: int, policy: GuardPolicy) -> Statistics:
    """Reads the whole log of a collection. Blocks."""
    c = impressions.c
    with engine.connect() as connection:
        totals = connection.execute(
            sa.select(
                sa.func.count(),
                sa.func.coalesce(sa.func.sum(sa.cast(c.simulated, sa.Integer)), 0),
                sa.func.coalesce(sa.func.sum(sa.cast(c.trial, sa.Integer)), 0),
                sa.func.min(c.time_us),
                sa.func.max(c.time_us),
                sa.func.count(sa.func.nullif(c.user_id, "").distinct()),
                sa.func.count(sa.func.nullif(c.session_id, "").distinct()),
            ).where(c.collection_id == key)
        ).one()
        asked = connection.execute(sa.select(c.query).distinct().where(c.collection_id == key))
        queries = len({make_question_key(text) for (text,) in asked})
        kept = sa.select(sa.func.count()).select_from(texts).where(texts.c.collection_id == key)
        text_count = int(connection.scalar(kept) or 0)
        counts = _count_events(connection, key, policy)
    displayed, clicked = [0] * RANKS, [0] * RANKS
    for page in read_observed_pages(engine, key, 0, END_OF_TIME_US, policy):
        for rank, shown, chosen in zip(page.ranks, page.displayed, page.clicked, strict=True):
            if rank <= RANKS:
                displayed[rank - 1] += shown
                clicked[rank - 1] += chosen
    return Statistics(
        int(totals[0]),
        int(totals[1]),
        int(totals[2]),
        counts,
        text_count,
        totals[3],
        totals[4],
        tuple(displayed),
        tuple(clicked),
        queries,
        int(totals[5]),
        int(totals[6]),
    )


def _count_events(
    connection: sa.Connection, key: int, policy: GuardPolicy
) -> dict[tuple[EventType, EventMark], int]:
    c = events.c
    counts: Counter[tuple[EventType, EventMark]] = Counter()
    by_type = sa.select(c.type, sa.func.count()).where(c.collection_id == key).group_by(c.type)
    for kind, count in connection.execute(by_type):
        counts[EventType(kind), EventMark.COUNTED] = int(count)
    marks = mark_events(connection, key, 0, END_OF_TIME_US, policy)
    if marks:  # few of the events, so that their types fit in memory
        for id, kind in connection.execute(sa.select(c.id, c.type).where(c.collection_id == key)):
            if id in marks:
                counts[EventType(kind), marks[id]] += 1
                counts[EventType(kind), EventMark.COUNTED] -= 1
    for kind, count in count_orphans(connection, key).items():
        counts[EventType(kind), EventMark.ORPHAN] += count
        counts[EventType(kind), EventMark.COUNTED] -= count
    return {place: count for place, count in sorted(counts.items()) if count}
