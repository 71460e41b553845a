"""Pages of a search: one ranked list, cut as the caller likes."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.api.helpers.corpus import SIZE, seeded_documents
from tests.integration.api.helpers.served import Api, refused, served, tiny_settings

from quarry.ranking.queries import DEFAULT_DEPTH
from quarry.v1 import search_service_pb2 as pb


def pages(api: Api, collection: str, query: str, sizes: list[int], **changes: object) -> list[pb.Hit]:
    """All hits, by pages of these sizes in turn."""
    hits: list[pb.Hit] = []
    token, turn = "", 0
    while True:
        size = sizes[turn % len(sizes)]
        answer = api.search(collection, query, page_size=size, page_token=token, **changes)
        assert len(answer.hits) <= size
        hits += answer.hits
        token, turn = answer.next_page_token, turn + 1
        if not token:
            return hits


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=4), query=st.sampled_from(["", "barata deneli"])
)
def test_page_sizes_do_not_change_the_order(api: Api, corpus: str, sizes: list[int], query: str) -> None:
    whole = list(api.search(corpus, query, page_size=1_000).hits)
    cut = pages(api, corpus, query, sizes)
    assert [(hit.document.id, hit.rank) for hit in cut] == [(hit.document.id, hit.rank) for hit in whole]
    assert [hit.score for hit in cut] == pytest.approx([hit.score for hit in whole], abs=1e-6)


def test_reranked_pages_come_from_one_list(api: Api, reranked: str) -> None:
    whole = api.search(reranked, "barata deneli", page_size=1_000, rerank={"depth": 20}).hits
    cut = pages(api, reranked, "barata deneli", [3, 7], rerank={"depth": 20})
    assert [hit.document.id for hit in cut] == [hit.document.id for hit in whole]


@pytest.mark.parametrize("query", ["", "barata deneli"])
def test_writes_between_pages_neither_repeat_nor_hide(
    api: Api, new_name: Callable[[], str], query: str
) -> None:
    """Later pages show the first page's list, less what has been deleted since. Browsing also shows what was
    written since, at the end."""
    name = api.create(new_name()).name
    documents = seeded_documents(seed=3, size=60)
    api.upsert(name, documents)
    listed = [hit.document.id for hit in api.search(name, query, page_size=1_000).hits]
    random = Random(3)
    shown: list[str] = []
    deleted: dict[str, int] = {}
    answer = api.search(name, query, page_size=7)
    first = answer.search_id
    while True:
        shown += [hit.document.id for hit in answer.hits]
        ranks = [hit.rank for hit in answer.hits]
        if query:
            assert [listed.index(hit.document.id) + 1 for hit in answer.hits] == ranks
        assert ranks == sorted(set(ranks))
        if not answer.next_page_token:
            break
        gone = random.choice([id for id in listed if id not in deleted])
        deleted[gone] = len(shown)
        api.delete(name, gone)
        api.upsert(name, {f"new{len(shown)}": {"text": "barata deneli"}, "d000": {"text": "changed"}})
        if gone == "d000":
            deleted.pop("d000")
        answer = api.search(name, query, page_size=7, page_token=answer.next_page_token)
        assert answer.search_id == first
    still = [id for id in listed if id in shown or id not in deleted]
    assert [id for id in shown if not id.startswith("new")] == still
    written = [id for id in shown if id.startswith("new")]
    assert shown == still + written
    assert bool(written) is not bool(query)


MANY = 2_501


@pytest.fixture(scope="module")
def many(api: Api) -> str:
    """A collection of ``MANY`` documents, all but the first of which have a word."""
    name = api.create("many-to-page", encoder="none").name
    for start in range(0, MANY, 500):
        some = range(start, min(MANY, start + 500))
        api.upsert(name, {f"d{n:04}": {"text": "fox" if n else "owl"} for n in some})
    return name


def test_browsing_pages_to_the_end(api: Api, many: str) -> None:
    everything = [f"d{n:04}" for n in range(MANY)]
    for sizes in ([1_000], [999, 77]):
        hits = pages(api, many, "", sizes)
        assert [hit.document.id for hit in hits] == everything
        assert [hit.rank for hit in hits] == list(range(1, MANY + 1))
    first = api.search(many, "", page_size=10)
    assert (first.total.count, first.reach.count) == (MANY, MANY)
    assert first.reach.limit == pb.REACH_LIMIT_NONE


def test_what_matches_can_be_paged_as_far_as_the_answer_says(api: Api, many: str) -> None:
    exact = pb.TOTAL_RELATION_EXACT
    first = api.search(many, "fox", page_size=10)
    assert (first.total.count, first.found_by_meaning.count) == (MANY - 1, 0)
    assert first.reach == pb.Reach(count=1_000, relation=exact, limit=pb.REACH_LIMIT_LIST_SIZE)
    hits = pages(api, many, "fox", [300])
    assert len({hit.document.id for hit in hits}) == 1_000
    assert [hit.rank for hit in hits] == list(range(1, 1_001))
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert [hit.scored_by for hit in hits] == [pb.SCORE_BASIS_FUSED] * 100 + [pb.SCORE_BASIS_BM25] * 900
    stated = {"arms": [{"name": "bm25", "depth": 30}]}
    first = api.search(many, "fox", page_size=10, **stated)
    assert first.reach == pb.Reach(count=30, relation=exact, limit=pb.REACH_LIMIT_ARM_DEPTH)
    assert len(pages(api, many, "fox", [7], **stated)) == 30


def test_what_matches_a_word_and_what_is_found_by_meaning_are_counted_apart(api: Api, corpus: str) -> None:
    exact = pb.TOTAL_RELATION_EXACT
    answer = api.search(corpus, "zzyzx", page_size=1_000)
    assert (answer.total, len(answer.hits)) == (pb.Total(count=0, relation=exact), DEFAULT_DEPTH)
    assert answer.found_by_meaning == pb.Total(count=DEFAULT_DEPTH, relation=exact)
    assert answer.reach == pb.Reach(count=DEFAULT_DEPTH, relation=exact, limit=pb.REACH_LIMIT_NONE)
    for query in ("barata", "barata deneli", "neli zzyzx"):
        for changes in ({}, {"arms": [{"name": "bm25"}, {"name": "dense", "depth": 7}]}):
            answer = api.search(corpus, query, page_size=1_000, explain=True, **changes)
            by_meaning = [h for h in answer.hits if not h.explanation.arms[0].HasField("score")]
            assert answer.found_by_meaning == pb.Total(count=len(by_meaning), relation=exact)
            assert answer.reach.count == len(answer.hits)


def test_a_document_that_no_longer_passes_the_filter_is_not_on_later_pages(
    api: Api, new_name: Callable[[], str]
) -> None:
    schema = {"fields": [{"name": "text", "type": 1}, {"name": "tag", "type": 2}]}
    name = api.create(new_name(), schema=schema, encoder="none").name
    api.upsert(name, {f"d{n}": {"text": "word", "tag": "x"} for n in range(10)})
    filter = {"equal_to": {"field": "tag", "value": {"string_value": "x"}}}
    first = api.search(name, "word", page_size=5, filter=filter)
    api.upsert(name, {"d7": {"text": "word", "tag": "y"}})
    second = api.search(name, "word", page_size=5, filter=filter, page_token=first.next_page_token)
    assert [hit.document.id for hit in second.hits] == ["d5", "d6", "d8", "d9"]


def test_a_token_belongs_to_its_search(api: Api, corpus: str, reranked: str) -> None:
    token = api.search(corpus, "barata", page_size=5).next_page_token
    same = pb.SearchRequest(collection=corpus, query="barata", page_size=9, page_token=token)
    assert api.searches.Search(same, timeout=30).hits[0].rank == 6
    changes: list[dict[str, object]] = [
        {"query": "barata "},
        {"collection": reranked},
        {"filter": {"exists": {"field": "tag"}}},
        {"arms": [{"name": "bm25"}]},
        {"explain": True},
        {"return_fields": ["-"]},
        {"require_complete": True},
    ]
    for change in changes:
        request = pb.SearchRequest(**{"collection": corpus, "query": "barata", "page_token": token, **change})  # type: ignore[arg-type]
        failed = refused(api.searches.Search, request)
        assert (failed.code, failed.field) == (grpc.StatusCode.INVALID_ARGUMENT, "page_token")


def test_a_changed_token_is_refused(api: Api, corpus: str) -> None:
    token = api.search(corpus, "barata", page_size=5).next_page_token
    random = Random(5)
    for place in [*range(len(token)), *[len(token) - 1] * 20]:
        other = random.choice([c for c in "abcxyzABCXYZ0189-_=+/ \n" if c != token[place]])
        changed = token[:place] + other + token[place + 1 :]
        request = pb.SearchRequest(collection=corpus, query="barata", page_token=changed)
        failed = refused(api.searches.Search, request)
        assert (failed.code, failed.field) == (grpc.StatusCode.INVALID_ARGUMENT, "page_token")


def test_a_token_that_has_expired_never_ranks_again(tmp_path: Path, encoder_folder: Path) -> None:
    settings = tiny_settings(tmp_path, encoder_folder, search={"page_lifetime_s": 1e-9})
    with served(settings) as api:
        api.create("brief", encoder="none")
        api.upsert("brief", {"a": {"text": "word"}, "b": {"text": "word"}})
        token = api.search("brief", "word", page_size=1).next_page_token
        request = pb.SearchRequest(collection="brief", query="word", page_token=token)
        failed = refused(api.searches.Search, request)
        assert (failed.code, failed.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PAGE_EXPIRED")


def test_the_last_page_has_no_token(api: Api, corpus: str) -> None:
    assert not api.search(corpus, "", page_size=SIZE).next_page_token
    assert api.search(corpus, "", page_size=SIZE - 1).next_page_token
