"""Marks know a query again and say nothing else of it."""

import pytest
from hypothesis import given
from hypothesis.strategies import lists, text

from quarry.training.hashes import (
    BYTES,
    mark_document,
    mark_former_query,
    mark_queries,
    mark_query,
    pack_marks,
    renew_marks,
    unpack_marks,
)


def test_another_way_to_write_a_question_makes_no_other_query() -> None:
    assert mark_query(" How  do I\tPAY? ") == mark_query("how do i pay?")
    assert mark_query("how do I pay") == mark_query("how do i pay?")
    assert mark_query("how do i pay?") != mark_query("how do we pay?")


def test_a_mark_that_is_on_disk_is_renewed_by_whoever_knows_its_text() -> None:
    former = bytes.fromhex("c4460c9b277712c0"), mark_query("rates"), mark_query("of another")
    assert mark_former_query(" How do  I pay?") == former[0] != mark_query("how do i pay?")
    assert renew_marks(frozenset(former), ["How do I pay?", "Rates"]) == mark_queries(
        ["how do i pay", "rates", "of another"]
    )


def test_a_document_is_known_by_its_collection_and_its_id() -> None:
    assert mark_document("faq", "1") == mark_document("faq", "1")
    assert len({mark_document("faq", "1"), mark_document("help", "1"), mark_document("faq", "2")}) == 3


@given(texts=lists(text(), max_size=20))
def test_marks_are_packed_and_unpacked_whole_in_any_order(texts: list[str]) -> None:
    marks = mark_queries(texts)
    assert unpack_marks(pack_marks(marks)) == marks
    assert pack_marks(mark_queries(reversed(texts))) == pack_marks(marks)
    assert all(len(mark) == BYTES for mark in marks)


@pytest.mark.parametrize("torn", ["AAAA", "no base64!"])
def test_what_is_torn_is_refused(torn: str) -> None:
    with pytest.raises(ValueError):
        unpack_marks(torn)
