"""Words that are spelled nearly as others."""

import pytest

from quarry.retrieval.lexical.near_words import choose_distance, find_near_words


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [
        ("", "", 0),
        ("espresso", "expresso", 1),
        ("espresso", "espreso", 1),
        ("espresso", "esprseso", 1),
        ("kitten", "sitting", 3),
        ("abcd", "badc", 2),
        ("ca", "abc", 3),  # a swapped pair is not edited again
        ("aé𝄞", "a𝄞é", 1),
        ("", "abc", 3),
    ],
)
def test_letters_that_differ_are_counted(a: str, b: str, distance: int) -> None:
    for word, other in ((a, b), (b, a)):
        assert find_near_words([other], word, distance) == [other]
        assert not distance or find_near_words([other], word, distance - 1) == []


def test_near_words_keep_their_order_and_may_be_there_twice() -> None:
    words = ["xenon", "expreso", "espresso", "", "expresso", "expreso"]
    assert find_near_words(words, "espresso", 1) == ["espresso", "expresso"]
    assert find_near_words(words, "espresso", 2) == ["expreso", "espresso", "expresso", "expreso"]


def test_how_many_letters_may_differ_depends_on_the_word() -> None:
    assert [choose_distance("x" * length) for length in (1, 3, 4, 7, 8, 20)] == [0, 0, 1, 1, 2, 2]
