"""Retrieve: what each arm proposes, raw."""

import grpc
import pytest
from tests.integration.api.helpers.served import CALL_S, Api, refused

from quarry.v1 import search_service_pb2 as pb


def retrieve(api: Api, collection: str, *texts: str, **settings: object) -> pb.RetrieveResponse:
    queries = [pb.RetrieveQuery(id=f"q{n}", text=text) for n, text in enumerate(texts)]
    request = pb.RetrieveRequest(collection=collection, queries=queries, **settings)  # type: ignore[arg-type]
    return api.searches.Retrieve(request, timeout=CALL_S)


def test_every_query_gets_every_arms_candidates_in_order(api: Api, corpus: str) -> None:
    answer = retrieve(api, corpus, "barata", "deneli gosopu", "barata")
    assert [result.query_id for result in answer.results] == ["q0", "q1", "q2"]
    assert answer.generation
    for result in answer.results:
        assert [arm.arm for arm in result.arms] == ["bm25", "dense"]
        for arm in result.arms:
            assert not arm.status.code
            assert [c.rank for c in arm.candidates] == list(range(1, len(arm.candidates) + 1))
            order = [(-c.score, c.document_id) for c in arm.candidates]
            assert order == sorted(order)
            assert len({c.document_id for c in arm.candidates}) == len(arm.candidates)
        assert all(-1 - 1e-6 <= c.score <= 1 + 1e-6 for c in result.arms[1].candidates)
    assert answer.results[0].arms == answer.results[2].arms


def test_raw_scores_are_those_of_a_searchs_explanation(api: Api, corpus: str) -> None:
    (result,) = retrieve(api, corpus, "barata deneli").results
    raw = {arm.arm: {c.document_id: c for c in arm.candidates} for arm in result.arms}
    for hit in api.search(corpus, "barata deneli", explain=True, page_size=1_000).hits:
        for arm in hit.explanation.arms:
            candidate = raw[arm.arm].get(hit.document.id)
            assert arm.rank == (candidate.rank if candidate else 0)
            if candidate:
                assert arm.score == pytest.approx(candidate.score, abs=1e-4)


def test_arms_depth_and_filter_hold_for_every_query(api: Api, corpus: str) -> None:
    filter = {"equal_to": {"field": "sale", "value": {"boolean_value": True}}}
    arms = [{"name": "dense", "depth": 5}]
    answer = retrieve(api, corpus, "barata", "matige", arms=arms, filter=filter)
    for result in answer.results:
        (arm,) = result.arms
        assert (arm.arm, len(arm.candidates)) == ("dense", 5)
    passing = {hit.document.id for hit in api.search(corpus, "", filter=filter, page_size=1_000).hits}
    assert {c.document_id for r in answer.results for c in r.arms[0].candidates} <= passing


def test_what_is_wrong_is_named(api: Api, corpus: str) -> None:
    for changes, field in (
        ({"queries": [{"text": "a"}, {"text": " \n"}]}, "queries[1].text"),
        ({"queries": [{"text": "x" * 8_193}]}, "queries[0].text"),
        ({"queries": [{"text": "a"}] * 257}, "queries"),
        ({"arms": [{"name": "x"}]}, "arms[0].name"),
        ({"filter": {"exists": {"field": "x"}}}, "filter.exists.field"),
    ):
        request = pb.RetrieveRequest(**{"collection": corpus, **changes})  # type: ignore[arg-type]
        failed = refused(api.searches.Retrieve, request)
        assert (failed.code, failed.field) == (grpc.StatusCode.INVALID_ARGUMENT, field)


def test_no_query_is_an_empty_answer(api: Api, corpus: str) -> None:
    assert not retrieve(api, corpus).results
