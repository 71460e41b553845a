"""Searches that somebody tries out are kept and counted, and nothing is learned from them."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.unit.feedback.samples import KEY, NOON_US, SECOND_US, event, log_with, page

from quarry.documents.tables import connect_database
from quarry.feedback.importing.quarry_lines import parse_line
from quarry.feedback.reading.feedback_summary import ASKED_DAYS, read_feedback_summary
from quarry.feedback.reading.guards import GuardPolicy
from quarry.feedback.reading.observed_pages import read_observed_pages
from quarry.feedback.reading.stats import read_statistics
from quarry.feedback.rows import read_impression
from quarry.feedback.tables import FILE_NAME, impressions, open_feedback
from quarry.feedback.types import EventMark, EventType, Impression

DAY_US = 24 * 3_600 * SECOND_US
LIKE_A_BOT = [
    event(document=document, search_id=f"t{n}", after_s=0.01) for n in range(10) for document in "abc"
]


def trials(count: int, **values: str) -> list[Impression]:
    return [page(f"t{n}", trial=True, **values) for n in range(count)]


def test_learning_reads_neither_a_trial_nor_its_events(tmp_path: Path) -> None:
    pages = [page("s1", user="u"), page("t1", user="u", trial=True)]
    engine = log_with(tmp_path, pages, [event(document="a", search_id=one.search_id) for one in pages])
    assert [one.search_id for one in read_observed_pages(engine, KEY)] == ["s1"]
    found = read_feedback_summary(tmp_path / FILE_NAME, KEY, 0, NOON_US + DAY_US, GuardPolicy(), 5)
    assert found.choices == 1
    assert [(asked.text, asked.times) for asked in found.asked] == [("q", 1)]
    engine.dispose()


def test_statistics_say_how_many_there_are_and_why_their_events_do_not_count(tmp_path: Path) -> None:
    pages = [page("s1", user="u"), page("t1", user="u", trial=True)]
    engine = log_with(tmp_path, pages, [event(document="a", search_id=one.search_id) for one in pages])
    found = read_statistics(engine, KEY, GuardPolicy())
    assert (found.impressions, found.trial_impressions) == (2, 1)
    assert found.events == {
        (EventType.CLICK, EventMark.COUNTED): 1,
        (EventType.CLICK, EventMark.TRIAL): 1,
    }
    assert found.displayed[:3] == (1, 1, 1)
    engine.dispose()


def test_a_trial_does_not_move_the_days_whose_queries_are_told(tmp_path: Path) -> None:
    late = page("t1", trial=True, time_us=NOON_US + (ASKED_DAYS + 1) * DAY_US)
    engine = log_with(tmp_path, [page("s1"), late])
    found = read_feedback_summary(tmp_path / FILE_NAME, KEY, 0, NOON_US + DAY_US, GuardPolicy(), 5)
    assert [asked.text for asked in found.asked] == ["q"]
    assert found.last_us == NOON_US
    engine.dispose()


@pytest.mark.parametrize("user", ["u", ""])
def test_what_a_person_tries_out_takes_nothing_from_what_counts(tmp_path: Path, user: str) -> None:
    """Ten clicked trials of the same query by the same person neither cap its choice nor make it a bot's."""
    pages = [*trials(10, user=user), page("s1", user=user)]
    clicks = [*LIKE_A_BOT, event(document="a", search_id="s1", after_s=60)]
    engine = log_with(tmp_path, pages, clicks)
    (one,) = read_observed_pages(engine, KEY)
    assert one.clicked == (True, False, False)
    engine.dispose()


def test_the_log_gives_back_that_it_was_one(tmp_path: Path) -> None:
    engine = log_with(tmp_path, [page("s1"), page("t1", trial=True)])
    with engine.connect() as connection:
        rows = connection.execute(sa.select(impressions).order_by(impressions.c.search_id)).all()
    assert [read_impression(row).context.trial for row in rows] == [False, True]
    engine.dispose()


def test_a_log_of_before_has_no_trials(tmp_path: Path) -> None:
    log_with(tmp_path, [page("s1")]).dispose()
    old = connect_database(tmp_path / FILE_NAME)
    with old.begin() as connection:
        connection.execute(sa.text("ALTER TABLE impressions DROP COLUMN trial"))
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0002'"))
    old.dispose()
    engine = open_feedback(tmp_path / FILE_NAME)
    assert [one.search_id for one in read_observed_pages(engine, KEY)] == ["s1"]
    engine.dispose()


def test_an_imported_log_can_say_so() -> None:
    line = b'{"impression": {"search_id": "s", "time": "2026-01-01T00:00:00Z", "query": "q", "trial": true}}'
    found = parse_line(line, NOON_US)
    assert isinstance(found, Impression)
    assert found.context.trial
