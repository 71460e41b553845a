from dataclasses import replace

import numpy as np
from tests.unit.clicks.logs import page

from quarry.clicks.log import ClickLog


def test_a_log_holds_its_pages_as_arrays() -> None:
    log = ClickLog.of([page("Red Shoe ", "ab", "b"), page("red shoe", "bca", "", refused="c", session="t")])
    assert log.queries == ["red shoe"]
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
    log = ClickLog.of([shown])
    assert [log.documents[number] for number in log.document[0]] == ["c", "a"]
    assert log.rank.tolist() == [[2, 3]]


def test_pages_without_a_session_belong_to_their_user_or_to_their_search() -> None:
    bare = page("q", "a", session="")
    by_user = [replace(bare, user_id="u", search_id=str(number)) for number in range(2)]
    by_search = [replace(bare, search_id=search) for search in ("1", "2", "2")]
    assert ClickLog.of([*by_user, *by_search]).session.tolist() == [0, 0, 1, 2, 2]


def test_a_log_may_have_no_pages_and_pages_no_hits() -> None:
    assert len(ClickLog.of([])) == 0
    assert ClickLog.of([page("q", "")]).rank.shape == (1, 0)


def test_a_log_is_cut_by_rows_and_keeps_its_numbers() -> None:
    log = ClickLog.of([page("p", "a"), page("q", "b", "b")]).rows(np.array([False, True]))
    assert log.query.tolist() == [1]
    assert log.document.tolist() == [[1]]
    assert log.rank_probability is not None and len(log.rank_probability) == 1
