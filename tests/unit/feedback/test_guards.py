"""Guards mark what is not a person's choice, and nothing else."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.feedback.samples import KEY, event, log_with, page

from quarry.feedback.reading.guards import (
    CHOICES,
    GuardPolicy,
    JoinedEvent,
    OwnedChoice,
    find_capped,
    mark_haste,
)
from quarry.feedback.reading.marking import count_orphans, mark_events
from quarry.feedback.reading.observed_pages import END_OF_TIME_US, read_observed_pages
from quarry.feedback.types import Event, EventMark, EventType, Impression

POLICY = GuardPolicy()
UNSHARED = GuardPolicy(owner_share=1.0)
DAY_S = 86_400


def marks(
    folder: Path, pages: list[Impression], events: list[Event], policy: GuardPolicy = POLICY
) -> dict[str, EventMark]:
    """Marks by event id."""
    engine = log_with(folder, pages, events)
    with engine.connect() as connection:
        found = mark_events(connection, KEY, 0, END_OF_TIME_US, policy)
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
        assert count_orphans(connection, KEY) == {"click": 2}
        assert mark_events(connection, KEY, 0, END_OF_TIME_US, POLICY) == {}
    engine.dispose()


def test_a_hit_counts_once_a_page_for_each_kind_of_choice(tmp_path: Path) -> None:
    clicks = [event(document="a", after_s=s) for s in (5, 6, 7)]
    view = event(EventType.VIEW, "a", after_s=8)
    found = marks(tmp_path, [page()], [*clicks, view])
    assert found == {e.event_id: EventMark.CAPPED for e in clicks[1:]}


def test_a_user_counts_once_a_day_for_a_query_and_document(tmp_path: Path) -> None:
    times = [0, 100, DAY_S]
    pages = [page(f"s{n}", user="u", time_us=page().time_us + t * 1_000_000) for n, t in enumerate(times)]
    clicks = [event(document="a", search_id=f"s{n}", after_s=t + 9) for n, t in enumerate(times)]
    assert marks(tmp_path, pages, clicks, UNSHARED) == {clicks[1].event_id: EventMark.CAPPED}


FORMS = ["my refund", "my  refund", " My\trefund", "MY REFUND?", "my refund!!", "my refund."]


def test_no_owner_gets_around_a_cap_by_writing_the_query_otherwise(tmp_path: Path) -> None:
    """Once a day, three times in all, and no more than its share: of the query, in whatever form."""
    pages = [page(f"s{n}", user="u", query=form) for n, form in enumerate(FORMS)]
    clicks = [event(document="a", search_id=f"s{n}", after_s=n + 5) for n in range(len(FORMS))]
    ids = [click.event_id for click in clicks]
    assert marks(tmp_path, pages, clicks, UNSHARED) == dict.fromkeys(ids[1:], EventMark.CAPPED)
    later = tmp_path / "later"
    later.mkdir()
    days = [event(document="a", search_id=f"s{n}", after_s=n * DAY_S + 5) for n in range(len(FORMS))]
    ids = [click.event_id for click in days]
    assert marks(later, pages, days, UNSHARED) == dict.fromkeys(ids[3:], EventMark.CAPPED)
    share = tmp_path / "share"
    share.mkdir()
    assert marks(share, pages, days) == dict.fromkeys(ids[1:], EventMark.CAPPED)


def test_those_who_name_nobody_get_around_no_cap_either(tmp_path: Path) -> None:
    pages = [page(f"s{n}", query=form) for n, form in enumerate(FORMS)]
    clicks = [event(document="a", search_id=f"s{n}", after_s=n + 5) for n in range(len(FORMS))]
    ids = [click.event_id for click in clicks]
    assert marks(tmp_path, pages, clicks, UNSHARED) == dict.fromkeys(ids[3:], EventMark.CAPPED)


@pytest.mark.parametrize("change", ["query", "user", "document"])
def test_another_query_user_or_document_is_not_capped(tmp_path: Path, change: str) -> None:
    pages, clicks = [], []
    for n in range(2):
        other = change if n else ""
        query, user = ("q2" if other == "query" else "q"), ("u2" if other == "user" else "u")
        pages.append(page(f"s{n}", query=query, user=user))
        clicks.append(
            event(document="b" if other == "document" else "a", search_id=f"s{n}", after_s=100 * n + 1)
        )
    assert marks(tmp_path, pages, clicks) == {}


def test_a_user_counts_three_times_in_all_and_alone_once(tmp_path: Path) -> None:
    pages = [page(f"s{n}", user="u") for n in range(5)]
    clicks = [event(document="a", search_id=f"s{n}", after_s=n * DAY_S + 5) for n in range(5)]
    ids = [c.event_id for c in clicks]
    assert marks(tmp_path, pages, clicks, UNSHARED) == dict.fromkeys(ids[3:], EventMark.CAPPED)
    alone = tmp_path / "alone"
    alone.mkdir()
    assert marks(alone, pages, clicks) == dict.fromkeys(ids[1:], EventMark.CAPPED)


@pytest.mark.parametrize(("others", "counted"), [(2, 1), (7, 2), (12, 3), (60, 3)])
def test_nobody_has_more_than_its_share_of_a_query(tmp_path: Path, others: int, counted: int) -> None:
    pages = [page(f"s{n}", user="u") for n in range(5)]
    pages += [page(f"o{n}", user=f"o{n}", query=" Q") for n in range(others)]
    clicks = [event(document="a", search_id=f"s{n}", after_s=n * DAY_S + 5) for n in range(5)]
    clicks += [event(document="b", search_id=f"o{n}") for n in range(others)]
    found = marks(tmp_path, pages, clicks)
    assert found == dict.fromkeys([c.event_id for c in clicks[counted:5]], EventMark.CAPPED)


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
    assert found == {e.event_id: EventMark.BURST for e in [*fast, skip]}


def test_what_is_said_again_of_a_hit_is_no_burst(tmp_path: Path) -> None:
    """A person who clicks, reads and copies twelve hits in a minute sends 48 events, and makes 12 choices."""
    many = [f"d{n}" for n in range(20)]
    kinds = (EventType.CLICK, EventType.VIEW, EventType.COPY, EventType.CONVERSION)
    events = [event(kind, many[n], after_s=5 + 4 * n) for n in range(12) for kind in kinds]
    assert marks(tmp_path, [page(documents=many, user="u")], events) == {}


def test_who_clicks_all_of_short_pages_is_no_bot(tmp_path: Path) -> None:
    """Such as someone who looks for what has one answer, thirty times."""
    pages = [page(f"s{n}", ["a", "b"][: n % 2 + 1], user="u", query=f"q{n}") for n in range(30)]
    clicks = [
        event(document=hit.document_id, search_id=one.search_id, after_s=100 * n + 5)
        for n, one in enumerate(pages)
        for hit in one.shown
    ]
    assert marks(tmp_path, pages, clicks) == {}
    seen = [page(f"s{n}", [f"d{i}" for i in range(10)], user="u", query=f"q{n}") for n in range(30)]
    events = [event(document="d0", search_id=f"s{n}", after_s=100 * n + 5) for n in range(30)]
    events += [event(EventType.RENDERED, search_id=f"s{n}", rendered=(("d0", 1),)) for n in range(30)]
    few = tmp_path / "few"
    few.mkdir()
    assert marks(few, seen, events) == {}


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
    assert marks(fewer, [*pages, page("s2", ["x", "y", "z"], user="u")], clicks) == {}  # 18 of 23
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


def test_without_a_user_a_session_is_one_and_without_that_all_of_a_query_are(tmp_path: Path) -> None:
    pages = [page(f"s{n}", session="v") for n in range(3)] + [page(f"p{n}", query=" Q") for n in range(5)]
    clicks = [event(document="a", search_id=f"s{n}", after_s=100 * n + 5) for n in range(3)]
    clicks += [event(document="a", search_id=f"p{n}", after_s=100 * n + 5) for n in range(5)]
    found = marks(tmp_path, pages, clicks, UNSHARED)
    over = [*clicks[1:3], *clicks[6:]]
    assert found == {c.event_id: EventMark.CAPPED for c in over}


def test_an_event_that_names_another_user_counts_for_both(tmp_path: Path) -> None:
    pages = [page("s1", user="u"), page("s2", user="u"), page("s3", user="w"), page("s4", user="x")]
    events = [
        event(document="a", search_id="s1", user_id="v", after_s=1),
        event(document="a", search_id="s2", user_id="w", after_s=2),  # u has had its choice
        event(document="a", search_id="s3", after_s=3),  # w has not: that one did not count
        event(document="a", search_id="s4", user_id="v", after_s=4),  # v has
    ]
    found = marks(tmp_path, pages, events)
    assert found == dict.fromkeys([events[1].event_id, events[3].event_id], EventMark.CAPPED)


def test_who_adds_to_what_others_have_clicked_is_capped_too(tmp_path: Path) -> None:
    pages = [page(f"s{n}", user=f"u{n}") for n in range(5)]
    clicks = [event(document="a", search_id=f"s{n}", after_s=n * DAY_S + 1) for n in range(5)]
    views = [event(EventType.VIEW, "a", f"s{n}", user_id="v", after_s=n * DAY_S + 2) for n in range(5)]
    over = [e.event_id for e in (*clicks[3:], *views[3:])]  # what is said of a hit is one choice of both
    assert marks(tmp_path, pages, clicks + views, UNSHARED) == dict.fromkeys(over, EventMark.CAPPED)


KINDS = sorted(CHOICES)


@pytest.mark.parametrize(
    "attack", ["clicks", "days", "kinds", "case", "anonymous", "other_user", "nobody_and_other_user", "skips"]
)
def test_one_client_cannot_push_a_document(tmp_path: Path, attack: str) -> None:
    """70 people choose the best document; one client with 50 pages wants another, or the best one down."""
    names = ("best", "pushed", "c", "d")
    pages = [page(f"h{n}", names, user=f"h{n}") for n in range(70)]
    events = [event(document="best", search_id=f"h{n}") for n in range(70)]
    for n in range(50):
        who = {} if attack in ("anonymous", "nobody_and_other_user") else {"user": "client"}
        query = ("q", "Q", " q", "q\n")[n % 4] if attack == "case" else "q"
        kind = (
            KINDS[n // 10] if attack == "kinds" else EventType.SKIP if attack == "skips" else EventType.CLICK
        )
        values: dict[str, object] = {"value": 1.0} if kind is EventType.RATING else {}
        if attack.endswith("other_user"):
            values |= {"user_id": f"name-{n}", "session_id": f"visit-{n}"}
        target = "best" if attack == "skips" else "pushed"
        after_s = n * (50 if attack == "clicks" else DAY_S) + 5
        pages.append(page(f"c{n}", names, query=query, **who))
        events.append(event(kind, target, f"c{n}", after_s=after_s, **values))
    log_with(tmp_path, pages, events).dispose()
    seen = list(read_observed_pages(tmp_path / "feedback.db", KEY))
    assert sum(one.clicked[0] for one in seen) == 70
    assert 1 <= sum(one.clicked[1] or one.refused[0] for one in seen) <= 3


joined = st.builds(
    JoinedEvent,
    id=st.just(0),
    type=st.sampled_from(list(EventType)),
    document_id=st.sampled_from("abc"),
    time_us=st.integers(0, 200_000_000),
    page=st.integers(1, 4),
    page_time_us=st.just(0),
    hits=st.just(3),
    simulated=st.booleans(),
    shown=st.booleans(),
    displayed=st.integers(0, 3),
)


@given(st.lists(joined, max_size=60), st.integers(0, 60))
def test_haste_takes_no_simulated_event_and_leaves_no_busy_minute(some: list[JoinedEvent], hits: int) -> None:
    ordered = sorted(some, key=lambda e: e.time_us)
    events = [replace(e, id=n) for n, e in enumerate(ordered)]
    policy = GuardPolicy(choices_per_minute=5, bot_displayed=4)
    found = mark_haste(events, hits, policy)
    assert found == mark_haste(list(events), hits, policy)
    assert all(found.get(e.id) is EventMark.NOT_SHOWN for e in events if not e.shown)
    assert not any(e.id in found for e in events if e.shown and e.simulated)
    left = [e for e in events if e.id not in found and e.type in CHOICES and not e.simulated]
    for first in left:
        minute = [e for e in left if first.time_us <= e.time_us < first.time_us + 60_000_000]
        assert len({(e.page, e.document_id) for e in minute}) <= policy.choices_per_minute


owned = st.builds(
    OwnedChoice,
    id=st.just(0),
    type=st.sampled_from([*CHOICES, EventType.SKIP]),
    document_id=st.sampled_from("ab"),
    time_us=st.integers(0, 4 * DAY_S * 1_000_000),
    page=st.integers(1, 30),
    owners=st.sampled_from([("u",), ("v",), ("u", "v"), ("w",), ("nobody",), ("nobody", "u")]),
)


@given(st.lists(owned, max_size=80))
def test_nobody_has_more_choices_than_the_caps(some: list[OwnedChoice]) -> None:
    ordered = sorted(some, key=lambda e: e.time_us)
    owners = {one.page: one.owners[0] for one in ordered}  # a page has one owner
    events = [
        replace(e, id=n, owners=tuple({owners[e.page], *e.owners}), anonymous=owners[e.page] == "nobody")
        for n, e in enumerate(ordered)
    ]
    found = find_capped(events, POLICY)
    left = [e for e in events if e.id not in found]
    assert len({(e.page, e.document_id, e.type) for e in left}) == len(left)
    for owner in ("u", "v", "w", "nobody"):
        for document in "ab":
            pages = {e.page for e in left if e.document_id == document and owner in e.owners}
            assert len(pages) <= POLICY.choices_per_pair


@pytest.mark.parametrize(
    "wrong",
    [
        {"choices_per_minute": 0},
        {"anonymous_per_pair": 0},
        {"bot_share": 0.0},
        {"owner_share": 1.5},
        {"bot_haste_s": -1.0},
    ],
)
def test_a_policy_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        GuardPolicy(**wrong)
