"""Words that are spelled nearly as others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarry.retrieval.lexical.near_words import choose_distance, compute_distance, find_near_words


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [
        ("", "", 0),
        ("espresso", "expresso", 1),
        ("espresso", "espreso", 1),
        ("espresso", "esprseso", 1),
        ("kitten", "sitting", 3),
        ("abcd", "badc", 2),
        ("", "abc", 3),
    ],
)
def test_letters_that_differ_are_counted(a: str, b: str, distance: int) -> None:
    assert compute_distance(a, b) == compute_distance(b, a) == distance


def test_how_many_letters_may_differ_depends_on_the_word() -> None:
    assert [choose_distance("x" * length) for length in (1, 3, 4, 7, 8, 20)] == [0, 0, 1, 1, 2, 2]


SPELLINGS = st.text("abé𝄞", min_size=1, max_size=10)


@given(st.lists(SPELLINGS, max_size=20), SPELLINGS, st.integers(1, 2))
def test_near_words_are_those_in_which_so_many_letters_differ(
    words: list[str], word: str, distance: int
) -> None:
    near = [other for other in words if compute_distance(other, word) <= distance]
    assert find_near_words(words, word, distance) == near
