"""`--where` and `--filter` mean what the filter messages they become mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarry.schema import FieldType
from quarry.v1 import types_pb2
from quarry_cli.inputs.conditions import parse_condition, parse_filter, require_all

TYPES = {
    "lang": FieldType.KEYWORD,
    "year": FieldType.INTEGER,
    "price": FieldType.FLOAT,
    "open": FieldType.BOOLEAN,
    "made": FieldType.TIMESTAMP,
    "text": FieldType.TEXT,
}


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
    assert parse_condition(text, TYPES) == parse_filter(json)


@given(st.text())
def test_everything_after_the_operator_is_the_keyword(value):
    assert parse_condition(f"lang={value}", TYPES).equal_to.value.string_value == value


@given(st.text())
def test_any_text_is_a_condition_or_refused_with_a_reason(text):
    try:
        parse_condition(text, TYPES)
    except ValueError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lnag=en", "did you mean lang?"),
        ("text=en", "text is text, which cannot be filtered on"),
        ("year=soon", "year: the value is 'soon', not a whole number"),
        ("lang", "is not FIELD=VALUE"),
    ],
)
def test_a_wrong_condition_says_what_is_wrong(text, said):
    with pytest.raises(ValueError) as raised:
        parse_condition(text, TYPES)
    assert said in str(raised.value)


@given(st.text())
def test_any_text_is_a_filter_or_refused(text):
    try:
        assert isinstance(parse_filter(text), types_pb2.Filter)
    except ValueError as error:
        assert str(error)


def test_several_conditions_must_all_hold():
    one, two = parse_condition("lang=en", TYPES), parse_condition("year>1", TYPES)
    assert require_all([]) is None
    assert require_all([one]) == one
    both = require_all([one, two])
    assert both is not None
    assert list(both.all_of.filters) == [one, two]
