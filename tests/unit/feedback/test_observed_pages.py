"""Pages as learning sees them: joined, guarded, in the order of time."""

from pathlib import Path

import pytest
from tests.unit.feedback.samples import KEY, NOON_US, event, log_with, page

from quarry.feedback.log import insert_impressions
from quarry.feedback.reading.guards import GuardPolicy
from quarry.feedback.reading.observed_pages import read_observed_pages, read_texts
from quarry.feedback.reading.stats import read_statistics
from quarry.feedback.types import Event, EventMark, EventType, Impression, LoggedHit, ObservedPage


def observed(folder: Path, pages: list[Impression], events: list[Event] = []) -> list[ObservedPage]:  # noqa: B006
    log_with(folder, pages, events).dispose()
    return list(read_observed_pages(folder / "feedback.db", KEY))


def test_pages_come_in_the_order_of_time_and_from_their_window(tmp_path: Path) -> None:
    engine = log_with(tmp_path, [page(f"s{t}", time_us=NOON_US + t) for t in (5, 1, 3, 2, 4)])
    found = read_observed_pages(engine, KEY, NOON_US + 2, NOON_US + 5)
    assert [one.search_id for one in found] == ["s2", "s3", "s4"]
    assert not list(read_observed_pages(engine, KEY + 1))
    engine.dispose()


def test_a_page_without_events_was_displayed_and_left(tmp_path: Path) -> None:
    (one,) = observed(tmp_path, [page(user="u", session="v", offset=10, generation="g", reranker="r")])
    assert (one.query, one.user_id, one.session_id, one.ranker) == ("q", "u", "v", "g::r")
    assert one.documents == ("a", "b", "c")
    assert one.ranks == one.ranks_before == (11, 12, 13)
    assert one.displayed == (True, True, True)
    assert not one.rendered
    assert one.clicked == one.refused == (False, False, False)
    assert one.rank_probabilities == (1.0, 1.0, 1.0)


def test_pinned_hits_and_what_was_done_with_them_are_left_out(tmp_path: Path) -> None:
    """Somebody has put them on top: neither a click nor its lack says what they deserve."""
    events = [event(EventType.CLICK, "a"), event(EventType.CLICK, "c")]
    (one,) = observed(tmp_path, [page(pinned=2), page("t", pinned=3)], events)
    assert (one.documents, one.ranks, one.clicked) == (("c",), (3,), (True,))


@pytest.mark.parametrize(
    ("type", "values", "clicked", "refused"),
    [
        (EventType.CLICK, {}, True, False),
        (EventType.VIEW, {"dwell_us": 1}, True, False),
        (EventType.COPY, {}, True, False),
        (EventType.CONVERSION, {}, True, False),
        (EventType.RATING, {"value": 0.5}, True, False),
        (EventType.RATING, {"value": 0.49}, False, True),
        (EventType.SKIP, {}, False, True),
        (EventType.OTHER, {"action": "hover"}, False, False),
    ],
)
def test_each_event_says_what_it_says(
    tmp_path: Path, type: EventType, values: dict[str, object], clicked: bool, refused: bool
) -> None:
    (one,) = observed(tmp_path, [page()], [event(type, "b", **values)])
    assert one.clicked == (False, clicked, False)
    assert one.refused == (False, refused, False)


def test_what_was_rendered_says_what_was_displayed_and_where(tmp_path: Path) -> None:
    events = [
        event(EventType.RENDERED, rendered=(("b", 0), ("x", 7))),
        event(EventType.RENDERED, rendered=(("a", 4), ("b", 9))),
    ]
    (one,) = observed(tmp_path, [page()], events)
    assert one.rendered
    assert one.displayed == (True, True, False)
    assert one.ranks == (4, 9, 3)


def test_what_was_clicked_was_displayed_whatever_was_rendered(tmp_path: Path) -> None:
    events = [event(EventType.RENDERED, rendered=(("a", 0),)), event(document="c")]
    (one,) = observed(tmp_path, [page()], events)
    assert one.displayed == (True, False, True)


def test_a_clicked_hit_whose_place_the_screen_does_not_say_is_left_out(tmp_path: Path) -> None:
    events = [event(EventType.RENDERED, rendered=(("a", 1), ("b", 3))), event(document="c")]
    (one,) = observed(tmp_path, [page()], events)
    assert (one.documents, one.ranks) == (("a", "b"), (1, 3))


@pytest.mark.parametrize(
    ("rendered", "documents", "ranks", "displayed"),
    [
        ([("a", 3)], "ab", (3, 2), (True, False)),  # c's own rank is a's place
        ([("b", 1)], "bc", (1, 3), (True, False)),
        ([("a", 5), ("b", 5)], "ac", (5, 3), (True, False)),  # two at one place: the first
        ([("a", 2), ("b", 0), ("c", 4)], "ac", (2, 4), (True, True)),
        ([("c", 0)], "abc", (1, 2, 3), (False, False, True)),
    ],
)
def test_no_two_hits_share_a_rank(
    tmp_path: Path,
    rendered: list[tuple[str, int]],
    documents: str,
    ranks: tuple[int, ...],
    displayed: tuple[bool, ...],
) -> None:
    seen = event(EventType.RENDERED, rendered=tuple(rendered))
    (one,) = observed(tmp_path, [page()], [seen])
    assert ("".join(one.documents), one.ranks, one.displayed) == (documents, ranks, displayed)


def test_hits_too_deep_to_learn_from_are_left_out(tmp_path: Path) -> None:
    far = event(EventType.RENDERED, rendered=(("a", 1_000), ("b", 7)))
    deep = LoggedHit("z", 1, 1_000_000, 0.5, rank_before=1_000_000)
    before = LoggedHit("y", 1, 2, 0.5, rank_before=1_000_000)
    mixed = Impression("t", 0, NOON_US, "q", page().context, (page().shown[0], before, deep))
    pages = [page(), page("p", [f"d{n}" for n in range(10)], offset=195), mixed]
    pages.append(page("o", offset=200))
    found = {one.search_id: one for one in observed(tmp_path, pages, [far])}
    assert found.keys() == {"s", "p", "t"}
    assert (found["s"].documents, found["s"].ranks) == (("b", "c"), (7, 3))
    assert found["p"].ranks == (196, 197, 198, 199, 200)
    assert found["t"].documents == ("a",)
    assert max(rank for one in found.values() for rank in one.ranks + one.ranks_before) <= 200


def test_an_event_belongs_to_its_page_alone(tmp_path: Path) -> None:
    pages = [page(), page(documents=["d"], offset=3), page(search_id="t")]
    first, second, other = observed(tmp_path, pages, [event(document="d", offset=3), event(document="a")])
    assert (first.clicked, second.clicked) == ((True, False, False), (True,))
    assert other.clicked == (False, False, False)


def test_a_page_whose_choice_does_not_count_is_left_out(tmp_path: Path) -> None:
    pages = [page(f"s{n}", user="u", time_us=NOON_US + n) for n in range(5)]
    clicks = [event(document="a", search_id=f"s{n}", after_s=100 * n + 5) for n in range(5)]
    found = observed(tmp_path, pages, clicks)
    assert [one.search_id for one in found] == ["s0"]


def test_a_hit_clicked_twice_is_clicked(tmp_path: Path) -> None:
    (one,) = observed(tmp_path, [page()], [event(document="a"), event(document="a", after_s=11)])
    assert one.clicked == (True, False, False)


def test_pages_without_hits_teach_nothing(tmp_path: Path) -> None:
    assert observed(tmp_path, [page(documents=[])]) == []


def test_explored_places_and_their_probabilities_are_kept(tmp_path: Path) -> None:
    shown = (
        LoggedHit("b", 1, 1, 0.5, rank_before=2, rank_probability=0.25),
        LoggedHit("a", 1, 2, 0.9, rank_before=1, rank_probability=0.25),
    )
    (one,) = observed(tmp_path, [Impression("s", 0, NOON_US, "q", page().context, shown)])
    assert (one.ranks, one.ranks_before) == ((1, 2), (2, 1))
    assert one.rank_probabilities == (0.25, 0.25)


def test_texts_are_found_by_hash(tmp_path: Path) -> None:
    engine = log_with(tmp_path, [])
    with engine.begin() as connection:
        insert_impressions(connection, [], {(b"1" * 16, 1): "one\nä", (b"1" * 16, 2): "one\nä"})
    engine.dispose()
    path = tmp_path / "feedback.db"
    assert read_texts(path, ["31" * 16, "", "33" * 16]) == {"31" * 16: "one\nä"}


def test_there_is_no_reading_where_there_is_no_log(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(read_observed_pages(tmp_path / "feedback.db", KEY))


def test_a_log_is_read_while_it_is_written(tmp_path: Path) -> None:
    writing = log_with(tmp_path, [page("s1"), page("s2")])
    reading = read_observed_pages(tmp_path / "feedback.db", KEY)
    first = next(reading)
    log_with(tmp_path, [page("s3")], [event(document="a", search_id="s2")]).dispose()
    assert [first.search_id, *(one.search_id for one in reading)] == ["s1", "s2"]
    assert len(list(read_observed_pages(tmp_path / "feedback.db", KEY))) == 3
    writing.dispose()


def test_statistics_count_by_type_and_mark(tmp_path: Path) -> None:
    pages = [page("s1", user="u", query="q1"), page("s2", session="v", simulated=True)]
    events = [
        event(document="a", search_id="s1"),
        event(document="a", search_id="s1", after_s=11),
        event(document="x", search_id="s1"),
        event(EventType.SKIP, "b", "s2"),
        event(document="a", search_id="lost"),
    ]
    engine = log_with(tmp_path, pages, events)
    found = read_statistics(engine, KEY, GuardPolicy())
    engine.dispose()
    assert (found.impressions, found.simulated_impressions) == (2, 1)
    assert (found.queries, found.users, found.sessions, found.texts) == (2, 1, 1, 0)
    assert found.events == {
        (EventType.CLICK, EventMark.CAPPED): 1,
        (EventType.CLICK, EventMark.COUNTED): 1,
        (EventType.CLICK, EventMark.NOT_SHOWN): 1,
        (EventType.CLICK, EventMark.ORPHAN): 1,
        (EventType.SKIP, EventMark.COUNTED): 1,
    }
    assert found.displayed[:4] == (2, 2, 2, 0)
    assert found.clicked[:4] == (1, 0, 0, 0)
    assert (found.first_us, found.last_us) == (NOON_US, NOON_US)


def test_statistics_count_a_query_once_in_whatever_form(tmp_path: Path) -> None:
    forms = ["refund policy", "refund  policy", "Refund policy?", "refund"]
    engine = log_with(tmp_path, [page(f"s{n}", query=form) for n, form in enumerate(forms)])
    assert read_statistics(engine, KEY, GuardPolicy()).queries == 2
    engine.dispose()


def test_statistics_of_nothing_are_nothing(tmp_path: Path) -> None:
    engine = log_with(tmp_path, [])
    found = read_statistics(engine, KEY, GuardPolicy())
    engine.dispose()
    assert (found.impressions, found.first_us, dict(found.events)) == (0, None, {})
