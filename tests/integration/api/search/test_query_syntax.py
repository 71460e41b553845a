"""The query language over gRPC: what is required or excluded holds for the hits of every arm."""

from typing import Any

import grpc
import pytest
from tests.integration.api.helpers.served import Api, failure

from quarry.v1 import search_service_pb2 as pb

ADVANCED: Any = pb.QUERY_SYNTAX_ADVANCED
DOCUMENTS = {
    f"{kind}-{n}": {"title": f"{kind} {n}", "text": f"how to boil water in a {kind} number {n}"}
    for kind in ("kettle", "samovar", "espresso")
    for n in range(10)
}


@pytest.fixture(scope="module")
def kitchen(api: Api, new_name: Any) -> str:
    name: str = new_name()
    api.create(name)
    api.upsert(name, DOCUMENTS)
    return name


def search(api: Api, name: str, query: str, **settings: Any) -> list[str]:
    """Lists the ids of all pages."""
    ids: list[str] = []
    token = ""
    while True:
        answer = api.search(name, query, syntax=ADVANCED, page_token=token, page_size=7, **settings)
        assert not answer.degraded
        ids += [hit.document.id for hit in answer.hits]
        token = answer.next_page_token
        if not token:
            assert len(set(ids)) == len(ids)
            return ids


@pytest.mark.parametrize("arms", [(), ("dense",), ("bm25",)])
def test_what_is_excluded_is_found_by_no_arm(api: Api, kitchen: str, arms: tuple[str, ...]) -> None:
    asked = [pb.Arm(name=name) for name in arms]
    ids = search(api, kitchen, "boil water -samovar", arms=asked)
    assert sorted(ids) == sorted(id for id in DOCUMENTS if not id.startswith("samovar"))


@pytest.mark.parametrize("arms", [(), ("dense",), ("bm25",)])
def test_what_is_required_is_in_the_hits_of_every_arm(api: Api, kitchen: str, arms: tuple[str, ...]) -> None:
    asked = [pb.Arm(name=name) for name in arms]
    ids = search(api, kitchen, '+title:samovar "boil water" -"number 3"', arms=asked)
    assert sorted(ids) == sorted(id for id in DOCUMENTS if id.startswith("samovar") and id != "samovar-3")


def test_a_near_word_is_found_by_bm25_alone(api: Api, kitchen: str) -> None:
    ids = search(api, kitchen, "expresso~", arms=[pb.Arm(name="bm25")])
    assert sorted(ids) == sorted(id for id in DOCUMENTS if id.startswith("espresso"))


def test_a_query_without_a_match_or_in_an_empty_collection_finds_nothing(
    api: Api, kitchen: str, new_name: Any
) -> None:
    assert search(api, kitchen, "+zeppelin water") == []
    empty = new_name()
    api.create(empty)
    assert search(api, empty, '+a "b c" de* -title:f') == []


def test_a_mistake_is_refused_with_its_place(api: Api, kitchen: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        api.search(kitchen, 'water "boil', syntax=ADVANCED)
    told = failure(caught.value)
    assert (told.code, told.reason, told.field) == (grpc.StatusCode.INVALID_ARGUMENT, "QUERY_SYNTAX", "query")
    assert "at character 7" in told.message
