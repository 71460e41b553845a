"""The servicer of searches: what it reads in a request, and what it says of a page."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from tests.unit.search.fakes import FixedScorer
from tests.unit.search.searched import COUNT, SCHEMA, Searched, searched

from quarry.documents.catalog import Collection, CollectionSettings
from quarry.errors import (
    CollectionNotFoundError,
    InvalidArgumentError,
    InvalidTokenError,
    PageExpiredError,
    QuerySyntaxError,
    UnknownValueError,
)
from quarry.search.requests import SearchedCollection
from quarry.v1 import search_service_pb2 as pb
from quarry_server.common.page_tokens import SEARCH
from quarry_server.search.service import SearchServicer

TAGGED = {"prefix": {"field": "tag", "prefix": "x"}}
TOKEN = "token-1"  # noqa: S105  the first that the log gives


class OpenFaq:
    """The only collection of its library, ``faq``; is its own library."""

    def __init__(self, faq: Searched) -> None:
        self._faq = faq
        settings = CollectionSettings("faq", SCHEMA, "none")
        self.row = Collection(7, settings, "g", 0, COUNT, 1, 0, 0)

    def as_searched(self) -> SearchedCollection:
        return self._faq.collection

    @contextlib.contextmanager
    def use(self, name: str) -> Iterator["OpenFaq"]:
        if name != "faq":
            raise CollectionNotFoundError(name)
        yield self


class NoDeadline:
    def time_remaining(self) -> None:
        return None


class Served:
    """A servicer over a collection of ten documents."""

    def __init__(self, faq: Searched) -> None:
        self.faq = faq
        self.asked_for: list[object] = []
        opened: Any = OpenFaq(faq)
        self._servicer = SearchServicer(opened, faq.service, self._hold, default_deadline_s=30.0)

    def _hold(self, models: object, collection: object) -> Any:
        self.asked_for.append(models)
        return self.faq.hold()

    async def search(self, **request: Any) -> pb.SearchResponse:
        asked = pb.SearchRequest(**{"collection": "faq", "query": "words", "page_size": 4, **request})
        context: Any = NoDeadline()
        return await self._servicer.Search(asked, context)


@pytest.fixture
def served() -> Iterator[Served]:
    with searched() as faq:
        yield Served(faq)


def ids(response: pb.SearchResponse) -> list[str]:
    return [hit.document.id for hit in response.hits]


async def test_a_page_token_leads_through_the_whole_list(served: Served) -> None:
    answers = [await served.search()]
    while token := answers[-1].next_page_token:
        answers.append(await served.search(page_token=token))
    assert [hit.rank for answer in answers for hit in answer.hits] == list(range(1, COUNT + 1))
    assert [id for answer in answers for id in ids(answer)] == [f"d{n}" for n in range(COUNT)]
    assert len({answer.search_id for answer in answers}) == 1
    assert len(served.faq.arm.held_when_asked) == 1
    assert ["bm25" in answer.timings for answer in answers] == [True, False, False]
    assert all(answer.timings["total"].nanos for answer in answers)


@pytest.mark.parametrize(
    "change",
    [
        {"query": "words "},
        {"query": "others"},
        {"filter": TAGGED},
        {"arms": [{"name": "bm25"}]},
        {"explain": True},
        {"unlogged": True},
        {"return_fields": ["-"]},
        {"require_complete": True},
        {"context": {"user_id": "u"}},
        {"exploration": {"swap_probability": 0.5}},
        {"syntax": "QUERY_SYNTAX_ADVANCED"},
    ],
)
async def test_a_page_token_is_refused_with_another_request(served: Served, change: Any) -> None:
    token = (await served.search()).next_page_token
    with pytest.raises(InvalidArgumentError) as caught:
        await served.search(page_token=token, **change)
    assert caught.value.field == "page_token"


@pytest.mark.parametrize("token", ["x", "AAAA", "WyJ4Il0="])
async def test_a_token_that_no_search_gave_is_refused(served: Served, token: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await served.search(page_token=token)
    assert caught.value.field == "page_token"


async def test_only_the_size_of_a_page_may_change(served: Served) -> None:
    token = (await served.search()).next_page_token
    assert ids(await served.search(page_token=token, page_size=2)) == ["d4", "d5"]


async def test_a_token_is_refused_once_other_indexes_serve(served: Served) -> None:
    token = (await served.search()).next_page_token
    served.faq.generation = "h"
    with pytest.raises(PageExpiredError):
        await served.search(page_token=token)


async def test_the_requests_filter_is_checked_again_on_later_pages(served: Served) -> None:
    token = (await served.search(filter=TAGGED)).next_page_token
    served.faq.documents.put(5, {"text": "t5", "tag": "y"})
    assert ids(await served.search(filter=TAGGED, page_token=token)) == ["d4", "d6", "d7", "d8"]


async def test_the_requests_exploration_changes_the_order(served: Served) -> None:
    explored = {"exploration": {"swap_probability": 0.5}, "page_size": COUNT}
    orders = [ids(await served.search(**explored)) for _ in range(20)]
    assert all(sorted(order) == [f"d{n}" for n in range(COUNT)] for order in orders)
    assert len({tuple(order) for order in orders}) > 1


async def test_what_was_asked_is_logged_and_the_answer_has_the_logs_token(served: Served) -> None:
    context = {"user_id": "u", "session_id": "s", "attributes": {"a": "b"}, "simulated": True}
    request = {"query": " words ", "filter": TAGGED, "context": context}
    answer = await served.search(**request)
    (given,) = served.faq.log.pages
    assert answer.attribution_token == TOKEN
    assert (given.place.key, given.request.text) == (answer.search_id, "words")
    filter = pb.SearchRequest(filter=TAGGED).filter  # type: ignore[arg-type]
    assert given.request.filter == filter.SerializeToString(deterministic=True)
    assert (given.request.context.user_id, given.request.context.session_id) == ("u", "s")
    assert (given.request.context.attributes, given.request.context.simulated) == ({"a": "b"}, True)
    assert given.request.exploration.swap_probability == 0


async def test_an_unlogged_request_is_not_logged_on_any_page(served: Served) -> None:
    first = await served.search(unlogged=True)
    second = await served.search(unlogged=True, page_token=first.next_page_token)
    assert (first.attribution_token, second.attribution_token, served.faq.log.pages) == ("", "", [])


async def test_fields_are_returned_as_the_request_says(served: Served) -> None:
    both = (await served.search()).hits[0].document
    one = (await served.search(return_fields=["tag"])).hits[0].document
    none = (await served.search(return_fields=["-"])).hits[0].document
    assert [set(document.fields) for document in (both, one, none)] == [{"text", "tag"}, {"tag"}, set()]


async def test_only_an_explained_answer_says_how_it_came_about(served: Served) -> None:
    plain, explained = await served.search(), await served.search(explain=True)
    assert not plain.hits[0].HasField("explanation")
    assert (list(plain.weights), plain.highest_fused) == ([], 0)
    assert explained.hits[0].explanation.arms[0].arm == "bm25"
    assert ([weight.arm for weight in explained.weights], explained.highest_fused) == (["bm25"], 1)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"page_size": -1}, "page_size"),
        ({"return_fields": ["a b"]}, "return_fields[0]"),
        ({"context": {"user_id": "u" * 200}}, "context.user_id"),
        ({"exploration": {"swap_probability": 0.9}}, "exploration.swap_probability"),
        ({"filter": {"exists": {"field": "text"}}}, "filter.exists.field"),
        ({"arms": [{"name": "dense"}]}, "arms[0].name"),
    ],
)
async def test_a_wrong_field_is_named_and_nothing_is_searched(
    served: Served, request_: Any, field: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await served.search(**request_)
    assert caught.value.field == field
    assert served.faq.arm.held_when_asked == []


async def test_each_model_that_is_asked_for_comes_with_the_field_that_names_it(served: Served) -> None:
    served.faq.stack.scorer = FixedScorer()
    one = {"model": "m"}
    two = {"cascade": [{"model": "fast", "depth": 5}, {"model": "m", "depth": 2}]}
    answers = [await served.search(rerank=rerank) for rerank in (one, two)]
    assert served.asked_for == [
        {"m": "rerank.model"},
        {"fast": "rerank.cascade[0].model", "m": "rerank.cascade[1].model"},
    ]
    assert [list(answer.rerankers) for answer in answers] == [["m"], ["fast", "m"]]


async def test_browsing_pages_to_the_end_by_tokens_that_need_no_list(served: Served) -> None:
    answers = [await served.search(query="")]
    while token := answers[-1].next_page_token:
        answers.append(await served.search(query="", page_token=token))
    assert [hit.rank for answer in answers for hit in answer.hits] == list(range(1, COUNT + 1))
    exact = pb.TOTAL_RELATION_EXACT
    reach = pb.Reach(count=COUNT, relation=exact, limit=pb.REACH_LIMIT_NONE)
    for answer in answers:
        assert (answer.reach, answer.total) == (reach, pb.Total(count=COUNT, relation=exact))
        assert {(hit.score, hit.scored_by) for hit in answer.hits} == {(0.0, pb.SCORE_BASIS_BROWSED)}
    assert len({answer.search_id for answer in answers}) == 1


@pytest.mark.parametrize(
    ("query", "place"),
    [("", ("key", 2**31 - 1, 3)), ("words", ("key", 4, 3)), ("words", ("key", 2**62, 0))],
)
async def test_a_made_up_place_is_refused(served: Served, query: str, place: tuple[str, int, int]) -> None:
    """Anyone can compute a token; nothing that one says may break an answer."""
    request = pb.SearchRequest(collection="faq", query=query)
    token = SEARCH.encode(place, request)
    with pytest.raises(InvalidTokenError, match="names a place that no search has"):
        await served.search(query=query, page_token=token)


async def test_an_answer_says_how_far_its_pages_come_and_what_scores_rest_on(served: Served) -> None:
    first = await served.search(explain=True)
    exact = pb.TOTAL_RELATION_EXACT
    assert first.reach == pb.Reach(count=COUNT, relation=exact, limit=pb.REACH_LIMIT_NONE)
    assert first.found_by_meaning == pb.Total(count=0, relation=exact)
    assert {hit.scored_by for hit in first.hits} == {pb.SCORE_BASIS_FUSED}
    assert [hit.explanation.raw_score for hit in first.hits] == [hit.score for hit in first.hits]


async def test_a_query_of_the_language_is_logged_as_the_words_that_were_looked_for(served: Served) -> None:
    await served.search(query='+words -others text:"two words" pre*', syntax=pb.QUERY_SYNTAX_ADVANCED)
    await served.search(query='+words -others text:"two words" pre*')
    logged = [page.request.text for page in served.faq.log.pages]
    assert logged == ["words two words pre", '+words -others text:"two words" pre*']


@pytest.mark.parametrize("query", ["", "  "])
async def test_an_empty_query_of_the_language_browses(served: Served, query: str) -> None:
    await served.search(query=query, syntax=pb.QUERY_SYNTAX_ADVANCED)
    assert served.faq.arm.held_when_asked == []


async def test_an_error_of_the_language_names_its_character(served: Served) -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        await served.search(query='  words "open', syntax=pb.QUERY_SYNTAX_ADVANCED)
    assert caught.value.metadata == {"field": "query", "position": "9"}
    with pytest.raises(UnknownValueError) as unknown:
        await served.search(syntax=7)
    assert unknown.value.field == "syntax"
