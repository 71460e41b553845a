"""What a click log says of its searches."""

from dataclasses import replace

import pytest

from quarry.clicks.log import ClickLog
from quarry.feedback.types import ObservedPage
from quarry_trainer.evaluation.searches import (
    collect_clicked_documents,
    count_searches,
    find_latest_pages,
    find_pages_for,
)

PAGE = ObservedPage(
    search_id="s1",
    time_us=10,
    query=" Red  Shoes ",
    user_id="u",
    session_id="v",
    ranker="r",
    simulated=False,
    documents=("a", "b", "c"),
    contents=("", "", ""),
    ranks=(1, 2, 3),
    displayed=(True, True, False),
    rendered=True,
    clicked=(False, True, False),
    refused=(False, False, False),
    ranks_before=(2, 1, 3),
    rank_probabilities=(0.25, 0.25, 0.5),
)
LOG = ClickLog.from_pages(
    [
        PAGE,
        replace(PAGE, search_id="s2", query="red shoes", time_us=11),
        replace(PAGE, ranks=(11, 12, 13), documents=("d", "e", "f"), time_us=12),
        replace(PAGE, search_id="s3", query="other", clicked=(True, False, False), time_us=14),
    ]
)


def test_searches_are_counted_once_however_many_pages_they_have() -> None:
    assert count_searches(LOG) == {"red shoes": 2, "other": 1}


def test_documents_that_were_clicked_are_known_by_query() -> None:
    assert collect_clicked_documents(LOG) == {"red shoes": {"b", "e"}, "other": {"a"}}


@pytest.mark.parametrize("typed", ["RED shoes", " red   shoes?", "red shoes"])
def test_a_query_is_found_however_it_is_typed(typed: str) -> None:
    assert find_pages_for(LOG, [typed]).tolist() == [True, True, True, False]


def test_the_latest_share_is_by_the_time_of_a_searches_first_page() -> None:
    """The second page of s1 came after s2, and is as early as its search."""
    assert find_latest_pages(LOG, 0.67).tolist() == [False, True, False, True]
    pages = [replace(PAGE, search_id=str(n), time_us=n) for n in range(10)]
    assert find_latest_pages(ClickLog.from_pages(pages), 0.3).tolist() == [False] * 7 + [True] * 3
    assert find_latest_pages(ClickLog.from_pages(pages[:1]), 0.3).tolist() == [True]
    assert find_latest_pages(ClickLog.from_pages([]), 0.3).tolist() == []
