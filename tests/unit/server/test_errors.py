import inspect

import grpc
import pytest
from google.rpc import error_details_pb2
from hypothesis import given
from hypothesis import strategies as st

from quarry import errors
from quarry.errors import InvalidArgumentError, ModelError, QuarryError, RetrieverUnavailableError
from quarry_server.common.errors import choose_status_code, make_status

HEADER_BYTES = 8 * 1024
"""Of all headers together, what clients take by default."""

EVERY_ERROR = [
    kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, QuarryError)
]


@pytest.mark.parametrize("kind", EVERY_ERROR)
def test_every_error_has_a_code_of_its_own_and_one_error_info(kind: type[QuarryError]) -> None:
    error = kind(
        *["x"] * (len(inspect.signature(kind).parameters) - ("metadata" in str(inspect.signature(kind))))
    )
    code = choose_status_code(error)
    assert code is not grpc.StatusCode.UNKNOWN
    assert (code is grpc.StatusCode.INTERNAL) is (kind is QuarryError)
    infos = [d for d in make_status(error).details if d.Is(error_details_pb2.ErrorInfo.DESCRIPTOR)]
    assert len(infos) == 1
    info = error_details_pb2.ErrorInfo.FromString(infos[0].value)
    assert (info.reason, info.domain) == (kind.reason, "quarry")


def test_the_field_is_in_a_bad_request() -> None:
    status = make_status(InvalidArgumentError("a.b[3]", "is wrong"))
    bad = error_details_pb2.BadRequest.FromString(status.details[1].value)
    assert [(v.field, v.description) for v in bad.field_violations] == [("a.b[3]", "is wrong")]


def test_who_may_try_again_is_told_when() -> None:
    status = make_status(RetrieverUnavailableError("bm25", "it restarts"))
    assert error_details_pb2.RetryInfo.FromString(status.details[1].value).retry_delay.seconds == 1


@given(text=st.text(max_size=100).map(lambda text: text * 100))
def test_no_error_is_too_large_for_a_header(text: str) -> None:
    for error in (ModelError(text, model=text), InvalidArgumentError(text, text)):
        status = make_status(error)
        details = 4 * len(status.SerializeToString()) / 3
        assert 3 * len(status.message.encode()) + details < HEADER_BYTES
