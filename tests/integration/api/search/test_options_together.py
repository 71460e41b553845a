"""Options of one search beside each other: what is shown, counted, ordered, asked and shaped."""

from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from tests.integration.api.helpers.served import Api, refused

from quarry.v1 import collection_service_pb2 as schemas
from quarry.v1 import search_service_pb2 as pb

ADVANCED: Any = pb.QUERY_SYNTAX_ADVANCED
KINDS = ["kettle", "samovar", "espresso"]
DOCUMENTS: dict[str, dict[str, Any]] = {
    f"{kind}-{n:02}": {
        "title": f"{kind} {n}",
        "text": f"how to boil water in a {kind}, for the big {'red' if n % 2 else 'blue'} pot",
        "kind": kind,
        "rank": n,
    }
    for kind in KINDS
    for n in range(10)
}
BY_RANK: dict[str, Any] = {"order_by": [{"field": "rank", "descending": True}]}
BY_KIND: dict[str, Any] = {"facets": [{"field": "kind"}]}
RULES = [schemas.SynonymRule(phrases=["urn", "samovar"])]


@pytest.fixture(scope="module")
def kitchen(api: Api) -> str:
    schema = schemas.Schema()
    for name, kind in {"title": 1, "text": 1, "kind": 2, "rank": 3}.items():
        schema.fields.add(name=name, type=kind, is_title=name == "title")  # type: ignore[arg-type]
    api.create("kitchen", schema=schema)
    api.upsert("kitchen", DOCUMENTS)
    api.collections.SetVocabulary(
        schemas.SetVocabularyRequest(
            collection="kitchen",
            vocabulary=schemas.Vocabulary(synonyms=RULES),
            update_mask=FieldMask(paths=["synonyms"]),
        )
    )
    return "kitchen"


def count(answer: pb.SearchResponse) -> dict[str, int]:
    (facet,) = answer.facets
    return {counted.value.string_value: counted.count for counted in facet.counts}


def list_ids(api: Api, query: str, **settings: Any) -> list[str]:
    """Lists the ids of all pages."""
    ids: list[str] = []
    token = ""
    while True:
        answer = api.search("kitchen", query, page_size=4, page_token=token, **settings)
        ids += [hit.document.id for hit in answer.hits]
        token = answer.next_page_token
        if not token:
            assert answer.total.count == len(ids)
            return ids


def list_marked(api: Api, query: str, field: str = "text", **settings: Any) -> set[str]:
    """Lists what is marked in the hits of all documents, on two pages."""
    marked: set[str] = set()
    token = ""
    while True:
        answer = api.search(
            "kitchen", query, page_size=20, page_token=token, snippets={"length": 300}, **settings
        )
        for snippet in (snippet for hit in answer.hits for snippet in hit.snippets):
            for fragment in snippet.fragments if snippet.field == field else ():
                marked |= {fragment.text[h.start :][: h.length] for h in fragment.highlights}
        token = answer.next_page_token
        if not token:
            return marked


@pytest.mark.parametrize(
    ("query", "words", "settings"),
    [
        ("boiling pots", {"boil", "pot"}, {}),
        ("boil -samovar red", {"boil", "red"}, {"syntax": ADVANCED}),
        ('+"boil water" -red', {"boil", "water"}, {"syntax": ADVANCED}),
        ("ket* -blue", {"kettle"}, {"syntax": ADVANCED}),
        ("title:samovar +pot", {"pot"}, {"syntax": ADVANCED}),
        ("expresso~", {"espresso"}, {"syntax": ADVANCED}),
        ("expresso", {"espresso"}, {"typo_tolerance": True}),
        ("expresso", set(), {}),
        ("urn", {"samovar"}, {}),
        ("", set(), {}),
    ],
)
@pytest.mark.parametrize("order", [{}, BY_RANK])
def test_snippets_mark_what_was_found(
    api: Api, kitchen: str, query: str, words: set[str], settings: dict[str, Any], order: dict[str, Any]
) -> None:
    assert list_marked(api, query, **settings, **order) == words


def test_snippets_of_what_is_like_a_document_mark_its_key_terms(api: Api, kitchen: str) -> None:
    marked = list_marked(api, "", more_like="kettle-03")
    assert {"kettle", "red"} <= marked
    assert not marked & {"the", "for"}


@pytest.mark.parametrize("query", ["", "water"])
def test_facets_leave_out_what_is_excluded_as_total_does(api: Api, kitchen: str, query: str) -> None:
    hidden = ["kettle-01", "kettle-02", "samovar-05", "nowhere"]
    for more in ({}, BY_RANK):
        answer = api.search(kitchen, query, exclude_ids=hidden, **BY_KIND, **more)
        assert count(answer) == {"espresso": 10, "samovar": 9, "kettle": 8}
        assert answer.total.count == 27


def test_facets_of_what_is_like_a_document_count_as_total_does(api: Api, kitchen: str) -> None:
    answer = api.search(kitchen, "", more_like="kettle-03", exclude_ids=["kettle-04"], **BY_KIND)
    counted = count(answer)
    assert sum(counted.values()) == answer.total.count
    assert counted["kettle"] == 8


def test_facets_hold_what_a_query_requires_and_excludes(api: Api, kitchen: str) -> None:
    for query, expected in [
        ("boil -samovar", {"kettle": 10, "espresso": 10}),
        ("+title:samovar water", {"samovar": 10}),
        ("kett*", {"kettle": 10}),
        ("+zeppelin water", {}),
    ]:
        for more in ({}, BY_RANK):
            answer = api.search(kitchen, query, syntax=ADVANCED, **BY_KIND, **more)
            assert count(answer) == expected, query
            assert answer.total.count == sum(expected.values())
    assert count(api.search(kitchen, "urn", **BY_KIND)) == {"samovar": 10}
    assert count(api.search(kitchen, "expresso", typo_tolerance=True, **BY_KIND)) == {"espresso": 10}


def test_facets_count_documents_where_groups_are_shown(api: Api, kitchen: str) -> None:
    collapse = {"field": "kind", "members": 2}
    answer = api.search(kitchen, "water", collapse=collapse, snippets={}, **BY_KIND)
    assert {hit.document.fields["kind"].string_value for hit in answer.hits} == set(KINDS)
    assert count(answer) == dict.fromkeys(KINDS, 10)
    assert all(len(hit.snippets) == 2 and len(hit.members) == 2 for hit in answer.hits)
    assert "snippets" not in pb.GroupMember.DESCRIPTOR.fields_by_name


def test_an_order_has_what_a_query_requires_and_leaves_out_what_is_excluded(api: Api, kitchen: str) -> None:
    ranked = sorted(DOCUMENTS, key=lambda id: (-DOCUMENTS[id]["rank"], id))
    shown = list_ids(api, "boil -samovar", syntax=ADVANCED, **BY_RANK)
    assert shown == [id for id in ranked if not id.startswith("samovar")]
    assert list_ids(api, "urn", **BY_RANK) == [id for id in ranked if id.startswith("samovar")]
    shown = list_ids(api, "expresso", typo_tolerance=True, exclude_ids=["espresso-08"], **BY_RANK)
    assert shown == [id for id in ranked if id.startswith("espresso") and id != "espresso-08"]
    assert list_ids(api, "", exclude_ids=ranked[2:7], **BY_RANK) == [*ranked[:2], *ranked[7:]]
    answer = api.search(kitchen, "+kettle red", syntax=ADVANCED, **BY_RANK)
    assert all(hit.score > 0 for hit in answer.hits)
    assert (answer.reach.count, answer.reach.limit) == (10, pb.REACH_LIMIT_NONE)


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("collapse", {"collapse": {"field": "kind"}}),
        ("diversity", {"diversity": {}}),
        ("boosts", {"boosts": [{"filter": {"exists": {"field": "kind"}}, "weight": 1}]}),
        ("pinned_ids", {"pinned_ids": ["kettle-01"]}),
        ("more_like", {"more_like": "kettle-01"}),
    ],
)
def test_an_order_refuses_what_orders_by_itself(
    api: Api, kitchen: str, field: str, settings: dict[str, Any]
) -> None:
    query = "" if field == "more_like" else "water"
    request = pb.SearchRequest(collection=kitchen, query=query, **BY_RANK, **settings)
    told = refused(api.searches.Search, request)
    assert (told.reason, told.field) == ("CONFLICTING_FIELDS", field)
    assert "order_by" in told.message
