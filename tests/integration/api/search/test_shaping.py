"""What a search asks of its list beside the query, over a real server with both arms and a re-ranker."""

import itertools
import time
from collections import defaultdict
from pathlib import Path
from random import Random
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from tests.integration.api.helpers.corpus import WORDS, equals
from tests.integration.api.helpers.served import Api, field_value, refused

from quarry.v1 import collection_service_pb2 as collections_pb
from quarry.v1 import search_service_pb2 as pb

SIZE, DAY_S = 240, 86_400
QUERY = "deneli gosopu barata"
BRANDS = ["ant", "bee", "cat", "dog", "elk"]
TYPES = {"title": 1, "text": 1, "brand": 2, "shelf": 3, "tags": 2, "written": 6}
SCHEMA = collections_pb.Schema()
for name, kind in TYPES.items():
    SCHEMA.fields.add(name=name, type=kind, is_title=name == "title")  # type: ignore[arg-type]


def make_documents() -> dict[str, dict[str, Any]]:
    """Documents of which more match the query than the arms give; one in five has no brand."""
    random, now = Random(18), int(time.time())
    made: dict[str, dict[str, Any]] = {}
    for number in range(SIZE):
        fields: dict[str, Any] = {
            "title": random.choice(WORDS),
            "text": " ".join(random.choices(WORDS, k=random.randint(5, 40))),
            "shelf": number // 40,
            "tags": random.sample(BRANDS, 2),
            "written": Timestamp(seconds=now - number * DAY_S),
        }
        if random.random() < 0.8:
            fields["brand"] = random.choice(BRANDS)
        made[f"d{number}"] = fields
    return made


DOCUMENTS = make_documents()
BEE = equals("brand", field_value("bee"))


@pytest.fixture(scope="session")
def shop(api: Api) -> str:
    api.create("shop", schema=SCHEMA)
    api.upsert("shop", DOCUMENTS)
    return "shop"


@pytest.fixture(scope="session")
def read_shop(api: Api, cross_encoder_folder: Path) -> str:
    """The same with a re-ranker."""
    api.create("read-shop", schema=SCHEMA, reranker=str(cross_encoder_folder))
    api.upsert("read-shop", DOCUMENTS)
    return "read-shop"


@pytest.fixture(scope="session")
def words_alone(api: Api) -> str:
    """A collection without an encoder."""
    api.create("words-alone", schema=SCHEMA, encoder="none")
    api.upsert("words-alone", DOCUMENTS)
    return "words-alone"


def ids(answer: pb.SearchResponse) -> list[str]:
    return [hit.document.id for hit in answer.hits]


def read_pages(api: Api, collection: str, query: str, size: int, **asked: Any) -> list[pb.Hit]:
    """Reads all hits, some at a time; what the first page counts must be there."""
    hits: list[pb.Hit] = []
    first = answer = api.search(collection, query, page_size=size, **asked)
    while True:
        hits += answer.hits
        assert answer.reach == first.reach
        assert answer.total == first.total
        if not answer.next_page_token:
            break
        answer = api.search(collection, query, page_size=size, page_token=answer.next_page_token, **asked)
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
    assert first.reach.count == len(hits)
    return hits


def never_rises(hits: list[pb.Hit]) -> bool:
    merits = [hit.score for hit in hits if not hit.pinned]
    return all(above >= below for above, below in itertools.pairwise(merits))


MONTHLY = {"field": "written", "half_life": {"seconds": 30 * DAY_S}}
SHAPES: dict[str, dict[str, Any]] = {
    "pins": {"pinned_ids": ["d77", "d3", "nobody"], "exclude_ids": ["d1", "d2", "d30"]},
    "groups": {"collapse": {"field": "brand", "members": 3}},
    "boosts": {
        "boosts": [
            {"filter": BEE, "weight": 2},
            {
                "freshness": {"field": "written", "half_life": {"seconds": 30 * DAY_S}},
                "weight": 1,
                "mode": "BOOST_MODE_ADD",
            },
        ]
    },
    "diversity": {"diversity": {"relevance_weight": 0.3, "depth": 20}},
    "all": {
        "pinned_ids": ["d77"],
        "exclude_ids": ["d1"],
        "collapse": {"field": "title"},
        "boosts": [{"filter": BEE, "weight": -0.5}],
        "diversity": {},
    },
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["shop", "read_shop"])
@pytest.mark.parametrize("filtered", [False, True], ids=["all", "filtered"])
def test_the_size_of_a_page_changes_nothing(
    api: Api, request: pytest.FixtureRequest, name: str, shape: str, filtered: bool
) -> None:
    collection = request.getfixturevalue(name)
    bound = {"gte": field_value(1)}
    asked = {**SHAPES[shape], **({"filter": {"range": {"field": "shelf", **bound}}} if filtered else {})}
    whole = read_pages(api, collection, QUERY, 1_000, **asked)
    assert len(whole) > (5 if "collapse" in asked else 100)
    assert never_rises(whole)
    assert len({hit.document.id for hit in whole}) == len(whole)
    gone = set(asked.get("exclude_ids", ()))
    assert not gone.intersection(hit.document.id for hit in whole)
    if shape == "boosts":
        return  # time goes on between two searches
    for size in (7, 100):
        found = read_pages(api, collection, QUERY, size, **asked)
        assert [hit.document.id for hit in found] == [hit.document.id for hit in whole]


@pytest.mark.parametrize("query", [QUERY, "deneli", "nonsense"])
def test_totals_stay_true_when_documents_are_hidden_and_pinned(api: Api, shop: str, query: str) -> None:
    plain = api.search(shop, query, page_size=1_000)
    hidden = [*ids(plain)[:5], "nobody"]
    words = set(query.split())
    matching = {id for id, d in DOCUMENTS.items() if words & set(f"{d['title']} {d['text']}".split())}
    assert plain.total.count == len(matching)
    shaped = api.search(shop, query, page_size=1_000, exclude_ids=hidden, pinned_ids=["d200", "d7"])
    assert shaped.total.count == len(matching - set(hidden))
    assert shaped.total.relation == pb.TOTAL_RELATION_EXACT
    assert shaped.reach.count == len(shaped.hits)
    found = [hit for hit in shaped.hits if hit.scored_by != pb.SCORE_BASIS_PINNED]
    by_meaning = [hit for hit in found if hit.document.id not in matching]
    assert shaped.found_by_meaning.count == len(by_meaning)
    assert [hit.pinned for hit in shaped.hits][:3] == [True, True, False]
    assert shaped.reach.limit == pb.REACH_LIMIT_NONE


def test_what_cannot_be_pinned_is_named_with_its_reason(api: Api, shop: str) -> None:
    shelf = {"equal_to": {"field": "shelf", "value": field_value(0)}}
    found = api.search(shop, QUERY, pinned_ids=["d239", "d39", "nobody"], filter=shelf)
    assert ids(found)[0] == "d39"
    assert [(one.document_id, one.reason) for one in found.not_pinned] == [
        ("d239", pb.NOT_PINNED_REASON_FILTERED),
        ("nobody", pb.NOT_PINNED_REASON_NOT_FOUND),
    ]


def test_browsing_pins_and_hides(api: Api, shop: str) -> None:
    hits = read_pages(api, shop, "", 100, pinned_ids=["d9", "d2"], exclude_ids=["d0"])
    rest = [f"d{n}" for n in range(SIZE) if n not in (0, 2, 9)]
    assert [hit.document.id for hit in hits] == ["d9", "d2", *rest]


def test_a_group_shows_its_best_hit_and_counts_the_others(api: Api, read_shop: str) -> None:
    plain = api.search(read_shop, QUERY, page_size=1_000)
    groups: dict[str, list[str]] = defaultdict(list)
    for id in ids(plain):
        groups[DOCUMENTS[id].get("brand", id)].append(id)
    found = api.search(read_shop, QUERY, page_size=1_000, collapse={"field": "brand", "members": 2})
    assert ids(found) == [group[0] for group in groups.values()]
    assert [hit.collapsed for hit in found.hits] == [len(group) - 1 for group in groups.values()]
    shown = [[member.document.id for member in hit.members] for hit in found.hits]
    assert shown == [group[1:3] for group in groups.values()]
    assert found.total == plain.total
    assert all(hit.score >= member.score for hit in found.hits for member in hit.members)


def test_a_pinned_document_stands_for_its_group_and_is_shown_once(api: Api, read_shop: str) -> None:
    plain = api.search(read_shop, QUERY, page_size=1_000)
    pin = next(hit for hit in plain.hits[20:] if DOCUMENTS[hit.document.id].get("brand") == "bee")
    asked: dict[str, Any] = {"collapse": {"field": "brand", "members": 2}, "pinned_ids": [pin.document.id]}
    collapsed = api.search(read_shop, QUERY, collapse=asked["collapse"])
    found = api.search(read_shop, QUERY, page_size=1_000, **asked)
    shown = [id for hit in found.hits for id in (hit.document.id, *(m.document.id for m in hit.members))]
    assert len(set(shown)) == len(shown)
    assert (found.hits[0].score, found.hits[0].scored_by) == (pin.score, pin.scored_by)
    bees = [id for id in ids(plain) if DOCUMENTS[id].get("brand") == "bee" and id != pin.document.id]
    assert [member.document.id for member in found.hits[0].members] == bees[:2]
    assert found.hits[0].collapsed == len(bees)
    assert found.reach.count == collapsed.reach.count


def test_boosts_are_explained_and_move_what_they_should(api: Api, shop: str) -> None:
    boost = {"filter": BEE, "weight": 1.0}
    plain = {hit.document.id: hit for hit in api.search(shop, QUERY, page_size=1_000).hits}
    found = api.search(shop, QUERY, page_size=1_000, boosts=[boost], explain=True)
    assert set(ids(found)) == set(plain)
    for hit in found.hits:
        is_bee = DOCUMENTS[hit.document.id].get("brand") == "bee"
        factor = 2.0 if is_bee else 1.0
        assert hit.score == pytest.approx(plain[hit.document.id].score * factor / 2, abs=1e-6)
        assert [(e.boost, e.effect) for e in hit.explanation.boosts] == ([(0, 2.0)] if is_bee else [])


def test_what_is_fresh_comes_first(api: Api, shop: str) -> None:
    fresh = {"field": "written", "half_life": {"seconds": DAY_S}}
    found = api.search(shop, QUERY, boosts=[{"freshness": fresh, "weight": 10}], explain=True)
    first = found.hits[0]
    assert int(first.document.id[1:]) < 10
    (effect,) = first.explanation.boosts
    age_s = time.time() - DOCUMENTS[first.document.id]["written"].seconds
    assert effect.strength == pytest.approx(0.5 ** (age_s / DAY_S), rel=0.01)


def test_a_great_number_moves_up_and_is_explained(api: Api, shop: str) -> None:
    boost = {"popularity": {"field": "shelf", "half": 3}, "weight": 10}
    plain = {hit.document.id: hit for hit in api.search(shop, QUERY, page_size=1_000).hits}
    found = api.search(shop, QUERY, page_size=1_000, boosts=[boost], explain=True)
    assert set(ids(found)) == set(plain)
    assert never_rises(list(found.hits))
    for hit in found.hits:
        shelf = DOCUMENTS[hit.document.id]["shelf"]
        strength = shelf / (shelf + 3)
        expected = plain[hit.document.id].score * (1 + 10 * strength) / 11
        assert hit.score == pytest.approx(expected, abs=1e-6)
        effects = [(effect.strength, effect.effect) for effect in hit.explanation.boosts]
        assert effects == ([pytest.approx((strength, 1 + 10 * strength))] if shelf else [])
    assert read_pages(api, shop, QUERY, 100, boosts=[boost])[0].document.id == ids(found)[0]


def test_diversity_changes_the_order_and_says_how_similar_hits_are(api: Api, shop: str) -> None:
    plain = api.search(shop, QUERY, page_size=20)
    found = api.search(shop, QUERY, page_size=20, diversity={"relevance_weight": 0.2}, explain=True)
    assert sorted(ids(found)) == sorted(ids(plain))
    assert ids(found)[0] == ids(plain)[0]
    assert ids(found) != ids(plain)
    assert found.hits[0].explanation.similarity == 0
    assert all(0 <= hit.explanation.similarity <= 1 for hit in found.hits)
    same = api.search(shop, QUERY, page_size=20, diversity={"relevance_weight": 1})
    assert ids(same) == ids(plain)


def test_what_is_like_a_document_is_found_by_its_vector_and_words(
    api: Api, shop: str, words_alone: str
) -> None:
    api.upsert(shop, {"copy": {**DOCUMENTS["d5"], "brand": "copied"}})
    try:
        found = api.search(shop, more_like="d5", explain=True)
        assert ids(found)[0] == "copy"
        assert "d5" not in ids(found)
        arms = {arm.arm: arm for arm in found.hits[0].explanation.arms}
        assert arms["dense"].score == pytest.approx(1.0, abs=0.02)
        assert arms["bm25"].rank == 2, "the document itself is first there"
        hits = read_pages(api, shop, "", 30, more_like="d5", exclude_ids=["copy"])
        assert not {"d5", "copy"}.intersection(hit.document.id for hit in hits)
        assert never_rises(hits)
    finally:
        api.delete(shop, "copy")
    assert len(api.search(words_alone, more_like="d5").hits) == 10


def test_a_deleted_document_is_neither_pinned_nor_like_anything(api: Api, shop: str) -> None:
    api.upsert(shop, {"short-lived": {"title": "barata", "text": "barata", "shelf": 1}})
    api.delete(shop, "short-lived")
    found = api.search(shop, QUERY, pinned_ids=["short-lived"])
    assert [one.document_id for one in found.not_pinned] == ["short-lived"]
    failure = refused(api.searches.Search, pb.SearchRequest(collection=shop, more_like="short-lived"))
    assert (failure.code, failure.reason) == (grpc.StatusCode.NOT_FOUND, "DOCUMENT_NOT_FOUND")


def test_an_empty_collection_takes_every_shape(api: Api) -> None:
    api.create("empty-shop", schema=SCHEMA)
    for shape in SHAPES.values():
        found = api.search("empty-shop", QUERY, **shape)
        assert (len(found.hits), found.total.count, found.reach.count) == (0, 0, 0)


def test_without_vectors_diversity_is_refused(api: Api, words_alone: str) -> None:
    request = pb.SearchRequest(collection=words_alone, query=QUERY, diversity={})
    failure = refused(api.searches.Search, request)
    assert (failure.code, failure.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_VECTORS")


FRESH = {"field": "written", "half_life": {"seconds": 60}}
UNKNOWN = {"filter": {"exists": {"field": "nope"}}, "weight": 1}
UNDATED = {"freshness": {**FRESH, "field": "brand"}, "weight": 1}
AGELESS = {"freshness": {"field": "written"}, "weight": 1}


def make_popular(field: str, half: float = 3) -> dict[str, Any]:
    return {"popularity": {"field": field, "half": half}, "weight": 1}


def make_fresh(seconds: int) -> dict[str, Any]:
    return {"freshness": {"field": "written", "half_life": {"seconds": seconds}}, "weight": 1}


RANGE, TYPE, CONFLICT = "VALUE_OUT_OF_RANGE", "WRONG_TYPE", "CONFLICTING_FIELDS"


@pytest.mark.parametrize(
    ("asked", "field", "reason"),
    [
        ({"pinned_ids": [str(n) for n in range(10_000)]}, "pinned_ids", RANGE),
        ({"pinned_ids": ["a", "a"]}, "pinned_ids[1]", "DUPLICATE"),
        ({"pinned_ids": ["a"], "exclude_ids": ["a"]}, "pinned_ids[0]", CONFLICT),
        ({"pinned_ids": [""]}, "pinned_ids[0]", "REQUIRED"),
        ({"exclude_ids": [str(n) for n in range(1_001)]}, "exclude_ids", RANGE),
        ({"collapse": {}}, "collapse.field", "REQUIRED"),
        ({"collapse": {"field": "nope"}}, "collapse.field", "UNKNOWN_FIELD"),
        ({"collapse": {"field": "text"}}, "collapse.field", TYPE),
        ({"collapse": {"field": "tags"}}, "collapse.field", TYPE),
        ({"collapse": {"field": "written"}}, "collapse.field", TYPE),
        ({"collapse": {"field": "brand", "members": 11}}, "collapse.members", RANGE),
        ({"diversity": {"relevance_weight": 0}}, "diversity.relevance_weight", RANGE),
        ({"diversity": {"depth": 101}}, "diversity.depth", RANGE),
        ({"boosts": [{"weight": 1}]}, "boosts[0].filter", "REQUIRED"),
        ({"boosts": [{"filter": BEE}]}, "boosts[0].weight", RANGE),
        ({"boosts": [{"filter": BEE, "weight": float("nan")}]}, "boosts[0].weight", RANGE),
        ({"boosts": [{"filter": BEE, "weight": 1, "mode": 9}]}, "boosts[0].mode", "UNKNOWN_VALUE"),
        ({"boosts": [UNKNOWN]}, "boosts[0].filter.exists.field", "UNKNOWN_FIELD"),
        ({"boosts": [UNDATED]}, "boosts[0].freshness.field", TYPE),
        ({"boosts": [AGELESS]}, "boosts[0].freshness.half_life", RANGE),
        ({"boosts": [make_fresh(315_576_000_001)]}, "boosts[0].freshness.half_life", RANGE),
        ({"boosts": [make_fresh(2**53)]}, "boosts[0].freshness.half_life", RANGE),
        ({"boosts": [make_fresh(2**62)]}, "boosts[0].freshness.half_life", RANGE),
        ({"boosts": [make_fresh(-(2**62))]}, "boosts[0].freshness.half_life", RANGE),
        ({"boosts": [make_popular("brand")]}, "boosts[0].popularity.field", TYPE),
        ({"boosts": [make_popular("nope")]}, "boosts[0].popularity.field", "UNKNOWN_FIELD"),
        ({"boosts": [make_popular("shelf", 0)]}, "boosts[0].popularity.half", RANGE),
        ({"boosts": [make_popular("shelf", float("inf"))]}, "boosts[0].popularity.half", RANGE),
        ({"boosts": [make_popular("shelf", float("nan"))]}, "boosts[0].popularity.half", RANGE),
        ({"query": "", "collapse": {"field": "brand"}}, "collapse", CONFLICT),
        ({"query": "", "diversity": {}}, "diversity", CONFLICT),
        ({"query": "", "boosts": [{"filter": BEE, "weight": 1}]}, "boosts", CONFLICT),
        ({"more_like": "d5"}, "more_like", CONFLICT),
        ({"query": "", "more_like": "d5", "rerank": {"depth": 3}}, "rerank", CONFLICT),
        ({"query": "", "more_like": "d5", "min_relevance": 0.5}, "min_relevance", CONFLICT),
        ({"query": "", "more_like": "d5", "pinned_ids": ["d5"]}, "pinned_ids[0]", CONFLICT),
    ],
)  # fmt: skip
def test_a_wrong_request_is_named(
    api: Api, shop: str, asked: dict[str, Any], field: str, reason: str
) -> None:
    failure = refused(api.searches.Search, pb.SearchRequest(**{"collection": shop, "query": QUERY, **asked}))
    assert (failure.field, failure.reason) == (field, reason)


def test_a_token_belongs_to_the_shape_that_it_was_given_for(api: Api, shop: str) -> None:
    first = api.search(shop, QUERY, page_size=2, pinned_ids=["d5"])
    request = pb.SearchRequest(
        collection=shop, query=QUERY, pinned_ids=["d6"], page_token=first.next_page_token
    )
    assert refused(api.searches.Search, request).reason == "INVALID_TOKEN"
