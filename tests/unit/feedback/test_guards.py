"""Guards mark what is not a person's choice, and nothing else."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.feedback.samples import KEY, event, log_with, page

from quarry.feedback.guards import GuardPolicy, JoinedEvent, marks_of
from quarry.feedback.marking import marked_events, orphans
from quarry.feedback.pages import END_OF_TIME_US
from quarry.feedback.types import Event, EventMark, EventType, Impression

POLICY = GuardPolicy()
DAY_S = 86_400


def marks(
    folder: Path, pages: list[Impression], events: list[Event], policy: GuardPolicy = POLICY
) -> dict[str, EventMark]:
    """Marks by event id."""
    engine = log_with(folder, pages, events)
    with engine.connect() as connection:
        found = marked_events(connection, KEY, 0, END_OF_TIME_US, policy)
        ids = dict(connection.exec_driver_sql("SELECT id, event_id FROM events").all())
    engine.dispose()
    return {ids[row]: mark for row, mark in found.items()}


def test_a_click_on_what_was_shown_counts(tmp_path: Path) -> None:
    assert marks(tmp_path, [page(user="u")], [event(document="b")]) == {}


def test_a_document_that_was_not_on_the_page_is_not_shown(tmp_path: Path) -> None:
    pages = [page(documents=["a"]), page(documents=["b"], offset=1)]
    wrong = [
        event(document="b"),
        event(document="a", offset=1),
        event(EventType.RENDERED, rendered=(("x", 1),)),
    ]
    right = [
        event(document="b", offset=1),
        event(EventType.OTHER, action="scroll"),
        event(EventType.RENDERED, rendered=(("x", 1), ("a", 2))),
    ]
    assert marks(tmp_path, pages, wrong + right) == {e.event_id: EventMark.NOT_SHOWN for e in wrong}


def test_events_without_their_page_are_orphans(tmp_path: Path) -> None:
    engine = log_with(
        tmp_path, [page()], [event(document="a", search_id="lost"), event(document="a", offset=9)]
    )
    with engine.connect() as connection:
        assert orphans(connection, KEY) == {"click": 2}
        assert marked_events(connection, KEY, 0, END_OF_TIME_US, POLICY) == {}
    engine.dispose()


def test_a_hit_counts_once_a_page_for_each_kind_of_choice(tmp_path: Path) -> None:
    clicks = [event(document="a", after_s=s) for s in (5, 6, 7)]
    view = event(EventType.VIEW, "a", after_s=8)
    found = marks(tmp_path, [page()], [*clicks, view])
    assert found == {e.event_id: EventMark.CAPPED for e in clicks[1:]}


def test_a_user_counts_three_times_a_day_for_a_query_and_document(tmp_path: Path) -> None:
    times = [0, 100, 200, 300, DAY_S]
    pages = [page(f"s{n}", user="u", time_us=page().time_us + t * 1_000_000) for n, t in enumerate(times)]
    clicks = [event(document="a", search_id=f"s{n}", after_s=t + 9) for n, t in enumerate(times)]
    assert marks(tmp_path, pages, clicks) == {clicks[3].event_id: EventMark.CAPPED}


@pytest.mark.parametrize("change", ["query", "user", "document"])
def test_another_query_user_or_document_is_not_capped(tmp_path: Path, change: str) -> None:
    pages, clicks = [], []
    for n in range(6):
        other = change if n >= 3 else ""
        query, user = ("q2" if other == "query" else "q"), ("u2" if other == "user" else "u")
        pages.append(page(f"s{n}", query=query, user=user))
        clicks.append(
            event(document="b" if other == "document" else "a", search_id=f"s{n}", after_s=100 * n + 1)
        )
    assert marks(tmp_path, pages, clicks) == {}


def test_no_user_has_more_than_its_share_of_a_pair(tmp_path: Path) -> None:
    pages = [page(f"s{n}", user="u") for n in range(14)]
    clicks = [event(document="a", search_id=f"s{n}", after_s=n * DAY_S + 5) for n in range(14)]
    assert marks(tmp_path, pages, clicks) == {c.event_id: EventMark.CAPPED for c in clicks[10:]}


def test_more_choices_a_minute_than_a_person_makes_are_a_burst(tmp_path: Path) -> None:
    many = [f"d{n}" for n in range(60)]
    slow = [event(document=many[n], after_s=2.5 * n + 5) for n in range(24)]  # 24 a minute
    assert marks(tmp_path, [page(documents=many, user="u")], slow) == {}


def test_a_burst_takes_all_choices_of_its_minute(tmp_path: Path) -> None:
    many = [f"d{n}" for n in range(200)]
    fast = [event(document=many[n], after_s=5 + n) for n in range(31)]
    later = event(document=many[100], after_s=300)
    skip = event(EventType.SKIP, many[101], after_s=10)
    found = marks(tmp_path, [page(documents=many, user="u")], [*fast, later, skip])
    assert found == {e.event_id: EventMark.BURST for e in fast}


def test_who_clicks_nearly_everything_is_a_bot(tmp_path: Path) -> None:
    pages = [page(f"s{n}", [f"d{n}-{i}" for i in range(10)], user="u") for n in range(2)]
    clicks = [
        event(document=f"d{n}-{i}", search_id=f"s{n}", after_s=200 * n + 10 * i + 5)
        for n in range(2)
        for i in range(9)
    ]
    seen = event(EventType.RENDERED, search_id="s0", rendered=(("d0-0", 1), ("d0-1", 2)))
    everything = {e.event_id: EventMark.BOT for e in clicks}
    assert marks(tmp_path, pages, clicks) == everything
    fewer = tmp_path / "fewer"
    fewer.mkdir()
    assert marks(fewer, [*pages, page("s2", ["x"] * 1, user="u")], clicks) == {}  # 18 of 21
    rendered = tmp_path / "rendered"
    rendered.mkdir()
    assert marks(rendered, pages, [*clicks, seen]) == {}  # 12 were displayed: too few to tell


def test_who_clicks_faster_than_a_person_reads_is_a_bot(tmp_path: Path) -> None:
    pages = [page(f"s{n}", user="u", query=f"q{n}") for n in range(5)]
    hasty = [event(document="a", search_id=f"s{n}", after_s=0.02) for n in range(5)]
    assert marks(tmp_path, pages, hasty) == {e.event_id: EventMark.BOT for e in hasty}


def test_programs_that_say_so_may_be_hasty_and_wrong_clocks_are_not_haste(tmp_path: Path) -> None:
    pages = [page(f"s{n}", user="u", query=f"q{n}", simulated=True) for n in range(5)]
    pages += [page(f"p{n}", user="v", query=f"q{n}") for n in range(5)]
    events = [event(document="a", search_id=f"s{n}", after_s=0.0) for n in range(5)]
    events += [event(document="a", search_id=f"p{n}", after_s=-3600) for n in range(5)]
    assert marks(tmp_path, pages, events) == {}


def test_without_a_user_a_session_is_one_and_without_that_each_search_is(tmp_path: Path) -> None:
    pages = [page(f"s{n}", session="v") for n in range(5)] + [page(f"p{n}") for n in range(5)]
    clicks = [event(document="a", search_id=f"{p}{n}", after_s=100 * n + 5) for p in "sp" for n in range(5)]
    found = marks(tmp_path, pages, clicks)
    assert found == {c.event_id: EventMark.CAPPED for c in clicks[3:5]}


joined = st.builds(
    JoinedEvent,
    id=st.just(0),
    type=st.sampled_from(list(EventType)),
    document_id=st.sampled_from("abc"),
    time_us=st.integers(0, 200_000_000),
    page=st.integers(1, 4),
    query=st.sampled_from("qr"),
    page_time_us=st.just(0),
    hits=st.just(3),
    simulated=st.booleans(),
    shown=st.booleans(),
    displayed=st.integers(0, 3),
)


@given(st.lists(joined, max_size=60), st.integers(0, 60))
def test_marks_are_the_same_each_time_and_counted_choices_are_within_the_caps(
    some: list[JoinedEvent], hits: int
) -> None:
    ordered = sorted(some, key=lambda e: e.time_us)
    events = [replace(e, id=n) for n, e in enumerate(ordered)]
    policy = GuardPolicy(choices_per_minute=5, bot_displayed=4)
    found = marks_of(events, hits, policy)
    assert found == marks_of(list(events), hits, policy)
    assert all(found.get(e.id) is EventMark.NOT_SHOWN for e in events if not e.shown)
    counted = [e for e in events if e.id not in found and e.type is EventType.CLICK]
    assert len({(e.page, e.document_id) for e in counted}) == len(counted)
    for query, document in {(e.query, e.document_id) for e in counted}:
        pair = [e for e in counted if (e.query, e.document_id) == (query, document)]
        assert len(pair) <= policy.choices_per_day


@pytest.mark.parametrize("wrong", [{"choices_per_minute": 0}, {"bot_share": 0.0}, {"bot_haste_s": -1.0}])
def test_a_policy_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        GuardPolicy(**wrong)
