"""A server whose dense arm cannot be opened: everything else goes on, and each answer says what it lacks."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from tests.integration.api.helpers.served import CALL_S, Api, document, refused, served, tiny_settings

from quarry.testing import make_tiny_encoder
from quarry.v1 import collection_service_pb2, document_service_pb2
from quarry.v1 import search_service_pb2 as pb


@pytest.fixture(scope="module")
def crippled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server that restarted without the model of its one collection."""
    folder = tmp_path_factory.mktemp("crippled")
    encoder = make_tiny_encoder(folder / "encoder", seed=3)
    settings = tiny_settings(folder / "data", encoder)
    with served(settings) as api:
        api.create("half")
        api.upsert("half", {"a": {"text": "one word"}, "b": {"text": "another word"}})
    shutil.rmtree(encoder)
    with served(settings) as api:
        yield api


def test_words_still_find_documents_and_the_answer_names_the_missing_arm(crippled: Api) -> None:
    answer = crippled.search("half", "another word", explain=True)
    assert [hit.document.id for hit in answer.hits] == ["b", "a"]
    (lacking,) = answer.degraded
    assert (lacking.arm, lacking.reason) == ("dense", pb.DEGRADATION_REASON_UNAVAILABLE)
    assert answer.total == pb.Total(count=2, relation=pb.TOTAL_RELATION_EXACT)


def test_an_answer_that_must_be_complete_is_refused(crippled: Api) -> None:
    request = pb.SearchRequest(collection="half", query="word", require_complete=True)
    assert refused(crippled.searches.Search, request).code is grpc.StatusCode.UNAVAILABLE


def test_the_missing_arm_alone_cannot_answer(crippled: Api) -> None:
    request = pb.SearchRequest(collection="half", query="word", arms=[{"name": "dense"}])
    assert refused(crippled.searches.Search, request).code is grpc.StatusCode.UNAVAILABLE


def test_retrieve_says_which_arm_failed(crippled: Api) -> None:
    request = pb.RetrieveRequest(collection="half", queries=[{"text": "word"}])
    (result,) = crippled.searches.Retrieve(request, timeout=CALL_S).results
    bm25, dense = result.arms
    assert (bm25.status.code, len(bm25.candidates)) == (0, 2)
    assert (dense.status.code, len(dense.candidates)) == (grpc.StatusCode.UNAVAILABLE.value[0], 0)


def test_the_collection_says_why(crippled: Api) -> None:
    request = collection_service_pb2.GetCollectionRequest(name="half")
    arms = crippled.collections.GetCollection(request, timeout=CALL_S).collection.status.arms
    assert {arm.arm: bool(arm.error) for arm in arms} == {"bm25": False, "dense": True}


def test_a_write_is_safe_and_does_not_claim_to_be_searchable(crippled: Api) -> None:
    request = document_service_pb2.BatchUpsertDocumentsRequest(
        collection="half",
        documents=[document("c", text="third")],
        wait=document_service_pb2.WRITE_VISIBILITY_SEARCHABLE,
    )
    answer = crippled.documents.BatchUpsertDocuments(request, timeout=CALL_S)
    assert answer.result.reached == document_service_pb2.WRITE_VISIBILITY_LOGGED
    assert [hit.document.id for hit in crippled.search("half", "third").hits] == ["c"]


def test_the_arm_comes_back_by_itself_once_its_model_is_there(crippled: Api) -> None:
    def half() -> collection_service_pb2.Collection:
        request = collection_service_pb2.GetCollectionRequest(name="half")
        return crippled.collections.GetCollection(request, timeout=CALL_S).collection

    make_tiny_encoder(Path(half().encoder), seed=3)
    deadline = time.monotonic() + 120
    while crippled.search("half", "another word").degraded:
        assert time.monotonic() < deadline, "the dense arm has not come back"
    assert {arm.error for arm in half().status.arms} == {""}
    request = pb.SearchRequest(collection="half", query="word", arms=[{"name": "dense"}])
    assert {"a", "b"} <= {hit.document.id for hit in crippled.searches.Search(request, timeout=CALL_S).hits}
