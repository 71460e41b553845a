from typing import Any

import pytest
from hypothesis import given

from quarry.errors import InvalidArgumentError
from quarry.filters import (
    MAX_CONDITIONS,
    MAX_LEVELS,
    AllOf,
    AnyOf,
    EqualTo,
    Exists,
    Filter,
    NoneOf,
    OneOf,
    Prefix,
    Range,
)
from quarry.schema import FieldType
from quarry.testing.strategies import FILTER_SCHEMA, draw_filters
from quarry.types import FieldScalar
from quarry.v1 import types_pb2
from quarry_server.common.values import to_timestamp
from quarry_server.search.filters import parse_filter


def value_message(field: str, value: FieldScalar) -> types_pb2.FieldValue:
    kind = FILTER_SCHEMA.get(field)
    assert kind is not None
    match kind.type, value:
        case FieldType.TIMESTAMP, int():
            return types_pb2.FieldValue(timestamp_value=to_timestamp(value))
        case _, bool():
            return types_pb2.FieldValue(boolean_value=value)
        case _, int():
            return types_pb2.FieldValue(integer_value=value)
        case _, float():
            return types_pb2.FieldValue(float_value=value)
    return types_pb2.FieldValue(string_value=str(value))


def message_of(filter: Filter) -> types_pb2.Filter:
    def made(**condition: Any) -> types_pb2.Filter:
        return types_pb2.Filter(**condition)

    match filter:
        case AllOf(inner) | AnyOf(inner) | NoneOf(inner):
            name = {AllOf: "all_of", AnyOf: "any_of", NoneOf: "none_of"}[type(filter)]
            return made(**{name: types_pb2.FilterList(filters=[message_of(f) for f in inner])})
        case EqualTo(field, value):
            return made(equal_to=types_pb2.EqualToFilter(field=field, value=value_message(field, value)))
        case OneOf(field, values):
            messages = [value_message(field, value) for value in values]
            return made(one_of=types_pb2.OneOfFilter(field=field, values=messages))
        case Exists(field):
            return made(exists=types_pb2.ExistsFilter(field=field))
        case Prefix(field, prefix):
            return made(prefix=types_pb2.PrefixFilter(field=field, prefix=prefix))
        case Range():
            sides = {side: getattr(filter, side) for side in ("gt", "gte", "lt", "lte")}
            bounds: dict[str, Any] = {
                side: value_message(filter.field, bound) for side, bound in sides.items() if bound is not None
            }
            return made(range=types_pb2.RangeFilter(field=filter.field, **bounds))


@given(filter=draw_filters(FILTER_SCHEMA))
def test_filters_come_back_as_they_were(filter: Filter) -> None:
    wire = types_pb2.Filter.FromString(message_of(filter).SerializeToString())
    assert parse_filter(wire, FILTER_SCHEMA) == filter


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({}, "filter"),
        ({"all_of": {"filters": [{}, {}]}}, "filter.all_of.filters[0]"),
        (
            {"none_of": {"filters": [{"any_of": {"filters": [{}]}}]}},
            "filter.none_of.filters[0].any_of.filters[0]",
        ),
        ({"equal_to": {"field": "tag"}}, "filter.equal_to.value"),
        ({"equal_to": {"field": "tag", "value": {"integer_value": 1}}}, "filter.equal_to.value"),
        ({"equal_to": {"field": "tag", "value": {"list_value": {}}}}, "filter.equal_to.value"),
        ({"equal_to": {"field": "text", "value": {"string_value": "a"}}}, "filter.equal_to.field"),
        ({"equal_to": {"value": {"string_value": "a"}}}, "filter.equal_to.field"),
        (
            {"one_of": {"field": "count", "values": [{"integer_value": 1}, {"float_value": 1}]}},
            "filter.one_of.values[1]",
        ),
        ({"range": {"field": "count"}}, "filter.range"),
        ({"range": {"field": "sale", "gt": {"boolean_value": False}}}, "filter.range.field"),
        (
            {"range": {"field": "count", "gt": {"integer_value": 1}, "gte": {"integer_value": 1}}},
            "filter.range",
        ),
        ({"range": {"field": "price", "lt": {"float_value": float("nan")}}}, "filter.range.lt"),
        ({"range": {"field": "count", "lt": {"integer_value": 2**53}}}, "filter.range.lt"),
        ({"prefix": {"field": "count"}}, "filter.prefix.field"),
        ({"prefix": {"field": "tag", "prefix": "k" * 1_025}}, "filter.prefix.prefix"),
        ({"exists": {"field": "no such field"}}, "filter.exists.field"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(message: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        parse_filter(types_pb2.Filter(**message), FILTER_SCHEMA)
    assert caught.value.field == field


def nested(levels: int) -> types_pb2.Filter:
    filter: Filter = Exists("tag")
    for _ in range(levels - 1):
        filter = NoneOf((filter,))
    return message_of(filter)


def test_levels_and_conditions_have_limits() -> None:
    parse_filter(nested(MAX_LEVELS), FILTER_SCHEMA)
    parse_filter(message_of(OneOf("count", tuple(range(MAX_CONDITIONS)))), FILTER_SCHEMA)
    wide = message_of(AnyOf(tuple(Exists("tag") for _ in range(MAX_CONDITIONS - 1))))
    parse_filter(wide, FILTER_SCHEMA)
    wide.any_of.filters.add().exists.field = "tag"
    for message in (
        nested(MAX_LEVELS + 1),
        wide,
        message_of(OneOf("count", tuple(range(MAX_CONDITIONS + 1)))),
    ):
        with pytest.raises(InvalidArgumentError) as caught:
            parse_filter(message, FILTER_SCHEMA)
        assert caught.value.field.startswith("filter")


def test_a_negation_as_it_once_was_sent_is_refused_and_not_taken_for_everything() -> None:
    """Number 3 was one filter. Read as a list of none, it would hold for every document, and delete them."""
    negated = types_pb2.Filter(
        equal_to=types_pb2.EqualToFilter(field="keyword", value=types_pb2.FieldValue(string_value="x"))
    ).SerializeToString()
    message = types_pb2.Filter.FromString(b"\x1a" + bytes([len(negated)]) + negated)
    with pytest.raises(InvalidArgumentError):
        parse_filter(message, FILTER_SCHEMA)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"exists": {"field": "nowhere"}}, "UNKNOWN_FIELD"),
        ({"none_of": {"filters": [{"exists": {"field": "nowhere"}}]}}, "UNKNOWN_FIELD"),
        ({"equal_to": {"field": "count", "value": {"integer_value": 2**53}}}, "VALUE_OUT_OF_RANGE"),
        ({"range": {"field": "count"}}, "REQUIRED"),
        ({}, "REQUIRED"),
        ({"exists": {"field": "text"}}, "WRONG_TYPE"),
    ],
)
def test_the_kind_of_error_comes_through_all_levels(message: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        parse_filter(types_pb2.Filter(**message), FILTER_SCHEMA)
    assert caught.value.reason == reason
