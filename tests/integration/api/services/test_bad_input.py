"""Whatever a request holds, the answer is a result or a typed error: never UNKNOWN, INTERNAL or a hang."""

import os
from collections.abc import Sequence
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.api.helpers.hostile import (
    TEXTS,
    Method,
    method_names,
    methods,
    nots,
    paths,
    put,
    values,
    varint,
)
from tests.integration.api.helpers.served import CALL_S, Api, Failure, checked_status, failure, refused

from quarry.v1 import collection_service_pb2, document_service_pb2, search_service_pb2, types_pb2

thorough = settings(
    deadline=None,
    max_examples=int(os.environ.get("QUARRY_TEST_EXAMPLES", "10")),
    suppress_health_check=list(HealthCheck),
)

ALLOWED = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
"""What bad input may come to. The server is well and has time: no other code has a reason."""

Change = tuple[int, tuple[FieldDescriptor, ...], Any]
"""Which request of the call, the field in it, its value."""

MARK = "<these bytes>"
NO_UTF8 = b"\xff\xfe\x80\xc0\xaf\xed\xa0\x80\xf8\x88" + b"\xf4\x90\x80"


@pytest.fixture(scope="session")
def every_method(api: Api) -> dict[str, Method]:
    schema = {
        "fields": [
            {"name": "title", "type": collection_service_pb2.SCHEMA_FIELD_TYPE_TEXT},
            {"name": "text", "type": collection_service_pb2.SCHEMA_FIELD_TYPE_TEXT, "language": "none"},
            {"name": "tag", "type": collection_service_pb2.SCHEMA_FIELD_TYPE_KEYWORD},
            {"name": "count", "type": collection_service_pb2.SCHEMA_FIELD_TYPE_INTEGER},
        ],
        "unknown_fields": collection_service_pb2.UNKNOWN_FIELDS_STORE,
    }
    api.create("hostile", schema=schema)
    api.create("hostile-doomed", encoder="none")
    api.upsert("hostile", {"a": {"title": "the title", "tag": "x"}, "c": {"text": "of a title", "count": 3}})
    repair = collection_service_pb2.RepairCollectionRequest(name="hostile-doomed")
    operation = api.collections.RepairCollection(repair, timeout=CALL_S).name
    token = api.search("hostile", "the title").attribution_token
    return {str(method): method for method in methods("hostile", operation, token)}


@pytest.fixture(params=method_names())
def method(every_method: dict[str, Method], request: pytest.FixtureRequest) -> Method:
    return every_method[request.param]


def send(api: Api, method: Method, requests: Sequence[bytes]) -> Failure | None:
    """The typed error that the call ends in; None if it was answered."""
    try:
        if method.descriptor.client_streaming:
            stream = api.channel.stream_stream(method.path, response_deserializer=method.answer)
            answers = list(stream(iter(requests), timeout=CALL_S))
        else:
            (request,) = requests
            unary = api.channel.unary_unary(method.path, response_deserializer=method.answer)
            answers = [unary(request, timeout=CALL_S)]
    except grpc.RpcError as error:
        failed = failure(error)
        assert failed.code in ALLOWED, failed
        return failed
    for answer in answers:
        for status in getattr(answer, "statuses", ()):
            if status.status.code:
                codes = {code.value[0]: code for code in ALLOWED}
                checked_status(status.status, codes[status.status.code])
    return None


def with_changes(
    method: Method, changes: Sequence[tuple[int, tuple[FieldDescriptor, ...], Any]]
) -> list[bytes]:
    requests = [type(request).FromString(request.SerializeToString()) for request in method.requests]
    for which, path, value in changes:
        put(requests[which], path, value)
    return [request.SerializeToString() for request in requests]


def test_a_right_request_is_answered(api: Api, method: Method) -> None:
    failed = send(api, method, with_changes(method, []))
    assert failed is None or failed.code in {
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.ABORTED,
    }


def test_each_field_may_hold_anything(api: Api, method: Method) -> None:
    for which, request in enumerate(method.requests):
        for path in paths(request.DESCRIPTOR):
            for value in values(path[-1]):
                try:
                    failed = send(api, method, with_changes(method, [(which, path, value)]))
                except (AssertionError, KeyError) as error:
                    names = ".".join(field.name for field in path)
                    raise AssertionError(f"{method} {names} = {value!r:.100}: {error}") from error
                if failed and failed.code is grpc.StatusCode.INVALID_ARGUMENT:
                    assert failed.field, failed


@thorough
@given(data=st.data())
def test_several_fields_may_hold_anything(api: Api, method: Method, data: st.DataObject) -> None:
    places = [(w, path) for w, r in enumerate(method.requests) for path in paths(r.DESCRIPTOR)]
    if not places:
        return
    changes = [
        (which, path, data.draw(st.sampled_from(values(path[-1]))))
        for which, path in data.draw(st.lists(st.sampled_from(places), min_size=2, max_size=8))
    ]
    send(api, method, with_changes(method, changes))


@thorough
@given(data=st.data())
def test_requests_may_be_any_bytes(api: Api, method: Method, data: st.DataObject) -> None:
    right = with_changes(method, [])
    which = data.draw(st.integers(0, len(right) - 1))
    cut = data.draw(st.integers(0, len(right[which])))
    noise = data.draw(st.binary(max_size=30))
    right[which] = data.draw(st.sampled_from([noise, right[which][:cut] + noise, right[which][:cut]]))
    send(api, method, right)


def test_text_that_is_no_utf8_is_an_invalid_argument(api: Api, method: Method) -> None:
    for which, request in enumerate(method.requests):
        for path in paths(request.DESCRIPTOR):
            if path[-1].type == FieldDescriptor.TYPE_STRING:
                requests = with_changes(method, [(which, path, MARK)])
                assert MARK.encode() in requests[which]
                requests[which] = requests[which].replace(MARK.encode(), NO_UTF8)
                failed = send(api, method, requests)
                assert failed
                assert (failed.code, failed.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED")


def test_a_message_that_ends_early_is_an_invalid_argument(api: Api, method: Method) -> None:
    requests = with_changes(method, [])
    requests[0] = b"\x0a\x7fonly a part"
    failed = send(api, method, requests)
    assert failed
    assert (failed.code, failed.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED")


def test_a_request_that_names_no_collection_says_so(api: Api, method: Method) -> None:
    field = method.descriptor.input_type.fields_by_name.get("collection")
    if field is None or field.message_type is not None:
        pytest.skip("it takes no collection, or more of it than a name")
    if str(method) in ("ListAliases", "ListModels", "ListRankings", "ListMiningSets", "ListLoopReports"):
        pytest.skip("without a collection it lists what all have")
    failed = send(api, method, with_changes(method, [(0, (field,), "")]))
    assert failed
    assert (failed.code, failed.field) == (grpc.StatusCode.INVALID_ARGUMENT, "collection")
    assert failed.reason == "REQUIRED"


WRONG_SEARCHES: list[tuple[dict[str, Any], str, str]] = [
    ({"page_size": -1}, "VALUE_OUT_OF_RANGE", "page_size"),
    ({"page_token": "of another server"}, "INVALID_TOKEN", "page_token"),
    ({"return_fields": ["a-b"]}, "UNKNOWN_FIELD", "return_fields[0]"),
    ({"filter": {"exists": {"field": "nowhere"}}}, "UNKNOWN_FIELD", "filter.exists.field"),
    ({"filter": {"exists": {"field": "title"}}}, "WRONG_TYPE", "filter.exists.field"),
    ({"filter": {"range": {"field": "count"}}}, "REQUIRED", "filter.range"),
    (
        {"filter": {"range": {"field": "count", "gt": {"integer_value": 1}, "gte": {"integer_value": 1}}}},
        "CONFLICTING_FIELDS",
        "filter.range",
    ),
    (
        {"filter": {"equal_to": {"field": "count", "value": {"string_value": "1"}}}},
        "WRONG_TYPE",
        "filter.equal_to.value",
    ),
    ({"arms": [{"name": "bm26"}]}, "UNKNOWN_VALUE", "arms[0].name"),
    ({"arms": [{"name": "bm25"}, {"name": "bm25"}]}, "DUPLICATE", "arms[1].name"),
    ({"arms": [{"name": "bm25", "depth": -1}]}, "VALUE_OUT_OF_RANGE", "arms[0].depth"),
    ({"context": {"user_id": "a\nb"}}, "INVALID_ARGUMENT", "context.user_id"),
]


@pytest.mark.parametrize(("request_", "reason", "field"), WRONG_SEARCHES)
def test_kinds_of_wrong_searches_are_told_apart(
    api: Api, every_method: dict[str, Method], request_: dict[str, Any], reason: str, field: str
) -> None:
    search = search_service_pb2.SearchRequest(collection="hostile", query="title", **request_)
    failed = refused(api.searches.Search, search)
    assert (failed.code, failed.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert failed.field == field


def test_kinds_of_wrong_documents_are_told_apart(api: Api, every_method: dict[str, Method]) -> None:
    documents: list[dict[str, Any]] = [
        {"id": ""},
        {"id": "x" * 513},
        {"id": "a", "fields": {"count": {"string_value": "many"}}},
        {"id": "a", "fields": {"count": {"integer_value": 2**53}}},
        {"id": "a", "fields": {"count": {}}},
    ]
    request = document_service_pb2.BatchUpsertDocumentsRequest(collection="hostile", documents=documents)
    statuses = api.documents.BatchUpsertDocuments(request, timeout=CALL_S).statuses
    reasons = [checked_status(one.status, grpc.StatusCode.INVALID_ARGUMENT).reason for one in statuses]
    assert reasons == ["REQUIRED", "VALUE_OUT_OF_RANGE", "WRONG_TYPE", "VALUE_OUT_OF_RANGE", "REQUIRED"]


def test_a_request_id_that_served_another_request_says_so(api: Api, every_method: dict[str, Method]) -> None:
    request = document_service_pb2.BatchUpsertDocumentsRequest(
        collection="hostile", documents=[{"id": "first"}], request_id="told-apart"
    )
    api.documents.BatchUpsertDocuments(request, timeout=CALL_S)
    request.documents[0].id = "second"
    failed = refused(api.documents.BatchUpsertDocuments, request)
    assert (failed.code, failed.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")
    assert failed.field == "request_id"


@pytest.mark.parametrize("levels", [15, 16, 17, 90, 101, 2_000])
@pytest.mark.parametrize(
    ("name", "number"), [("Search", 5), ("ListDocuments", 4), ("DeleteDocumentsByFilter", 2), ("Retrieve", 4)]
)
def test_filters_nest_to_the_limit_and_no_deeper(
    api: Api, every_method: dict[str, Method], name: str, number: int, levels: int
) -> None:
    method = every_method[name]
    (right,) = with_changes(method, [])
    filter = nots(levels, types_pb2.Filter(exists={"field": "tag"}))
    if name == "DeleteDocumentsByFilter":
        right = document_service_pb2.DeleteDocumentsByFilterRequest(collection="hostile").SerializeToString()
    failed = send(api, method, [right + bytes([number << 3 | 2]) + varint(len(filter)) + filter])
    if levels < 16:
        assert failed is None
    else:
        assert failed
        assert failed.code is grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture(scope="session")
def typed(api: Api) -> str:
    """A collection that is only searched."""
    api.create("typed")
    api.upsert(
        "typed", {"a": {"title": "the title"}, "b": {"text": "of a title"}, "c": {"text": "and others"}}
    )
    return "typed"


QUERIES = [*TEXTS, 'a "b c', "(((", "a AND", "OR", "+-a", "x" * 8_192, "x " * 4_096]


@pytest.mark.parametrize("text", QUERIES, ids=lambda text: f"{text!a:.20}")
def test_any_text_is_a_query(api: Api, typed: str, text: str) -> None:
    """Alone and beside a word, which it hides from no arm: what users type has no special meaning."""
    alone = search_service_pb2.SearchRequest(collection=typed, query=text, explain=True)
    if len(text.strip().encode()) > 8_192:
        failed = refused(api.searches.Search, alone)
        assert (failed.code, failed.field) == (grpc.StatusCode.INVALID_ARGUMENT, "query")
    else:
        assert api.searches.Search(alone, timeout=CALL_S).hits
    answer = api.search(typed, f"{text[:300]} title", explain=True)
    matched = {hit.document.id for hit in answer.hits if hit.explanation.arms[0].rank}
    assert answer.total.count == len(matched)
    assert matched >= {"a", "b"}


STREAMS = {
    "nothing": [],
    "a batch first": ["batch"],
    "config twice": ["config", "config"],
    "config again after a batch": ["config", "batch", "config"],
    "an empty message": [""],
    "an empty message after config": ["config", ""],
    "config alone": ["config"],
}


@pytest.mark.parametrize("kinds", STREAMS.values(), ids=STREAMS)
def test_a_stream_opens_with_one_config(api: Api, every_method: dict[str, Method], kinds: list[str]) -> None:
    config, batch = with_changes(every_method["UpsertDocuments"], [])
    messages = {"config": config, "batch": batch, "": b""}
    failed = send(api, every_method["UpsertDocuments"], [messages[kind] for kind in kinds])
    if kinds in ([], ["config"]):
        assert failed is None
    else:
        assert failed
        assert (failed.code, failed.field) == (grpc.StatusCode.INVALID_ARGUMENT, "message")


def test_what_a_stream_wrote_before_an_error_was_acknowledged(
    api: Api, every_method: dict[str, Method]
) -> None:
    config, batch = with_changes(every_method["UpsertDocuments"], [])
    stream = api.channel.stream_stream(
        every_method["UpsertDocuments"].path, response_deserializer=every_method["UpsertDocuments"].answer
    )
    answers: Any = stream(iter([config, batch, config]), timeout=CALL_S)
    assert next(answers).result.sequence > 0
    with pytest.raises(grpc.RpcError) as caught:
        next(answers)
    assert failure(caught.value).code is grpc.StatusCode.INVALID_ARGUMENT


def test_a_method_that_is_not_there_is_unimplemented(api: Api) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        api.channel.unary_unary("/quarry.v1.SearchService/Guess")(b"", timeout=CALL_S)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_the_server_still_answers(api: Api, every_method: dict[str, Method]) -> None:
    """After all of the above: both arms follow the log and agree with it."""
    api.upsert("hostile", {"last": {"title": "the last title"}})
    request = collection_service_pb2.CheckConsistencyRequest(name="hostile")
    assert api.collections.CheckConsistency(request, timeout=CALL_S).consistent
    assert api.search("hostile", "last title").hits[0].document.id
