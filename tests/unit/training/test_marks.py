"""Marks know a query again and say nothing else of it."""

import pytest
from hypothesis import given
from hypothesis.strategies import lists, text

from quarry.training.marks import BYTES, document_mark, packed, query_mark, query_marks, unpacked


def test_case_and_spaces_make_no_other_query() -> None:
    assert query_mark(" How  do I\tPAY? ") == query_mark("how do i pay?")
    assert query_mark("how do i pay?") != query_mark("how do we pay?")


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
