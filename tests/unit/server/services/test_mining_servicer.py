"""MiningService: what it hands to a job, what it says of its sets, and what it refuses."""

import time
from typing import Any

import grpc
import pytest
from tests.integration.api.helpers.mining import Mining, judged
from tests.integration.api.helpers.served import CALL_S, Api, failure, refused
from tests.unit.server.services.conftest import FAILS, HANGS

from quarry.v1 import collection_service_pb2
from quarry.v1 import mining_service_pb2 as pb

QUERIES = judged({"q1": ("red", {"d1": 1}), "q2": ("thing", {"d2": 2, "d3": 0})})
LEXICAL = {"queries": QUERIES, "preset": "random", "members": ["bm25"]}


@pytest.fixture
def mining(api: Api) -> Mining:
    return Mining(api)


def test_a_set_is_mined_once_for_a_request_id_and_told_of(mining: Mining, faq: str) -> None:
    first, again = [mining.start(faq, **LEXICAL, request_id="one") for _ in range(2)]
    assert first.name == again.name
    done = mining.wait(first)
    made, metadata = pb.MiningSet(), pb.MineHardNegativesMetadata()
    assert done.response.Unpack(made)
    assert done.metadata.Unpack(metadata)
    assert (metadata.collection, metadata.mining_set, metadata.stage, metadata.progress) == (
        faq, made.name, "done", 1.0,
    )  # fmt: skip
    assert (made.collection, made.verdict, made.pairs, made.rows) == (faq, pb.MINING_VERDICT_GOOD, 4, 20)
    assert not made.HasField("false_negatives")
    request = pb.GetMiningSetRequest(name=made.name, include_html=True)
    found = mining.stub.GetMiningSet(request, timeout=CALL_S)
    assert (found.mining_set, found.html) == (made, "{}")


def test_sets_are_listed_newest_first_a_page_at_a_time(mining: Mining, faq: str) -> None:
    made = [mining.mined(faq, **LEXICAL).name for _ in range(3)]
    request, names = pb.ListMiningSetsRequest(collection=faq, page_size=2), []
    page = mining.stub.ListMiningSets(request, timeout=CALL_S)
    names += [one.name for one in page.mining_sets]
    request.page_token = page.next_page_token
    names += [one.name for one in mining.stub.ListMiningSets(request, timeout=CALL_S).mining_sets]
    assert names == made[::-1]
    request.collection = ""
    assert refused(mining.stub.ListMiningSets, request).field == "page_token"


def test_examples_come_as_they_lie_on_the_disk(mining: Mining, faq: str) -> None:
    name = mining.mined(faq, **LEXICAL).name
    pieces = mining.stub.ReadExamples(pb.ReadExamplesRequest(name=name), timeout=CALL_S)
    assert b"".join(piece.parquet for piece in pieces) == b"{}"


def test_a_deleted_collections_sets_are_gone(mining: Mining, faq: str) -> None:
    name = mining.mined(faq, **LEXICAL).name
    gone = collection_service_pb2.DeleteCollectionRequest(name=faq)
    mining.api.collections.DeleteCollection(gone, timeout=CALL_S)
    found = refused(mining.stub.GetMiningSet, pb.GetMiningSetRequest(name=name))
    assert found.code is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.RpcError) as raised:
        list(mining.stub.ReadExamples(pb.ReadExamplesRequest(name=name), timeout=CALL_S))
    assert failure(raised.value).code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"preset": "unheard-of"}, "preset"),
        ({"members": ["unheard-of"]}, "members[0]"),
        ({"negatives": -1}, "negatives"),
        ({"queries": [pb.JudgedQuery(query_id="q", text="x", judgments=[{"document_id": "", "grade": 1}])]},
         "queries[0].judgments[0].document_id"),
        ({"request_id": "x" * 1_000}, "request_id"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_named(mining: Mining, faq: str, changes: Any, field: str) -> None:
    request = pb.MineHardNegativesRequest(**{"collection": faq, **LEXICAL, **changes})
    found = refused(mining.stub.MineHardNegatives, request)
    assert (found.code, found.field) == (grpc.StatusCode.INVALID_ARGUMENT, field)


def test_an_estimate_is_told_as_the_job_made_it(mining: Mining, faq: str) -> None:
    request = pb.EstimateRelevanceRequest(collection=faq, max_estimates=5)
    found = mining.stub.EstimateRelevance(request, timeout=CALL_S)
    assert (found.impressions, found.clicks) == (4, 2)
    assert [(one.rank, one.value, one.lower, one.upper) for one in found.examination] == [(1, 0.9, 0.8, 1.0)]
    (pair,) = found.estimates
    assert (pair.query, pair.document_id, pair.relevance, pair.clicks) == ("red", "d1", 0.5, 2)
    assert not found.HasField("log_likelihood") and not found.HasField("agreement")


def test_an_estimate_that_fails_says_why(mining: Mining, faq: str) -> None:
    found = refused(mining.stub.EstimateRelevance, pb.EstimateRelevanceRequest(collection=faq, seed=FAILS))
    assert (found.code, found.message) == (grpc.StatusCode.INTERNAL, "no click was counted")


def test_an_estimate_is_given_up_before_its_caller_gives_up(mining: Mining, faq: str) -> None:
    request = pb.EstimateRelevanceRequest(collection=faq, seed=HANGS)
    began = time.monotonic()
    with pytest.raises(grpc.RpcError) as raised:
        mining.stub.EstimateRelevance(request, timeout=3)
    assert failure(raised.value).code is grpc.StatusCode.DEADLINE_EXCEEDED, "the server's own, with details"
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("changes", "field"), [({"held_out": 0.9}, "held_out"), ({"max_estimates": -1}, "max_estimates")]
)
def test_a_wrong_estimate_is_named(mining: Mining, faq: str, changes: Any, field: str) -> None:
    request = pb.EstimateRelevanceRequest(collection=faq, **changes)
    assert refused(mining.stub.EstimateRelevance, request).field == field
