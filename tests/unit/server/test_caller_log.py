"""What the log says of callers, and what clients cannot make it say."""

import logging
import re

import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from quarry.log_lines import LineFormatter
from quarry.v1.collection_service_pb2 import (
    CreateCollectionRequest,
    DeleteCollectionRequest,
    UpdateCollectionRequest,
)
from quarry_server.caller_log import LOGGED, MAX_CHARACTERS, write_call_line
from quarry_server.startup.services import SERVICES

PEER = "ipv4:10.0.0.7:50000"
DELETE = "quarry.v1.CollectionService/DeleteCollection"
READ_ONLY = re.compile("Get|List|Search|Suggest|Retrieve|Check|Read|Export|Wait|Estimate")
WRITES_OF_DATA = {
    "BatchUpsertDocuments",
    "UpsertDocuments",
    "UpdateDocument",
    "BatchDeleteDocuments",
    "RecordEvents",
    "StreamEvents",
}
"""Documents by id and events: too many to log, and the logs of documents and events have them."""
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ [\w.]+: ")


def test_every_method_is_logged_or_reads_or_writes_single_documents_and_events() -> None:
    pool = descriptor_pool.Default()
    methods = {f"{name}/{m.name}": m for name in SERVICES for m in pool.FindServiceByName(name).methods}
    assert LOGGED.keys() <= methods.keys()
    for path, method in methods.items():
        quiet = READ_ONLY.match(method.name) or method.name in WRITES_OF_DATA
        assert (path in LOGGED) != bool(quiet), path
    assert not any(methods[path].server_streaming for path in LOGGED)  # these the interceptor does not know


@pytest.mark.parametrize("path", LOGGED)
def test_what_is_logged_of_a_request_is_in_every_request(path: str) -> None:
    service, _, name = path.rpartition("/")
    method = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    request: Message = message_factory.GetMessageClass(method.input_type)()
    assert write_call_line(path, request, PEER).startswith(name)


def test_a_line_says_what_who_and_on_what() -> None:
    line = write_call_line(DELETE, DeleteCollectionRequest(name="faq"), PEER)
    assert line == "DeleteCollection name='faq' by ipv4:10.0.0.7:50000"
    line = write_call_line(DELETE, DeleteCollectionRequest(name="faq"), "ipv6:%5B::1%5D:50000")
    assert line.endswith("by ipv6:[::1]:50000")
    update = UpdateCollectionRequest(collection={"name": "faq"}, update_mask={"paths": ["a"] * 9})
    line = write_call_line("quarry.v1.CollectionService/UpdateCollection", update, PEER)
    listed = ", ".join(8 * [repr("a")])
    assert f"collection.name='faq' update_mask.paths=[{listed}] and 1 more by {PEER}" in line


@given(name=st.text(st.characters(exclude_categories=["Cs"])))
def test_a_line_is_one_short_line_of_ascii_whatever_the_name_is(name: str) -> None:
    request = CreateCollectionRequest(collection={"name": name})
    line = write_call_line("quarry.v1.CollectionService/CreateCollection", request, PEER)
    assert line.isascii() and line.isprintable()
    assert len(line) < 100 + 10 * MAX_CHARACTERS
    assert line.endswith(f" by {PEER}")
    assert line.count(f"by {PEER}") == 1 + ascii(name[:MAX_CHARACTERS]).count(f"by {PEER}")


def test_a_long_name_is_cut_and_the_line_says_so() -> None:
    line = write_call_line(DELETE, DeleteCollectionRequest(name="x" * 10_000_000), PEER)
    assert line == f"DeleteCollection name='{'x' * 128}' and 9999872 more by {PEER}"


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_only_a_record_begins_a_line_of_the_log(text: str) -> None:
    forged = f"{text}\n2026-01-01 00:00:00,000 ERROR quarry: forged\r\x1b[2K\u2028{text}"
    record = logging.LogRecord("quarry", logging.INFO, "", 0, "said: %s", (forged,), None)
    written = LineFormatter().format(record)
    first, *others = written.splitlines()
    assert LINE.match(first)
    assert others
    assert all(line.startswith("    ") for line in others)
    assert not set(written) & set("\r\x1b\u2028\x85\u202e")


def test_tracebacks_are_kept_and_indented() -> None:
    try:
        raise ValueError("a\nb")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    written = LineFormatter().format(logging.LogRecord("q", logging.ERROR, "", 0, "failed", (), info))
    assert "\n    Traceback" in written
    assert written.endswith("\n    ValueError: a\n    b")
