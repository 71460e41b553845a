"""The feedback log as arrays."""

from dataclasses import replace

from quarry.feedback.types import ObservedPage
from quarry_trainer.evaluation.displays import Displays

PAGE = ObservedPage(
    search_id="s1",
    time_us=10,
    query=" Red Shoes ",
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


def test_what_was_on_the_screen_is_kept_with_its_search() -> None:
    log = Displays.of(
        [
            PAGE,
            replace(PAGE, search_id="s2", query="red shoes", user_id="", time_us=11, simulated=True),
            replace(PAGE, search_id="s1", time_us=12, ranks=(11, 12, 13), documents=("d", "a", "e")),
            replace(PAGE, search_id="s3", query="  ", time_us=13),
            replace(PAGE, search_id="s4", user_id="", session_id="", time_us=14, query="other"),
        ]
    )
    assert log.queries == ["red shoes", "other"]
    assert log.texts == ["Red Shoes", "other"]
    assert log.documents == ["a", "b", "d"]
    assert log.query.tolist() == [0, 0, 1]
    assert log.time_us.tolist() == [10, 11, 14]
    assert log.owner.tolist() == [0, 1, 2]
    assert log.search.tolist() == [0, 0, 1, 1, 0, 0, 2, 2]
    assert log.document.tolist() == [0, 1, 0, 1, 2, 0, 0, 1]
    assert log.rank.tolist() == [1, 2, 1, 2, 11, 12, 1, 2]
    assert log.rank_before.tolist() == [2, 1, 2, 1, 2, 1, 2, 1]
    assert log.clicked.tolist() == [False, True] * 4
    assert log.probability.tolist() == [0.25] * 8
    assert log.simulated


def test_the_latest_share_is_by_time() -> None:
    pages = [replace(PAGE, search_id=str(n), time_us=n) for n in range(10)]
    assert Displays.of(pages).latest(0.3).tolist() == [False] * 7 + [True] * 3
    assert Displays.of(pages[:1]).latest(0.3).tolist() == [True]
    assert Displays.of([]).latest(0.3).tolist() == []
