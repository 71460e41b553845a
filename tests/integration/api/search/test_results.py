"""Snippets, facets and an order by fields, over a real server with both arms."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from tests.integration.api.helpers.served import Api, Failure, refused

from quarry.v1 import collection_service_pb2 as schemas
from quarry.v1 import search_service_pb2 as pb
from quarry.v1 import types_pb2

COUNT = 250
HOSTILE = "<img src=x onerror=\"alert('fox')\"> & </title>"


def make_schema() -> schemas.Schema:
    kinds = {"text": "TEXT", "title": "TEXT", "tag": "KEYWORD", "count": "INTEGER", "price": "FLOAT"}
    kinds |= {"sale": "BOOLEAN", "time": "TIMESTAMP"}
    fields = [
        schemas.SchemaField(
            name=name,
            type=schemas.SchemaFieldType.Value(f"SCHEMA_FIELD_TYPE_{kind}"),
            is_title=name == "title",
        )
        for name, kind in kinds.items()
    ]
    return schemas.Schema(fields=fields)


def make_document(n: int) -> dict[str, Any]:
    moment = Timestamp(seconds=n * 86_400 * 10)
    fields: dict[str, Any] = {"text": f"fox number {n}" if n % 2 else f"hedgehog {n}", "time": moment}
    fields |= {"tag": ["a", f"t{n % 7}"], "sale": n % 3 == 0}
    return fields | ({"count": n % 11} if n % 5 else {})


@pytest.fixture(scope="module")
def shop(api: Api) -> str:
    """A collection with both arms; only read."""
    api.create("counted", schema=make_schema())
    api.upsert("counted", {f"d{n:03}": make_document(n) for n in range(COUNT)})
    return "counted"


@pytest.fixture
def own(api: Api, new_name: Callable[[], str]) -> str:
    return api.create(new_name(), schema=make_schema()).name


def list_ids(api: Api, collection: str, query: str, sizes: list[int], **changes: Any) -> list[str]:
    ids: list[str] = []
    token, turn = "", 0
    while True:
        size = sizes[turn % len(sizes)]
        answer = api.search(collection, query, page_size=size, page_token=token, **changes)
        assert [hit.rank for hit in answer.hits] == list(range(len(ids) + 1, len(ids) + len(answer.hits) + 1))
        ids += [hit.document.id for hit in answer.hits]
        token, turn = answer.next_page_token, turn + 1
        if not token:
            return ids


def sort_by_hand(order: list[tuple[str, bool]], numbers: list[int]) -> list[str]:
    ids = sorted(f"d{n:03}" for n in numbers)
    for field, descending in reversed(order):
        values = {id: make_document(int(id[1:])).get(field) for id in ids}
        first = {id: value[0] if isinstance(value, list) else value for id, value in values.items()}
        present = [id for id in ids if first[id] is not None]
        present.sort(key=lambda id: first[id], reverse=descending)  # type: ignore[arg-type, return-value]
        ids = present + [id for id in ids if first[id] is None]
    return ids


@pytest.mark.parametrize(("query", "step"), [("", 1), ("fox", 2)])
@pytest.mark.parametrize("sizes", [[1_000], [7], [120, 3]])
def test_pages_of_an_order_go_on_to_the_end(
    api: Api, shop: str, query: str, step: int, sizes: list[int]
) -> None:
    order = [("count", True), ("sale", False)]
    asked = [pb.OrderBy(field=field, descending=descending) for field, descending in order]
    ids = list_ids(api, shop, query, sizes, order_by=asked)
    assert ids == sort_by_hand(order, list(range(step - 1, COUNT, step)))
    answer = api.search(shop, query, order_by=asked)
    assert (answer.total.count, answer.reach.count) == (len(ids), len(ids))
    assert (answer.reach.limit, answer.found_by_meaning.count) == (pb.REACH_LIMIT_NONE, 0)
    assert {hit.scored_by for hit in answer.hits} == {pb.SCORE_BASIS_ORDERED}
    assert all(bool(hit.score) == bool(query) for hit in answer.hits)


def test_an_order_leaves_out_what_is_deleted_or_no_longer_passes_between_pages(api: Api, own: str) -> None:
    api.upsert(own, {f"d{n:03}": {"text": "fox", "count": n, "tag": "x"} for n in range(30)})
    asked: dict[str, Any] = {"order_by": [{"field": "count", "descending": True}], "page_size": 4}
    asked["filter"] = {"equal_to": {"field": "tag", "value": {"string_value": "x"}}}
    first = api.search(own, "fox", **asked)
    assert [hit.document.id for hit in first.hits] == ["d029", "d028", "d027", "d026"]
    api.delete(own, "d025")
    api.upsert(own, {"d024": {"text": "fox", "count": 24, "tag": "y"}, "d900": {"text": "fox", "count": 99}})
    second = api.search(own, "fox", page_token=first.next_page_token, **asked)
    assert [hit.document.id for hit in second.hits] == ["d023", "d022", "d021", "d020"]


def test_facets_are_counted_over_all_pages_as_total_is(api: Api, shop: str) -> None:
    half = types_pb2.Filter(
        range=types_pb2.RangeFilter(field="count", lt=types_pb2.FieldValue(integer_value=6))
    )
    bounds = [{"lt": {"integer_value": 3}}, {"gte": {"integer_value": 3}}]
    facets = [
        pb.FacetRequest(field="tag", terms=pb.TermsFacet(limit=3)),
        pb.FacetRequest(field="sale"),
        pb.FacetRequest(field="count", ranges={"ranges": bounds}),
        pb.FacetRequest(field="time", calendar={"interval": pb.CALENDAR_INTERVAL_YEAR}),
    ]
    answer = api.search(shop, "fox", facets=facets, filter=half, page_size=2)
    matching = [make_document(n) for n in range(1, COUNT, 2) if make_document(n).get("count", 9) < 6]
    assert answer.total.count == len(matching)
    tag, sale, count, time = answer.facets
    tags = Counter(value for fields in matching for value in fields["tag"])
    listed = {c.value.string_value: c.count for c in tag.counts}
    assert listed == {value: tags[value] for value in listed}
    assert (next(iter(listed)), tag.others) == ("a", sum(tags.values()) - sum(listed.values()))
    assert {c.value.boolean_value: c.count for c in sale.counts} == Counter(f["sale"] for f in matching)
    low = sum(fields["count"] < 3 for fields in matching)
    assert [c.count for c in count.counts] == [low, len(matching) - low]
    assert count.counts[0].range == pb.FacetRange(**bounds[0])
    years = Counter(fields["time"].ToDatetime().year for fields in matching)
    assert {c.range.gte.timestamp_value.ToDatetime().year: c.count for c in time.counts} == years
    assert {facet.relation for facet in answer.facets} == {pb.TOTAL_RELATION_EXACT}
    later = api.search(
        shop, "fox", facets=facets, filter=half, page_size=2, page_token=answer.next_page_token
    )
    assert (len(later.facets), len(later.hits)) == (0, 2)


def test_facets_of_browsing_and_of_nothing(api: Api, shop: str, own: str) -> None:
    facets = [pb.FacetRequest(field="tag")]
    assert api.search(shop, "", facets=facets).facets[0].counts[0].count == COUNT
    for query in ("", "fox", "?!"):
        answer = api.search(own, query, facets=facets, order_by=[{"field": "count"}], snippets={})
        assert (len(answer.facets), len(answer.facets[0].counts), len(answer.hits)) == (1, 0, 0)


def test_snippets_are_the_same_on_later_pages_and_in_an_order(api: Api, shop: str) -> None:
    asked: dict[str, Any] = {"snippets": {"fields": [{"name": "text"}]}}
    whole = api.search(shop, "foxes 17", page_size=200, **asked)
    cut = api.search(shop, "foxes 17", page_size=40, **asked)
    cut = api.search(shop, "foxes 17", page_size=200, page_token=cut.next_page_token, **asked)
    shown = {hit.document.id: hit.snippets[0] for hit in whole.hits}
    assert [hit.snippets[0] for hit in cut.hits] == [shown[hit.document.id] for hit in cut.hits]
    bases = {snippet.basis for snippet in shown.values()}
    assert bases == {pb.SNIPPET_BASIS_WORDS, pb.SNIPPET_BASIS_PASSAGE}
    first = api.search(shop, "17", order_by=[{"field": "time"}], **asked).hits[0]
    (fragment,) = first.snippets[0].fragments
    assert fragment.html == "fox number <em>17</em>"
    assert [fragment.text[h.start :][: h.length] for h in fragment.highlights] == ["17"]
    assert not api.search(shop, "17").hits[0].snippets


def test_what_is_found_by_meaning_alone_shows_its_best_passage(api: Api, own: str) -> None:
    text = "Nothing to see. " * 200 + "A sopu ratali. " + "Nothing to see. " * 200
    api.upsert(own, {"far": {"title": "Far", "text": text}})
    answer = api.search(own, "unheard", snippets={"length": 60}, explain=True)
    (hit,) = answer.hits
    title, shown = sorted(hit.snippets, key=lambda snippet: snippet.basis, reverse=True)
    assert (title.field, title.basis) == ("title", pb.SNIPPET_BASIS_BEGINNING)
    assert shown.basis == pb.SNIPPET_BASIS_PASSAGE
    (fragment,) = shown.fragments
    assert fragment.text in hit.explanation.passage
    assert text[fragment.start :].startswith(fragment.text)


def test_hostile_html_comes_out_escaped(api: Api, own: str) -> None:
    api.upsert(own, {"x": {"title": HOSTILE, "text": "a fox"}})
    answer = api.search(own, "fox", snippets={"tag": pb.HIGHLIGHT_TAG_MARK})
    written = {snippet.field: snippet.fragments[0].html for snippet in answer.hits[0].snippets}
    assert written["text"] == "a <mark>fox</mark>"
    assert written["title"] == (
        "&lt;img src=x onerror=&quot;alert(&#x27;<mark>fox</mark>&#x27;)&quot;&gt; &amp; &lt;/title&gt;"
    )


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"facets": [{"field": "nowhere"}]}, "facets[0].field", "UNKNOWN_FIELD"),
        ({"facets": [{"field": "tag"}, {"field": "text"}]}, "facets[1].field", "WRONG_TYPE"),
        ({"facets": [{"field": "time"}]}, "facets[0].field", "WRONG_TYPE"),
        ({"facets": [{"field": "tag"}] * 17}, "facets", "VALUE_OUT_OF_RANGE"),
        (
            {"facets": [{"field": "tag", "terms": {"limit": 1_001}}]},
            "facets[0].terms.limit",
            "VALUE_OUT_OF_RANGE",
        ),
        (
            {"facets": [{"field": "tag", "terms": {"limit": -1}}]},
            "facets[0].terms.limit",
            "VALUE_OUT_OF_RANGE",
        ),
        ({"facets": [{"field": "count", "ranges": {}}]}, "facets[0].ranges.ranges", "REQUIRED"),
        (
            {"facets": [{"field": "count", "ranges": {"ranges": [{}]}}]},
            "facets[0].ranges.ranges[0]",
            "REQUIRED",
        ),
        (
            {"facets": [{"field": "count", "ranges": {"ranges": [{"gte": {"string_value": "x"}}]}}]},
            "facets[0].ranges.ranges[0].gte",
            "WRONG_TYPE",
        ),
        (
            {
                "facets": [
                    {
                        "field": "count",
                        "ranges": {"ranges": [{"gte": {"integer_value": 2}, "lt": {"integer_value": 1}}]},
                    }
                ]
            },
            "facets[0].ranges.ranges[0]",
            "CONFLICTING_FIELDS",
        ),
        ({"facets": [{"field": "time", "calendar": {}}]}, "facets[0].calendar.interval", "UNKNOWN_VALUE"),
        ({"facets": [{"field": "count", "calendar": {"interval": 1}}]}, "facets[0].field", "WRONG_TYPE"),
        ({"facets": [{"field": "tag"}], "min_relevance": 0.5}, "facets", "CONFLICTING_FIELDS"),
        ({"order_by": [{"field": "nowhere"}]}, "order_by[0].field", "UNKNOWN_FIELD"),
        ({"order_by": [{"field": "text"}]}, "order_by[0].field", "WRONG_TYPE"),
        ({"order_by": [{"field": "tag"}, {"field": "tag"}]}, "order_by[1].field", "DUPLICATE"),
        ({"order_by": [{"field": "tag"}] * 5}, "order_by", "VALUE_OUT_OF_RANGE"),
        ({"order_by": [{"field": "tag"}], "arms": [{"name": "bm25"}]}, "arms", "CONFLICTING_FIELDS"),
        ({"order_by": [{"field": "tag"}], "min_relevance": 0.5}, "min_relevance", "CONFLICTING_FIELDS"),
        ({"order_by": [{"field": "tag"}], "rerank": {"depth": 5}}, "rerank", "CONFLICTING_FIELDS"),
        (
            {"order_by": [{"field": "tag"}], "exploration": {"swap_probability": 0.1}},
            "exploration",
            "CONFLICTING_FIELDS",
        ),
        ({"snippets": {"fields": [{"name": "count"}]}}, "snippets.fields[0].name", "WRONG_TYPE"),
        ({"snippets": {"fields": [{"name": "nowhere"}]}}, "snippets.fields[0].name", "UNKNOWN_FIELD"),
        ({"snippets": {"fields": [{"name": "text"}] * 2}}, "snippets.fields[1].name", "DUPLICATE"),
        ({"snippets": {"length": 19}}, "snippets.length", "VALUE_OUT_OF_RANGE"),
        (
            {"snippets": {"fields": [{"name": "text", "fragments": 11}]}},
            "snippets.fields[0].fragments",
            "VALUE_OUT_OF_RANGE",
        ),
        ({"snippets": {"tag": 9}}, "snippets.tag", "UNKNOWN_VALUE"),
    ],
)
def test_what_cannot_be_shown_counted_or_ordered_is_refused(
    api: Api, shop: str, changes: dict[str, Any], field: str, reason: str
) -> None:
    request = pb.SearchRequest(collection=shop, query="fox", **changes)
    found: Failure = refused(api.searches.Search, request)
    assert (found.field, found.reason) == (field, reason)


def test_a_token_belongs_to_what_was_asked_for(api: Api, shop: str) -> None:
    token = api.search(shop, "fox", order_by=[{"field": "time"}], page_size=2).next_page_token
    other = pb.SearchRequest(
        collection=shop, query="fox", page_size=2, page_token=token, order_by=[{"field": "count"}]
    )
    assert refused(api.searches.Search, other).reason == "INVALID_TOKEN"


def test_a_re_ranker_is_left_out_of_an_order(api: Api, reranked: str) -> None:
    answer = api.search(reranked, "barata deneli", order_by=[{"field": "count"}], rerank={"disabled": True})
    assert answer.hits
    assert (answer.reranker, answer.ranking) == ("", "")
    assert api.search(reranked, "barata deneli", order_by=[{"field": "count"}], rerank={}).reranker == ""
