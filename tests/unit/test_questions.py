"""When two query texts are one question, and when they are not."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarry.questions import has_words, make_question_key

ANY = st.text(max_size=12) | st.text(alphabet='a5?!.:¿ $"ßİﬁ¼\u0345', max_size=8)


@pytest.mark.parametrize(
    "text",
    [
        "Red fruit",
        "red fruit?",
        "  red\t fruit?!",
        "red fruit ?",
        "¿red fruit?",
        "? red fruit",
        "ｒｅｄ　ｆｒｕｉｔ？",
        "red fruit。",
        "red fruit...",
        "red fruit…",
    ],
)
def test_case_spaces_unicode_forms_and_the_marks_of_a_sentence_do_not_matter(text: str) -> None:
    assert make_question_key(text) == "red fruit"


def test_what_a_word_ends_or_begins_with_of_its_own_matters() -> None:
    different = [
        "c",
        "c++",
        "c#",
        "c:",
        "c*",
        "-c",
        ".c",
        "!c",
        '"c"',
        "$c",
        "5",
        "-5",
        "5!",
        "5%",
        "cd",
        "cd .",
    ]
    different += [
        "cd ..",
        "bash $?",
        "bash $",
        "a.*?",
        "a.*",
        "red fruit",
        '"red fruit"',
        "?",
        "!",
        "fruit red",
    ]
    for one, other in combinations(different, 2):
        assert make_question_key(one) != make_question_key(other), (one, other)


def test_a_question_mark_behind_a_symbol_of_the_word_is_the_sentences() -> None:
    assert make_question_key("what is C++?") == "what is c++"
    assert make_question_key('who said "exact phrase"?') == 'who said "exact phrase"'


def test_composed_and_decomposed_letters_are_one() -> None:
    assert make_question_key("caf\u00e9") == make_question_key("CAFE\u0301")
    assert make_question_key("straße") == make_question_key("STRASSE")
    assert make_question_key("cafe") != make_question_key("café")


@given(ANY)
def test_the_key_of_a_key_is_the_key(text: str) -> None:
    assert make_question_key(make_question_key(text)) == make_question_key(text)


@given(ANY)
def test_a_text_with_a_word_has_a_key_with_one(text: str) -> None:
    assert has_words(make_question_key(text)) >= has_words(text)
    assert bool(make_question_key(text)) == bool(text.strip())


@pytest.mark.parametrize(
    ("text", "expected"), [("", False), (" \n", False), ("?! --", False), ("+5", True), ("水", True)]
)
def test_a_word_is_a_letter_or_a_digit(text: str, expected: bool) -> None:
    assert has_words(text) is expected
