"""Marks know a query again and say nothing else of it."""

import pytest
from hypothesis import given
from hypothesis.strategies import lists, text

from quarry.training.marks import (
    BYTES,
    document_mark,
    former_query_mark,
    packed,
    query_mark,
    query_marks,
    renewed,
    unpacked,
)


def test_another_way_to_write_a_question_makes_no_other_query() -> None:
    assert query_mark(" How  do I\tPAY? ") == query_mark("how do i pay?")
    assert query_mark("how do I pay") == query_mark("how do i pay?")
    assert query_mark("how do i pay?") != query_mark("how do we pay?")


def test_a_mark_that_is_on_disk_is_renewed_by_whoever_knows_its_text() -> None:
    former = bytes.fromhex("c4460c9b277712c0"), query_mark("rates"), query_mark("of another")
    assert former_query_mark(" How do  I pay?") == former[0] != query_mark("how do i pay?")
    assert renewed(frozenset(former), ["How do I pay?", "Rates"]) == query_marks(
        ["how do i pay", "rates", "of another"]
    )


def test_a_document_is_known_by_its_collection_and_its_id() -> None:
    assert document_mark("faq", "1") == document_mark("faq", "1")
    assert len({document_mark("faq", "1"), document_mark("help", "1"), document_mark("faq", "2")}) == 3


@given(texts=lists(text(), max_size=20))
def test_marks_are_packed_and_unpacked_whole_in_any_order(texts: list[str]) -> None:
    marks = query_marks(texts)
    assert unpacked(packed(marks)) == marks
    assert packed(query_marks(reversed(texts))) == packed(marks)
    assert all(len(mark) == BYTES for mark in marks)


@pytest.mark.parametrize("torn", ["AAAA", "no base64!"])
def test_what_is_torn_is_refused(torn: str) -> None:
    with pytest.raises(ValueError):
        unpacked(torn)
