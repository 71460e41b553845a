"""Excerpts show the part of a text where the query's words are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarry_cli.views.excerpts import cut_excerpt, make_query_pattern


@given(st.text(), st.text(), st.integers(20, 400))
def test_an_excerpt_is_a_piece_of_its_text_of_about_the_size_asked_for(text, query, size):
    shown = cut_excerpt(text, make_query_pattern(query), size)
    assert len(shown) <= size + 4
    assert shown.strip("… ") in " ".join(text.split())


def test_the_part_with_most_query_words_is_shown():
    text = "One card. " + "Nothing here. " * 100 + "Delete the card from the list. " + "Or not. " * 100
    shown = cut_excerpt(text, make_query_pattern("delete card list"), 120)
    assert "Delete the card from the list." in shown
    assert shown.startswith("… ")
    assert shown.endswith(" …")


@pytest.mark.parametrize("word", ["delete", "deleted", "deletes", "deleting", "DELETE"])
def test_close_forms_of_a_query_word_are_marked(word):
    pattern = make_query_pattern("how to delete")
    assert pattern is not None
    assert pattern.fullmatch(word)
    assert not pattern.search("how to undelete")


def test_a_query_of_common_words_only_still_marks_them():
    pattern = make_query_pattern("to be or to do")
    assert pattern is not None
    assert pattern.search("so be it")


def test_a_short_query_word_does_not_mark_longer_ones():
    pattern = make_query_pattern("c fb")
    assert pattern is not None
    assert pattern.findall("C and card, fb and fbi") == ["C", "fb"]


def test_a_query_without_words_marks_nothing():
    assert make_query_pattern("?! *") is None
    assert cut_excerpt("a b c", None, 20) == "a b c"
