"""SearchService over the wire: a search of each kind, and Retrieve."""

from typing import Any

import pytest
from tests.integration.api.helpers.served import CALL_S, Api, refused

from quarry.v1 import search_service_pb2 as pb


def test_a_search_finds_counts_and_explains(api: Api, faq: str) -> None:
    found = api.search(faq, "red", explain=True, page_size=2)
    assert [hit.rank for hit in found.hits] == [1, 2]
    assert (found.total.count, found.total.relation) == (3, pb.TOTAL_RELATION_EXACT)
    assert found.hits[0].explanation.arms[0].arm == "bm25"
    rest = api.search(faq, "red", explain=True, page_size=2, page_token=found.next_page_token)
    assert [hit.rank for hit in rest.hits] == [3]
    assert not rest.next_page_token


def test_browsing_is_in_the_order_of_writing(api: Api, faq: str) -> None:
    assert [hit.document.id for hit in api.search(faq).hits] == ["d1", "d2", "d3"]


def test_retrieve_gives_each_arms_own_candidates(api: Api, faq: str) -> None:
    request = pb.RetrieveRequest(
        collection=faq, queries=[{"text": "red"}, {"text": "nowhere"}], arms=[{"name": "bm25", "depth": 2}]
    )
    found = api.searches.Retrieve(request, timeout=CALL_S)
    assert [len(result.arms[0].candidates) for result in found.results] == [2, 0]
    assert [one.rank for one in found.results[0].arms[0].candidates] == [1, 2]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"queries": [{"text": "red"}] * 1_000}, "queries"),
        ({"arms": [{"name": "dense", "depth": 2}]}, "arms[0].name"),
        ({"arms": [{"name": "bm25", "depth": -1}]}, "arms[0].depth"),
    ],
)
def test_a_wrong_retrieve_is_named(api: Api, faq: str, changes: Any, field: str) -> None:
    values = {"collection": faq, "queries": [{"text": "red"}], "arms": [{"name": "bm25", "depth": 2}]}
    assert refused(api.searches.Retrieve, pb.RetrieveRequest(**(values | changes))).field == field


def test_a_re_ranker_that_no_setting_offers_is_refused(api: Api, faq: str) -> None:
    request = pb.SearchRequest(collection=faq, query="red", rerank={"model": "/etc"})
    assert refused(api.searches.Search, request).field == "rerank.model"
