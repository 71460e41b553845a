"""What is new in a feedback log, and what is asked most."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from quarry.feedback.log import insert_events, insert_impressions
from quarry.feedback.reading.feedback_summary import (
    ASKED_DAYS,
    AskedQuery,
    FeedbackSummary,
    read_feedback_summary,
)
from quarry.feedback.reading.guards import GuardPolicy
from quarry.feedback.rows import make_impression_row
from quarry.feedback.tables import FILE_NAME, open_feedback
from quarry.feedback.types import Event, EventType, Impression, LoggedHit
from quarry.search.logged_request import SearchContext

DAY_US = 24 * 3_600 * 10**6
CLICK, VIEW = EventType.CLICK, EventType.VIEW


class Log:
    """A feedback log; every search is a new person's unless one is named, and shows ten documents."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self.engine: sa.Engine = open_feedback(self.path)
        self.searches = 0

    def search(self, query: str, day: float = 0, user: str = "", offset: int = 0, key: int = 1) -> str:
        self.searches += 1
        name = f"s{self.searches}"
        hits = tuple(LoggedHit(f"d{rank}", 1, rank, 1.0) for rank in range(1, 11))
        context = SearchContext(user_id=user or f"u{self.searches}")
        page = Impression(name, offset, round(day * DAY_US), query, context, hits)
        with self.engine.begin() as connection:
            insert_impressions(connection, [make_impression_row(key, page, 0)], {})
        return name

    def choose(
        self, search: str, kind: EventType = CLICK, document: str = "d1", received_us: int = 5
    ) -> None:
        event = Event(f"{search}-{kind}-{document}", kind, search, 0, 10**6, received_us, document)
        with self.engine.begin() as connection:
            insert_events(connection, [(1, [event])])

    def summary(
        self, start_us: int = 0, end_us: int = 10, most: int = 20, **policy: float
    ) -> FeedbackSummary:
        return read_feedback_summary(self.path, 1, start_us, end_us, GuardPolicy(**policy), most)  # type: ignore[arg-type]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def test_a_hit_that_is_chosen_counts_once_for_its_page(log: Log) -> None:
    first, second = log.search("a"), log.search("a")
    for kind in (CLICK, VIEW):
        log.choose(first, kind)
    log.choose(first, document="d2")
    log.choose(second)
    assert log.summary().choices == 3


def test_only_choices_that_the_log_got_in_the_time_asked_for_count(log: Log) -> None:
    for received_us in (2, 3, 4):
        log.choose(log.search("a"), received_us=received_us)
    assert [log.summary(3).choices, log.summary(0, 3).choices, log.summary(3, 4).choices] == [2, 1, 1]


def test_what_guards_leave_out_orphans_and_refusals_are_no_choices(log: Log) -> None:
    for n in range(3):
        log.choose(log.search("a", day=n / 10, user="eager"))
    log.choose("nothing")
    log.choose(log.search("b"), EventType.SKIP)
    log.choose(log.search("b"), document="elsewhere")
    assert log.summary(choices_per_day=2, owner_share=1.0).choices == 2


def test_forms_of_a_query_are_one_and_the_usual_one_is_told(log: Log) -> None:
    for query in ("Lost Password", "lost password ", "lost password", "invoice", "", " "):
        log.search(query)
    log.search("other", key=2)
    log.search("invoice", offset=10)  # a later page of one search
    assert log.summary().asked == (AskedQuery("lost password", 2 + 1), AskedQuery("invoice", 1))
    assert log.summary(most=1).asked == (AskedQuery("lost password", 3),)


def test_what_was_asked_long_before_the_newest_search_is_not_told(log: Log) -> None:
    log.search("old", day=1)
    log.search("new", day=2 + ASKED_DAYS)
    summary = log.summary()
    assert [query.text for query in summary.asked] == ["new"]
    assert (summary.first_us, summary.last_us) == (2 * DAY_US, (2 + ASKED_DAYS) * DAY_US)


def test_where_nothing_was_logged_nothing_is_new(log: Log, tmp_path: Path) -> None:
    assert log.summary() == FeedbackSummary()
    assert read_feedback_summary(tmp_path / "gone", 1, 0, 10, GuardPolicy(), 20) == FeedbackSummary()
