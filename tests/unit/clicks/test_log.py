from dataclasses import replace
from pathlib import Path

import numpy as np
from tests.unit.clicks.logs import page
from tests.unit.feedback import samples
from tests.unit.feedback.samples import KEY

from quarry.clicks.log import ClickLog, read_clicks
from quarry.feedback.reading.guards import GuardPolicy
from quarry.feedback.tables import FILE_NAME


def test_a_log_holds_its_pages_as_arrays() -> None:
    log = ClickLog.from_pages(
        [page("Red Shoe ", "ab", "b"), page("red  shoe?", "bca", "", refused="c", session="t")]
    )
    assert log.queries == ["red shoe"]
    assert log.texts == ["Red Shoe"]
    assert log.documents == ["a", "b", "c"]
    assert log.query.tolist() == [0, 0]
    assert log.document.tolist() == [[0, 1, -1], [1, 2, 0]]
    assert log.rank.tolist() == [[1, 2, 0], [1, 2, 3]]
    assert log.clicked.tolist() == [[False, True, False], [False, False, False]]
    assert log.refused.tolist() == [[False, False, False], [False, True, False]]
    assert log.session.tolist() == [0, 1]
    assert log.max_rank == 3


def test_what_was_not_displayed_is_left_out_and_the_rest_is_in_order_of_display() -> None:
    shown = replace(page("q", "abc", "c", ranks=(3, 1, 2)), displayed=(True, False, True))
    log = ClickLog.from_pages([shown])
    assert [log.documents[number] for number in log.document[0]] == ["c", "a"]
    assert log.rank.tolist() == [[2, 3]]


def test_pages_without_a_session_belong_to_their_user_or_to_their_search() -> None:
    bare = page("q", "a", session="")
    by_user = [replace(bare, user_id="u", search_id=str(number)) for number in range(2)]
    by_search = [replace(bare, search_id=search) for search in ("1", "2", "2")]
    assert ClickLog.from_pages([*by_user, *by_search]).session.tolist() == [0, 0, 1, 2, 2]


def test_a_log_may_have_no_pages_and_pages_no_hits() -> None:
    assert len(ClickLog.from_pages([])) == 0
    assert ClickLog.from_pages([page("q", "")]).rank.shape == (1, 0)


def test_a_log_is_cut_by_rows_and_keeps_its_numbers() -> None:
    log = ClickLog.from_pages([page("p", "a"), page("q", "b", "b")]).select_rows(np.array([False, True]))
    assert log.query.tolist() == [1]
    assert log.document.tolist() == [[1]]
    assert log.rank_probability is not None and len(log.rank_probability) == 1


def test_pages_of_one_search_and_of_one_owner_are_known() -> None:
    """An owner is the user, without one the session, without one the search."""
    one = replace(page("q", "a"), search_id="1", user_id="u")
    log = ClickLog.from_pages(
        [
            one,
            replace(one, search_id="2", user_id="", time_us=3),
            replace(one, time_us=5),
            replace(one, search_id="3", user_id="", session_id="", time_us=7),
        ]
    )
    assert log.search.tolist() == [0, 1, 0, 2]
    assert log.owner.tolist() == [0, 1, 0, 2]
    assert log.first_pages.tolist() == [True, True, False, True]
    assert log.span_us == (0, 7)
    assert ClickLog.from_pages([]).span_us is None


def test_a_collections_log_is_read_with_or_without_browsing(tmp_path: Path) -> None:
    assert len(read_clicks(tmp_path / FILE_NAME, KEY, GuardPolicy())) == 0  # feedback was never kept
    shown = [samples.page("s1", query="shoe"), samples.page("s2", query="  ", time_us=samples.NOON_US + 1)]
    samples.log_with(tmp_path, shown, [samples.event(document="b", search_id="s1")]).dispose()
    everything = read_clicks(tmp_path / FILE_NAME, KEY, GuardPolicy())
    assert everything.queries == ["shoe", ""]
    assert everything.clicked.tolist() == [[False, True, False], [False] * 3]
    assert read_clicks(tmp_path / FILE_NAME, KEY, GuardPolicy(), typed=True).queries == ["shoe"]
    assert len(read_clicks(tmp_path / FILE_NAME, KEY, GuardPolicy(), samples.NOON_US + 1)) == 1
