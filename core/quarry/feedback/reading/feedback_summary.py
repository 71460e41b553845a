"""The summary that a loop run asks the log for: how much is new, and what is asked most."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from quarry.feedback.reading.guards import CHOICES, DAY_US, GuardPolicy
from quarry.feedback.reading.marking import mark_events
from quarry.feedback.reading.observed_pages import END_OF_TIME_US
from quarry.feedback.tables import events, impressions, read_feedback
from quarry.questions import make_question_key

ASKED_DAYS = 28
"""How far back of the newest search it counts what is asked."""


@dataclass(frozen=True, slots=True)
class AskedQuery:
    """A query in the form that it was typed in most often, and how many searches were for any form of it."""

    text: str
    times: int


@dataclass(frozen=True, slots=True)
class FeedbackSummary:
    """A summary of a collection's feedback, by which a run of the loop decides whether to begin.

    Attributes:
        choices: hits of pages that were chosen, each once however often events say so; of events that the
            log got in the time asked for, and that the guards let count.
        asked: most asked first, on the latest days that the log knows; queries without any word, and trials,
            are left out.
        first_us: when the first of those days began; None without any impression but trials. ``last_us``:
            when the newest of the others was answered.
    """

    choices: int = 0
    asked: tuple[AskedQuery, ...] = ()
    first_us: int | None = None
    last_us: int | None = None


def read_feedback_summary(
    path: Path, key: int, start_us: int, end_us: int, policy: GuardPolicy, most_asked: int
) -> FeedbackSummary:
    """Reads the log at ``path``, which a server may be writing. Blocks. No file, no news.

    Args:
        key: the collection's.
        start_us: choices that the log got at this time or later; ``end_us``: before this time.
        most_asked: queries to give, at most.
    """
    try:
        engine = read_feedback(path)
    except FileNotFoundError:
        return FeedbackSummary()
    try:
        with engine.connect() as connection:
            choices = _count_choices(connection, key, start_us, end_us, policy)
            c = impressions.c
            newest = sa.select(sa.func.max(c.time_us)).where(c.collection_id == key, c.trial.is_(False))
            last_us = connection.scalar(newest)
            if last_us is None:
                return FeedbackSummary(choices)
            first_us = int(last_us) - ASKED_DAYS * DAY_US
            return FeedbackSummary(
                choices, _read_asked(connection, key, first_us, most_asked), first_us, int(last_us)
            )
    finally:
        engine.dispose()


def _count_choices(
    connection: sa.Connection, key: int, start_us: int, end_us: int, policy: GuardPolicy
) -> int:
    """Counts choices; an event whose search is not in the log counts for nothing."""
    e, i = events.c, impressions.c
    page = sa.and_(
        i.collection_id == e.collection_id, i.search_id == e.search_id, i.page_offset == e.page_offset
    )
    query = (
        sa.select(e.id, i.id.label("page"), e.document_id)
        .join_from(events, impressions, page)
        .where(
            e.collection_id == key,
            e.received_us >= start_us,
            e.received_us < end_us,
            e.type.in_(sorted(CHOICES)),
        )
    )
    rows = connection.execute(query).all()
    if not rows:
        return 0
    marks = mark_events(connection, key, 0, END_OF_TIME_US, policy)
    return len({(row.page, row.document_id) for row in rows if row.id not in marks})


def _read_asked(connection: sa.Connection, key: int, first_us: int, most: int) -> tuple[AskedQuery, ...]:
    c = impressions.c
    query = (
        sa.select(c.query, sa.func.count())
        .where(c.collection_id == key, c.time_us >= first_us, c.page_offset == 0, c.trial.is_(False))
        .group_by(c.query)
    )
    times: Counter[str] = Counter()
    forms: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for text, count in connection.execute(query):
        if name := make_question_key(text):
            times[name] += count
            forms[name][text.strip()] += count
    first = sorted(times, key=lambda name: (-times[name], name))[:most]
    usual = {name: min(forms[name], key=lambda form: (-forms[name][form], form)) for name in first}
    return tuple(AskedQuery(usual[name], times[name]) for name in first)
