"""Values of files take the schema's types, exactly or not at all."""

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarry.schema import MAX_INTEGER, FieldType
from quarry_cli.inputs.values import to_field_value, to_microseconds, to_scalar

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=5,
)


@given(st.integers(-MAX_INTEGER, MAX_INTEGER))
def test_whole_numbers_survive_as_numbers_strings_and_floats_that_hold_them(number):
    assert to_scalar(number, FieldType.INTEGER).integer_value == number
    assert to_scalar(str(number), FieldType.INTEGER).integer_value == number
    assert to_scalar(float(number), FieldType.INTEGER).integer_value == int(float(number))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_survive_the_way_through_text(number):
    assert to_scalar(repr(number), FieldType.FLOAT).float_value == number


@given(
    st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)),
    st.integers(-23, 23),
)
def test_a_moment_is_the_same_from_text_in_any_zone_and_from_a_datetime(naive, hours):
    moment = naive.replace(tzinfo=timezone(timedelta(hours=hours)))
    expected = (moment - EPOCH) // timedelta(microseconds=1)
    assert to_microseconds(moment) == expected
    assert to_microseconds(moment.isoformat()) == expected
    assert to_microseconds(naive.isoformat()) == to_microseconds(naive.replace(tzinfo=UTC))


@given(st.integers(100_000_000, 9_999_999_999))
def test_seconds_are_the_same_as_number_and_as_text(seconds):
    assert to_microseconds(seconds) == to_microseconds(str(seconds)) == seconds * 1_000_000


@pytest.mark.parametrize(
    "text", ["20240131", "202401311200", "20240131120000", "1700000000000", "", "soon", "2024-13-01", "1e9"]
)
def test_digits_that_may_be_a_date_or_a_number_are_refused(text):
    with pytest.raises(ValueError, match="is "):
        to_microseconds(text)


@pytest.mark.parametrize("value", [1_700_000_000_000, -1e18, math.nan, math.inf, True, None, [1], {}])
def test_what_is_no_time_in_seconds_is_refused(value):
    with pytest.raises(ValueError, match="is "):
        to_microseconds(value)


@given(ANYTHING, st.sampled_from([None, *FieldType]))
def test_any_value_is_converted_or_refused_with_a_reason(value, kind):
    try:
        converted = to_field_value(value, kind)
    except ValueError as error:
        assert str(error)
    else:
        assert converted.WhichOneof("kind")


@given(ANYTHING)
def test_no_value_becomes_a_boolean_by_being_true_in_python(value):
    if str(value).strip().lower() not in {"true", "false", "1", "0"}:
        with pytest.raises(ValueError, match="not true or false"):
            to_scalar(value, FieldType.BOOLEAN)


def test_lists_keep_their_order_and_do_not_nest():
    values = to_field_value(["b", "a"], FieldType.KEYWORD).list_value.values
    assert [value.string_value for value in values] == ["b", "a"]
    with pytest.raises(ValueError, match="a list in a list"):
        to_field_value([["a"]], None)
