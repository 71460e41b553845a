"""The words of a text that a query finds."""

import pytest

from quarry.retrieval.lexical.marking.matched_words import list_matched_words
from quarry.retrieval.lexical.near_words import choose_distance, compute_distance
from quarry.retrieval.query_syntax import parse_text_query
from quarry.retrieval.text_query import Term, TermKind, TextQuery
from quarry.schema import Field, FieldType, Schema

TITLE = Field("title", FieldType.TEXT, language="es")
SCHEMA = Schema((TITLE, Field("text", FieldType.TEXT)))


@pytest.mark.parametrize(
    ("query", "text", "words"),
    [
        ("red shoe", "anything", ["red shoe"]),
        ('+red -shoe "a hat"', "", ["red", "a hat"]),
        ("man*", "Mañana manual, umano", ["Mañana", "manual"]),
        ("espresso~1", "Un expreso, ESPRESO y expresso", ["ESPRESO", "expresso"]),
        ("text:red title:blue", "", ["blue"]),
        ("-man* a", "manual", ["a"]),
        ("備份*", "備份", ["備份"]),
    ],
)
def test_words_that_are_typed_come_with_those_of_the_text_that_are_like_them(
    query: str, text: str, words: list[str]
) -> None:
    assert list_matched_words(parse_text_query(query, SCHEMA), TITLE, text) == words


def test_a_term_for_other_languages_has_no_words_in_a_field() -> None:
    query = TextQuery((Term("the", languages=("en",)), Term("red", languages=("es", "en"))))
    assert list_matched_words(query, TITLE, "") == ["red"]


def test_synonyms_are_among_them() -> None:
    query = TextQuery((Term("boot", others=("shoe", "rubber boot")), Term("hat", TermKind.FUZZY, distance=1)))
    assert list_matched_words(query, TITLE, "a cat") == ["boot", "shoe", "rubber boot", "cat"]


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
