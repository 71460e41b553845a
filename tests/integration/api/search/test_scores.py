"""A document's score for a query is the same, whatever else is asked, shown, cached or in flight."""

from collections.abc import Mapping
from random import Random

import pytest
from tests.integration.api.helpers.corpus import WORDS
from tests.integration.api.helpers.served import CALL_S, Api

from quarry.v1 import search_service_pb2 as pb

TOLERANCE = 1e-4
QUERY = "barata deneli matige"
DEEP = [{"name": "bm25", "depth": 1_000}, {"name": "dense", "depth": 1_000}]

Scores = dict[str, tuple[float, ...]]


def scores(answer: pb.SearchResponse) -> Scores:
    """Of each hit: fused, and raw by arm, and the re-ranker's."""
    assert not answer.degraded
    return {
        hit.document.id: (
            hit.explanation.fused_score,
            *(arm.score for arm in hit.explanation.arms),
            hit.explanation.rerank_score,
        )
        for hit in answer.hits
    }


def assert_same(found: Scores, reference: Mapping[str, tuple[float, ...]]) -> None:
    assert found
    for id, values in found.items():
        assert values == pytest.approx(reference[id], abs=TOLERANCE), id


def neighbours(count: int) -> list[str]:
    """Queries from one word to more than the encoder reads."""
    random = Random(count)
    return [" ".join(random.choices(WORDS, k=random.choice([1, 3, 8, 40]))) for _ in range(count)]


@pytest.mark.parametrize("fusion", [pb.Fusion(), pb.Fusion(rrf={})], ids=["sum", "rrf"])
def test_page_sizes_do_not_change_scores(api: Api, corpus: str, fusion: pb.Fusion) -> None:
    reference = scores(api.search(corpus, QUERY, explain=True, fusion=fusion, page_size=1_000))
    for size in (1, 3, 100):
        assert_same(scores(api.search(corpus, QUERY, explain=True, fusion=fusion, page_size=size)), reference)


@pytest.mark.parametrize("depth", [1, 5, 20, 400])
def test_depths_do_not_change_scores_of_a_weighted_sum(api: Api, corpus: str, depth: int) -> None:
    reference = scores(api.search(corpus, QUERY, explain=True, page_size=1_000, arms=DEEP))
    for depths in ((depth, depth), (depth, 50)):
        arms = [{"name": name, "depth": d} for name, d in zip(("bm25", "dense"), depths, strict=True)]
        assert_same(scores(api.search(corpus, QUERY, explain=True, page_size=1_000, arms=arms)), reference)


def test_filters_do_not_change_scores(api: Api, corpus: str) -> None:
    reference = scores(api.search(corpus, QUERY, explain=True, page_size=1_000, arms=DEEP))
    filter = {"exists": {"field": "tag"}}
    assert_same(scores(api.search(corpus, QUERY, explain=True, page_size=1_000, filter=filter)), reference)


@pytest.mark.parametrize("collection", ["corpus", "reranked"])
def test_strangers_queries_do_not_change_scores(
    api: Api, collection: str, request: pytest.FixtureRequest
) -> None:
    name = request.getfixturevalue(collection)
    mine = pb.SearchRequest(collection=name, query=QUERY, explain=True, page_size=50, rerank={"depth": 10})
    reference = scores(api.searches.Search(mine, timeout=CALL_S))
    assert_same(scores(api.searches.Search(mine, timeout=CALL_S)), reference)
    others = [
        pb.SearchRequest(collection=name, query=text, explain=True, page_size=50, rerank={"depth": depth})
        for depth, text in enumerate(neighbours(32), 1)
    ]
    alone = [scores_of_any(api.searches.Search(other, timeout=CALL_S)) for other in others]
    for _ in range(2):
        calls = [api.searches.Search.future(r, timeout=CALL_S) for r in (*others, mine)]
        together = [call.result() for call in calls]
        assert_same(scores(together[-1]), reference)
        for answer, expected in zip(together, alone, strict=False):
            assert_same(scores_of_any(answer), expected)


def scores_of_any(answer: pb.SearchResponse) -> Scores:
    """As ``scores``, of a query that may be too long for the encoder."""
    assert {d.reason for d in answer.degraded} <= {pb.DEGRADATION_REASON_TRUNCATED_QUERY}
    del answer.degraded[:]
    return scores(answer)


def test_the_depth_of_reranking_does_not_change_its_scores(api: Api, reranked: str) -> None:
    def by_depth(depth: int) -> dict[str, float]:
        answer = api.search(reranked, QUERY, explain=True, page_size=100, rerank={"depth": depth})
        assert answer.reranker
        found = {
            hit.document.id: hit.explanation.rerank_score
            for hit in answer.hits
            if hit.explanation.HasField("rerank_score")
        }
        assert len(found) == min(depth, len(answer.hits))
        return found

    reference = by_depth(100)
    for depth in (1, 2, 7, 33):
        assert by_depth(depth) == pytest.approx({id: reference[id] for id in by_depth(depth)}, abs=TOLERANCE)


def test_reranked_hits_are_in_order_of_their_scores_and_the_rest_as_fused(api: Api, reranked: str) -> None:
    fused = [h.document.id for h in api.search(reranked, QUERY, rerank={"disabled": True}, page_size=50).hits]
    answer = api.search(reranked, QUERY, explain=True, page_size=50, rerank={"depth": 12})
    ids = [hit.document.id for hit in answer.hits]
    assert sorted(ids[:12]) == sorted(fused[:12])
    assert ids[12:] == fused[12:]
    first = [hit.score for hit in answer.hits[:12]]
    assert first == sorted(first, reverse=True)
    assert [hit.explanation.fused_rank for hit in answer.hits] == [fused.index(id) + 1 for id in ids]


def test_a_query_that_the_encoder_cuts_is_flagged(api: Api, corpus: str) -> None:
    answer = api.search(corpus, " ".join(WORDS * 5))
    (flag,) = answer.degraded
    assert (flag.arm, flag.reason) == ("dense", pb.DEGRADATION_REASON_TRUNCATED_QUERY)
    assert api.search(corpus, " ".join(WORDS * 5), require_complete=True).hits
