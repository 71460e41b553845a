"""Where judgments of one question contradict each other, the document counts as relevant."""

import pytest

from quarry.judgments import describe_disputed, settle_judgments

TEXTS = {"1": "red fruit", "2": "Red fruit?", "3": "blue fruit"}


def test_one_judgment_of_two_that_contradict_holds_for_both_and_is_named() -> None:
    found = settle_judgments(TEXTS, {"1": {"a": 2, "b": 0}, "2": {"a": 0, "b": 0, "c": 1}, "3": {"a": 0}})
    assert found.qrels == {"1": {"a": 2, "b": 0}, "2": {"a": 2, "b": 0, "c": 1}, "3": {"a": 0}}
    assert found.disputed == (("red fruit", "a"),)
    (said,) = describe_disputed(found.disputed)
    assert said == (
        "1 document is judged relevant under one id of a question and not relevant under another, and "
        "counts as relevant: 'red fruit' and a"
    )


@pytest.mark.parametrize("grade", [1, 2])
def test_grades_that_only_differ_in_degree_stay(grade: int) -> None:
    found = settle_judgments(TEXTS, {"1": {"a": grade}, "2": {"a": 1}, "3": {}})
    assert (found.qrels["1"], found.qrels["2"], found.disputed) == ({"a": grade}, {"a": 1}, ())
    assert describe_disputed(found.disputed) == ()


def test_a_negative_grade_contradicts_too() -> None:
    assert settle_judgments(TEXTS, {"1": {"a": 1}, "2": {"a": -1}, "3": {}}).qrels["2"] == {"a": 1}
