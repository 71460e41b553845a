"""The client over a real channel: deadlines, retries, errors, pages, a closed client."""

import json
import math
import subprocess
import sys
from threading import Event

import grpc
import pytest
from google.rpc import error_details_pb2

from quarry import config
from quarry.client import Client, ClientClosedError, QuarryCallError, channel
from quarry.client.retries import _SAFE
from quarry.v1 import (
    collection_service_pb2,
    document_service_pb2,
    feedback_service_pb2,
    mining_service_pb2,
    model_service_pb2,
    search_service_pb2,
    server_service_pb2,
    training_service_pb2,
    types_pb2,
)
from quarry.v1.collection_service_pb2_grpc import CollectionServiceStub

GET = collection_service_pb2.GetCollectionRequest(name="faq")
SERVICES = [
    next(iter(module.DESCRIPTOR.services_by_name.values()))
    for module in (
        collection_service_pb2,
        document_service_pb2,
        feedback_service_pb2,
        mining_service_pb2,
        model_service_pb2,
        search_service_pb2,
        server_service_pb2,
        training_service_pb2,
    )
]


@pytest.fixture
def quarry(server):
    with Client(server.address, timeout_s=20) as client:
        yield client


def upsert(request_id=""):
    return document_service_pb2.BatchUpsertDocumentsRequest(collection="faq", request_id=request_id)


def test_a_stub_answers(quarry):
    assert quarry.collections.GetCollection(GET).collection.name == "faq"
    answer, call = quarry.collections.GetCollection.with_call(GET)
    assert (answer.collection.name, call.code()) == ("faq", grpc.StatusCode.OK)
    assert quarry.collections.GetCollection.future(GET).result().collection.name == "faq"


def test_an_error_names_code_reason_field_and_metadata(quarry, server, wrong_field):
    server.status = wrong_field
    with pytest.raises(QuarryCallError) as caught:
        quarry.documents.BatchUpsertDocuments(upsert())
    error = caught.value
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.reason == "FIELD_TYPE"
    assert error.field == "documents[3].fields.price"
    assert error.violations == {"documents[3].fields.price": "is no number"}
    assert error.metadata == {"id": "d3"}
    assert error.message == "documents[3].fields.price: is no number"
    assert str(error) == f"INVALID_ARGUMENT (FIELD_TYPE): {error.message}"
    assert not error.retryable


def test_a_future_and_a_stream_raise_the_same_errors(quarry, server, wrong_field):
    server.status = wrong_field
    future = quarry.collections.GetCollection.future(GET)
    with pytest.raises(QuarryCallError, match="is no number"):
        future.result()
    assert isinstance(future.exception(), QuarryCallError)
    with pytest.raises(QuarryCallError, match="is no number"):
        list(quarry.mining.ReadExamples(mining_service_pb2.ReadExamplesRequest(name="m")))


def test_a_server_says_that_a_call_may_succeed_later(quarry, server, unavailable_status):
    server.status = unavailable_status
    with pytest.raises(QuarryCallError) as caught:
        quarry.collections.GetCollection(GET)
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.retryable


def test_where_no_server_is_the_error_says_so_without_a_reason(server):
    with Client("127.0.0.1:1", timeout_s=5) as quarry, pytest.raises(QuarryCallError) as caught:
        quarry.documents.BatchUpsertDocuments(upsert())
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert (caught.value.reason, caught.value.field, caught.value.retryable) == ("", "", True)


@pytest.mark.parametrize("address", ["", "nowhere:port:port", "dns:///"])
def test_an_address_that_cannot_be_used_fails_in_words(address):
    with pytest.raises((ValueError, QuarryCallError)), Client(address, timeout_s=1) as quarry:
        quarry.collections.GetCollection(GET)


def test_a_read_is_made_again_while_the_server_is_unavailable(quarry, server):
    server.unavailable = 2
    assert quarry.collections.GetCollection(GET).collection.name == "faq"
    assert server.calls["GetCollection"] == 3


def test_a_read_is_given_up_in_the_end(quarry, server):
    server.unavailable = 100
    with pytest.raises(QuarryCallError) as caught:
        quarry.collections.GetCollection(GET)
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert server.calls["GetCollection"] == 4


def test_no_other_error_is_tried_again(quarry, server, wrong_field):
    server.status = wrong_field
    with pytest.raises(QuarryCallError):
        quarry.collections.GetCollection(GET)
    assert server.calls["GetCollection"] == 1


@pytest.mark.parametrize(("request_id", "made"), [("", 1), ("a-uuid", 2)])
def test_a_write_is_made_again_only_under_a_request_id(quarry, server, request_id, made):
    server.unavailable = 1
    if request_id:
        quarry.documents.BatchUpsertDocuments(upsert(request_id))
    else:
        with pytest.raises(QuarryCallError, match="shutting down"):
            quarry.documents.BatchUpsertDocuments(upsert())
    assert server.calls["BatchUpsertDocuments"] == made


def test_a_large_write_is_made_again_too(quarry, server):
    server.unavailable = 1
    text = types_pb2.FieldValue(string_value="x" * 2**20)
    request = upsert("a-uuid")
    request.documents.append(types_pb2.Document(id="a", fields={"text": text}))
    quarry.documents.BatchUpsertDocuments(request)
    assert server.calls["BatchUpsertDocuments"] == 2


def test_details_that_cannot_be_read_leave_the_error(quarry, server, wrong_field):
    broken = wrong_field.details.add(type_url=wrong_field.details[0].type_url, value=b"\xff")
    server.status = wrong_field
    with pytest.raises(QuarryCallError, match="INVALID_ARGUMENT"):
        quarry.collections.GetCollection(GET)
    info = error_details_pb2.ErrorInfo(reason="R", metadata={"message": "m", "self": "s"})
    broken.Pack(info)
    with pytest.raises(QuarryCallError) as caught:
        quarry.collections.GetCollection(GET)
    assert caught.value.metadata["message"] == "m"


def test_calls_that_are_repeated_and_calls_that_are_not_share_a_connection(quarry, server):
    quarry.collections.GetCollection(GET)
    quarry.documents.BatchUpsertDocuments(upsert())
    assert len(server.peers) == 1


def test_every_read_of_the_api_is_safe_to_repeat_and_nothing_that_writes():
    """A new RPC that reads has to be listed; one that is renamed has to be renamed there."""
    methods = {(service.full_name, m.name): m for service in SERVICES for m in service.methods}
    listed = {(s, m) for s, ms in _SAFE.items() for m in ms if s.startswith("quarry.")}
    assert listed <= methods.keys()
    reads = {key for key in methods if key[1].startswith(("Get", "List"))}
    assert reads <= listed
    writes = {key for key, m in methods.items() if "request_id" in m.input_type.fields_by_name}
    starts = {key for key, m in methods.items() if m.output_type.full_name == "google.longrunning.Operation"}
    assert not (writes | starts) & listed


def test_a_call_has_the_clients_deadline_unless_it_names_one(quarry, server):
    quarry.collections.GetCollection(GET)
    quarry.collections.GetCollection(GET, timeout=5)
    quarry.collections.GetCollection(GET, timeout=math.inf)
    default, own, none = server.deadlines
    assert 10 < default < 21
    assert 0 < own < 6
    assert none is None or none > 1e6


def test_the_client_takes_and_sends_what_a_server_may_allow():
    assert channel.MAX_MESSAGE_BYTES == config.MAX_MESSAGE_BYTES


def test_pages_follow_each_other_and_leave_the_request_as_it_was(quarry):
    request = collection_service_pb2.ListCollectionsRequest()
    pages = quarry.pages(quarry.collections.ListCollections, request)
    assert [c.name for page in pages for c in page.collections] == ["c0", "c1", "c2"]
    assert request.page_token == ""


def test_a_closed_client_raises_an_error_that_says_so(server, tmp_path):
    """gRPC ends the interpreter with SIGSEGV when a stub is made on a channel that it has closed."""
    with Client(server.address) as quarry:
        quarry.collections.GetCollection(GET)
    quarry.close()
    (tmp_path / "e.parquet").write_bytes(b"PAR1")
    for call in (
        lambda: quarry.collections.GetCollection(GET),
        lambda: quarry.collections.GetCollection.future(GET),
        lambda: CollectionServiceStub(quarry.channel),
        lambda: quarry.pages(quarry.collections.ListCollections, GET),
        lambda: quarry.upsert("faq", []),
        lambda: quarry.upload_examples(tmp_path / "e.parquet"),
    ):
        with pytest.raises(ClientClosedError, match="the client is closed"):
            call()


def test_a_stream_whose_client_is_closed_meanwhile_says_so(server):
    quarry = Client(server.address)
    server.silent = True
    stream = quarry.documents.UpsertDocuments(iter(Event().wait, None))  # nothing is ever sent
    quarry.close()
    with pytest.raises(ClientClosedError):
        next(stream)


def test_importing_the_client_loads_nothing_heavy():
    """In a process of its own: this one has loaded all of it."""
    heavy = ["numpy", "scipy", "torch", "qdrant_client", "tantivy", "pydantic", "sqlalchemy", "rich", "typer"]
    code = "import json, sys, quarry.client; print(json.dumps(sorted(m.split('.')[0] for m in sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert "grpc" in loaded
    assert not set(heavy) & set(loaded)
