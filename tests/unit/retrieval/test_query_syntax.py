"""The query language: what its marks mean, and where a query goes wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarry.errors import QuerySyntaxError
from quarry.retrieval.query_syntax import MAX_TERMS, parse_text_query
from quarry.retrieval.text_query import Occurrence, Term, TermKind
from quarry.schema import Field, FieldType, Schema

SCHEMA = Schema(
    (
        Field("title", FieldType.TEXT),
        Field("maker.note", FieldType.TEXT),
        Field("hidden", FieldType.TEXT, searchable=False),
        Field("tag", FieldType.KEYWORD),
    )
)
REQUIRED, EXCLUDED = Occurrence.REQUIRED, Occurrence.EXCLUDED


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("red  shoe\n", [Term("red shoe")]),
        ("red +shoe hat", [Term("red"), Term("shoe", occurs=REQUIRED), Term("hat")]),
        ('"red \\"shoe\\" \\\\"', [Term('red "shoe" \\', TermKind.PHRASE)]),
        ('-"red shoe" a', [Term("red shoe", TermKind.PHRASE, EXCLUDED), Term("a")]),
        ("sho*", [Term("sho", TermKind.PREFIX)]),
        ("c++11* 備份*", [Term(t, TermKind.PREFIX) for t in ("c++11", "備份")]),
        ("कि* a\u00adc*", [Term(t, TermKind.PREFIX) for t in ("कि", "a\u00adc")]),
        ("+title:sho*", [Term("sho", TermKind.PREFIX, REQUIRED, "title")]),
        ("maker.note:red", [Term("red", field="maker.note")]),
        (
            "sho~ shoe~1 shoes~2",
            [Term(t, TermKind.FUZZY, distance=n) for n, t in enumerate(["sho", "shoe", "shoes"])],
        ),
        ("wi-fi c++ 1+1 a-", [Term("wi-fi c++ 1+1 a-")]),
        ('\\+red \\-a b\\:c \\(d\\) e\\* f\\~ \\"', [Term('+red -a b:c (d) e* f~ "')]),
        ("12:30 http\\://x", [Term("12:30 http://x")]),
        ("+and and \\AND", [Term("and", occurs=REQUIRED), Term("and AND")]),
        ("+🍕 !!!", [Term("🍕", occurs=REQUIRED), Term("!!!")]),
    ],
)
def test_marks_say_how_a_term_is_looked_for(text: str, terms: list[Term]) -> None:
    assert list(parse_text_query(text, SCHEMA).terms) == terms


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("red +", 6),
        ("+ red", 2),
        ("red --shoe", 6),
        ('red "shoe', 5),
        ('""', 1),
        ('a "!!"', 3),
        ("a(b)", 2),
        ("(a b)", 1),
        ("ab *", 4),
        ("*ab", 1),
        ("a*", 1),
        ("ab*c", 4),
        ("red c++*", 5),
        ("'c*", 1),
        ("a.c*", 1),
        ("title:a_c*", 7),
        ("e\u0301*", 1),
        ("x\u0302*", 1),
        ("a\u200dc*", 1),
        ("c\ufe0f*", 1),
        ("!!*", 1),
        ("ab~3", 3),
        ("ab~12", 3),
        ("c -ab~", 6),
        ('ab"c"', 3),
        ('"ab"c', 5),
        ('"ab"~2', 5),
        ("ab\\", 3),
        ("\\", 1),
        ("a b OR c", 5),
        ("NOT c", 1),
        ("-red", 1),
        ("-red -title:shoe", 1),
        ("a titel:red", 3),
        ("a tag:red", 3),
        ("hidden:red", 1),
        ("title:", 7),
        ("title: red", 7),
        (" ".join(f"+w{n}" for n in range(MAX_TERMS + 1)), 1),
    ],
)
def test_an_error_says_where_it_is(text: str, position: int) -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        parse_text_query(text, SCHEMA)
    assert caught.value.metadata == {"field": "query", "position": str(position)}
    assert f"at character {position}: " in str(caught.value)


def test_models_read_the_words_that_are_not_excluded() -> None:
    assert str(parse_text_query('+red -blue title:"two shoes" ha* wol~2', SCHEMA)) == "red two shoes ha wol"


def test_only_required_and_excluded_terms_restrict() -> None:
    restricts = {
        text: parse_text_query(text, SCHEMA).restricts for text in ("a bc*", "a +b", "a -b", '"a b"')
    }
    assert restricts == {"a bc*": False, "a +b": True, "a -b": True, '"a b"': False}


@given(st.text(alphabet='ab +-"*~:\\()1\n', min_size=1))
def test_any_text_is_a_query_or_has_an_error_in_it(text: str) -> None:
    if not text.strip():
        return
    try:
        query = parse_text_query(text, SCHEMA)
    except QuerySyntaxError as error:
        assert 1 <= int(error.metadata["position"]) <= len(text) + 1
    else:
        assert str(query)
