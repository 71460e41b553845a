import math

import pytest
from google.protobuf import timestamp_pb2
from hypothesis import given
from hypothesis import strategies as st

from quarry.errors import InvalidArgumentError
from quarry.schema import MAX_TIMESTAMP_US, MIN_TIMESTAMP_US, check_fields
from quarry.testing.strategies import FILTER_SCHEMA, draw_documents
from quarry.types import Docno, Document, Fields
from quarry.v1 import types_pb2
from quarry_server.common.values import (
    make_etag,
    parse_etag,
    parse_fields,
    parse_timestamp,
    parse_value,
    to_document_message,
    to_timestamp,
)


@given(fields=draw_documents(FILTER_SCHEMA))
def test_documents_come_back_as_they_were(fields: Fields) -> None:
    message = to_document_message(Document(Docno(1), "a", fields, 7, 0), FILTER_SCHEMA)
    assert check_fields(parse_fields(message), FILTER_SCHEMA) == fields
    wire = types_pb2.Document.FromString(message.SerializeToString())
    assert check_fields(parse_fields(wire), FILTER_SCHEMA) == fields


@given(fields=draw_documents(FILTER_SCHEMA), names=st.frozensets(st.sampled_from(["tag", "count", "none"])))
def test_only_the_wanted_fields_are_sent(fields: Fields, names: frozenset[str]) -> None:
    message = to_document_message(Document(Docno(1), "a", fields, 7, 0), FILTER_SCHEMA, names)
    assert set(message.fields) == fields.keys() & names


@given(value_us=st.integers(MIN_TIMESTAMP_US, MAX_TIMESTAMP_US))
def test_moments_are_kept_to_the_microsecond(value_us: int) -> None:
    message = to_timestamp(value_us)
    assert parse_timestamp(message) == value_us
    message.nanos += 999
    assert parse_timestamp(message) == value_us


@pytest.mark.parametrize(
    ("seconds", "nanos"),
    [(0, -1), (0, 10**9), (253_402_300_800, 0), (-62_135_596_801, 0), (2**63 - 1, 0), (-(2**63), 0)],
)
def test_moments_outside_the_calendar_are_refused(seconds: int, nanos: int) -> None:
    with pytest.raises(InvalidArgumentError):
        parse_timestamp(timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos))


def test_a_value_has_a_kind_and_lists_do_not_nest() -> None:
    nothing = types_pb2.FieldValue()
    inner = types_pb2.FieldValue(list_value=types_pb2.FieldValueList())
    nested = types_pb2.FieldValue(list_value=types_pb2.FieldValueList(values=[inner]))
    gap = types_pb2.FieldValue(list_value=types_pb2.FieldValueList(values=[nothing]))
    for message in (nothing, nested, gap):
        with pytest.raises(InvalidArgumentError):
            parse_value(message)
    assert parse_value(inner) == []


@given(version=st.integers(1, 2**62))
def test_etags_come_back_as_versions(version: int) -> None:
    assert parse_etag(make_etag(version)) == version


@given(
    etag=st.text(min_size=1)
    | st.sampled_from(['"', '""', '"1', '1"', '"-1"', '"+1"', '"1_0"', '"²"', '"1" '])
)
def test_no_other_text_is_an_etag(etag: str) -> None:
    try:
        version = parse_etag(etag)
    except InvalidArgumentError as error:
        assert error.field == "etag"
    else:
        assert version is not None
        assert etag == f'"{etag[1:-1]}"'
        assert int(etag[1:-1]) == version


def test_minus_zero_is_stored_as_zero() -> None:
    message = types_pb2.Document(id="a", fields={"price": types_pb2.FieldValue(float_value=-0.0)})
    assert math.copysign(1.0, float(check_fields(parse_fields(message), FILTER_SCHEMA)["price"])) == 1.0  # type: ignore[arg-type]
