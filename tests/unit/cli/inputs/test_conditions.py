"""`--where` and `--filter` mean what the filter messages they become mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarry.schema import FieldType
from quarry.v1 import types_pb2
from quarry_cli.inputs.conditions import parse_filter, require_all
from quarry_cli.inputs.where import MAX_DEPTH, parse_where

TYPES = {
    "lang": FieldType.KEYWORD,
    "year": FieldType.INTEGER,
    "price": FieldType.FLOAT,
    "open": FieldType.BOOLEAN,
    "made": FieldType.TIMESTAMP,
    "text": FieldType.TEXT,
    "not": FieldType.KEYWORD,
    "exists": FieldType.KEYWORD,
    "a.b": FieldType.INTEGER,
}
ALWAYS = parse_filter('{"equal_to": {"field": "year", "value": {"integer_value": 1}}}')


@pytest.mark.parametrize(
    ("text", "json"),
    [
        ("lang=en", '{"equal_to": {"field": "lang", "value": {"string_value": "en"}}}'),
        (
            "lang!=en",
            '{"none_of": {"filters": [{"equal_to": {"field": "lang", "value": {"string_value": "en"}}}]}}',
        ),
        ("lang^=e", '{"prefix": {"field": "lang", "prefix": "e"}}'),
        ("year>=2020", '{"range": {"field": "year", "gte": {"integer_value": 2020}}}'),
        ("year < 7", '{"range": {"field": "year", "lt": {"integer_value": 7}}}'),
        ("price<=1.5", '{"range": {"field": "price", "lte": {"float_value": 1.5}}}'),
        ("open=false", '{"equal_to": {"field": "open", "value": {"boolean_value": false}}}'),
        (
            "made>2020-01-01",
            '{"range": {"field": "made", "gt": {"timestamp_value": "2020-01-01T00:00:00Z"}}}',
        ),
    ],
)
def test_a_condition_is_short_for_a_filter(text, json):
    assert parse_where(text, TYPES) == parse_filter(json)


def quoted(value, quote='"'):
    escaped = value.replace("\\", "\\\\").replace(quote, f"\\{quote}")
    return f"{quote}{escaped}{quote}"


@given(st.text(), st.sampled_from("\"'"))
def test_everything_between_quotes_is_the_keyword(value, quote):
    text = f"lang={quoted(value, quote)} and year=1"
    found = parse_where(text, TYPES)
    assert [one.equal_to.value.string_value for one in found.all_of.filters] == [value, ""]


WORDS = st.text("abcdefgh -#=<>!.,:éß字0123456789", min_size=1).filter(lambda text: text.strip() == text)


@given(WORDS)
def test_all_words_after_the_operator_are_the_keyword(value):
    """As far as no word or sign of the language is among them."""
    assert parse_where(f"lang={value}", TYPES).equal_to.value.string_value == value
    joined = parse_where(f"lang = {value} or year=1", TYPES).any_of.filters
    assert [joined[0].equal_to.value.string_value, joined[1]] == [value, ALWAYS]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("lang=New York", "New York"),
        ("lang=O'Brien", "O'Brien"),
        ("lang=a (b and c) d", "a (b and c) d"),
        ("lang=android or", "android"),
        ("lang=a, b", "a, b"),
        ("lang=", ""),
        ("lang= x ", "x"),
        ('lang=" x "', " x "),
        ("lang='a\\'b'", "a'b"),
        ('lang="and"', "and"),
        ("not=x", "x"),
        ("exists = x", "x"),
    ],
)
def test_a_value_without_quotes_ends_where_it_seems_to(text, value):
    try:
        found = parse_where(text, TYPES)
    except ValueError as error:
        assert text.endswith(" or")
        assert "at character" in str(error)
        return
    assert found.equal_to.value.string_value == value


def one(number):
    return parse_where(f"year={number}", TYPES)


def both(kind, *filters):
    return types_pb2.Filter(**{kind: types_pb2.FilterList(filters=filters)})


@pytest.mark.parametrize(
    ("text", "filter"),
    [
        ("year=1 and year=2", both("all_of", one(1), one(2))),
        ("year=1 or year=2 and year=3", both("any_of", one(1), both("all_of", one(2), one(3)))),
        ("(year=1 or year=2) and year=3", both("all_of", both("any_of", one(1), one(2)), one(3))),
        ("not year=1 and year=2", both("all_of", both("none_of", one(1)), one(2))),
        ("NOT (year=1 OR year=2)", both("none_of", both("any_of", one(1), one(2)))),
        ("not not year=1", both("none_of", both("none_of", one(1)))),
        ("((year=1))", one(1)),
        ("exists(year)", types_pb2.Filter(exists=types_pb2.ExistsFilter(field="year"))),
        ("not exists ( a.b )", both("none_of", types_pb2.Filter(exists=types_pb2.ExistsFilter(field="a.b")))),
        (
            "year in (1, 2 ,3)",
            types_pb2.Filter(
                one_of=types_pb2.OneOfFilter(
                    field="year", values=[types_pb2.FieldValue(integer_value=n) for n in (1, 2, 3)]
                )
            ),
        ),
        (
            "lang in (New York, 'a, b', c (d))",
            types_pb2.Filter(
                one_of=types_pb2.OneOfFilter(
                    field="lang",
                    values=[types_pb2.FieldValue(string_value=v) for v in ("New York", "a, b", "c (d)")],
                )
            ),
        ),
    ],
)
def test_conditions_are_joined(text, filter):
    assert parse_where(text, TYPES) == filter


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("", 1, "expected FIELD=VALUE"),
        ("year=1 and", 11, "expected FIELD=VALUE"),
        ("year=1) or year=2", 7, "expected and, or, or the end"),
        ("(year=1", 8, "expected ')'"),
        ("lang=Marks and Spencer", 16, "no field Spencer"),
        ("lang=Marks and Spencer", 16, "needs quotes around it"),
        ('lang="x', 6, "this quote has no end"),
        ('lang="x" y', 10, "expected and, or, or the end"),
        ("lang in x", 9, "expected '('"),
        ("lang in ()", 10, "expected a value"),
        ("lang in (a,,b)", 12, "expected a value"),
        ("lang in (a", 11, "expected ')'"),
        ("year in (1, soon)", 13, "year: the value is 'soon', not a whole number"),
        ("lang=x and year=soon", 17, "year: the value is 'soon', not a whole number"),
        ("exists(text)", 8, "text is text, which cannot be filtered on"),
        ("year ! 1", 6, "expected =, !=, <, <=, >, >=, ^= or in after year"),
        ("(" * 99, MAX_DEPTH + 1, "nested deeper than 16 levels"),
        ("not " * 99 + "year=1", 4 * MAX_DEPTH + 1, "nested deeper than 16 levels"),
    ],
)
def test_an_error_says_where_it_is(text, place, said):
    with pytest.raises(ValueError, match=rf"^at character {place}: ") as raised:
        parse_where(text, TYPES)
    assert said in str(raised.value)


@given(st.text())
def test_any_text_is_a_condition_or_refused_with_a_reason(text):
    try:
        parse_where(text, TYPES)
    except ValueError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lnag=en", "did you mean lang?"),
        ("text=en", "text is text, which cannot be filtered on"),
        ("year=soon", "year: the value is 'soon', not a whole number"),
        ("lang", "expected =, !="),
    ],
)
def test_a_wrong_condition_says_what_is_wrong(text, said):
    with pytest.raises(ValueError) as raised:
        parse_where(text, TYPES)
    assert said in str(raised.value)


@given(st.text())
def test_any_text_is_a_filter_or_refused(text):
    try:
        assert isinstance(parse_filter(text), types_pb2.Filter)
    except ValueError as error:
        assert str(error)


def test_several_conditions_must_all_hold():
    one, two = parse_where("lang=en", TYPES), parse_where("year>1", TYPES)
    assert require_all([]) is None
    assert require_all([one]) == one
    both = require_all([one, two])
    assert both is not None
    assert list(both.all_of.filters) == [one, two]
