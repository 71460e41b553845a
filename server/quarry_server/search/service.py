"""SearchService: parses requests, lets the core answer, and maps the answers to messages."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

from quarry.collections.collection_handle import CollectionHandle
from quarry.collections.collections import Collections
from quarry.config import MAX_MESSAGE_BYTES
from quarry.documents.catalog import Collection
from quarry.errors import InvalidTokenError, LimitExceededError, OutOfRangeError, RequiredError
from quarry.ranking.queries import Query, WeightedSum
from quarry.retrieval.lexical.analysis import build_stop_test
from quarry.search.answer_schedule import AnswerSchedule, Slot
from quarry.search.result_pages import ListPlace
from quarry.search.service import HeldRerankers, SearchPage, SearchService
from quarry.types import Docno
from quarry.v1 import search_service_pb2 as pb
from quarry.v1 import search_service_pb2_grpc, types_pb2
from quarry_server.common.context import Context, resolve_deadline
from quarry_server.common.page_tokens import SEARCH
from quarry_server.common.paging import parse_page_size
from quarry_server.search.filters import parse_filter
from quarry_server.search.queries import (
    DEFAULT_PAGE_SIZE,
    MAX_PAGE_SIZE,
    MAX_RETRIEVE_QUERIES,
    add_vocabulary,
    name_model_fields,
    parse_arms,
    parse_page,
    parse_query,
    parse_text,
)
from quarry_server.search.responses import to_degradation_message, to_duration_message, to_search_response
from quarry_server.search.retrieval import retrieve_complete, retrieve_own
from quarry_server.search.return_fields import parse_return_fields
from quarry_server.search.suggestions import parse_suggest_request, to_suggest_response

_ENVELOPE_BYTES = 16_384
MAX_RANK = 2**31 - 1
"""``Hit.rank`` holds no more."""

HoldRerankers = Callable[[Mapping[str, str], Collection], HeldRerankers]
"""Keeps re-rankers loaded for a search of a collection; each has the field of the request that names it."""


class SearchServicer(search_service_pb2_grpc.SearchServiceServicer):
    def __init__(
        self,
        open_collections: Collections,
        searches: SearchService,
        rerankers: HoldRerankers,
        default_deadline_s: float,
    ) -> None:
        self._open_collections, self._searches = open_collections, searches
        self._rerankers = rerankers
        self._default_deadline_s = default_deadline_s
        self._retrieving = asyncio.Semaphore(1)
        self._schedule = AnswerSchedule()

    async def Search(self, request: pb.SearchRequest, context: Context) -> pb.SearchResponse:
        started = asyncio.get_running_loop().time()
        deadline = resolve_deadline(context, self._default_deadline_s)
        size = parse_page_size(request.page_size, DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
        with (
            self._open_collections.use(request.collection) as collection,
            self._schedule.take_slot(deadline) as slot,
        ):
            page = await self._search(request, size, collection, slot)
            with slot.measure_work():
                response = to_search_response(page, request)
        seconds = asyncio.get_running_loop().time() - started
        response.timings["total"].CopyFrom(to_duration_message(seconds))
        return response

    async def Retrieve(self, request: pb.RetrieveRequest, context: Context) -> pb.RetrieveResponse:
        deadline = resolve_deadline(context, self._default_deadline_s)
        if len(request.queries) > MAX_RETRIEVE_QUERIES:
            problem = f"has {len(request.queries)} queries, at most {MAX_RETRIEVE_QUERIES} are allowed"
            raise OutOfRangeError("queries", problem)
        with self._open_collections.use(request.collection) as collection:
            first_stage = collection.generation.searcher.first_stage
            arms = parse_arms(request.arms, first_stage.arms, WeightedSum())
            schema = collection.row.settings.schema
            filter = parse_filter(request.filter, schema) if request.HasField("filter") else None
            shortfalls = first_stage.find_shortfalls(plan.name for plan in arms)
            texts = [_retrieve_text(index, query) for index, query in enumerate(request.queries)]
            vocabulary = collection.row.settings.vocabulary
            response = pb.RetrieveResponse(
                generation=collection.generation.name,
                degraded=[to_degradation_message(note) for note in shortfalls],
            )
            size = 0
            async with asyncio.timeout(deadline.timeout_s):
                for query, text in zip(request.queries, texts, strict=True):
                    async with self._retrieving:  # one at a time: a search waits for one query at most
                        asked = Query(text, arms, filter, terms=add_vocabulary(text, None, vocabulary))
                        if request.complete:
                            runs = await first_stage.retrieve_runs(asked, deadline)
                            make = partial(retrieve_complete, collection, query.id, text, runs)
                        else:
                            found = await first_stage.retrieve_own(asked.search_text, arms, filter)
                            make = partial(retrieve_own, collection, query.id, found)
                    result = await asyncio.to_thread(make)
                    size += result.ByteSize()
                    if size > MAX_MESSAGE_BYTES - _ENVELOPE_BYTES:
                        raise LimitExceededError("the answer is too large: ask fewer queries or less depth")
                    response.results.append(result)
        return response

    async def Suggest(self, request: pb.SuggestRequest, context: Context) -> pb.SuggestResponse:
        deadline = resolve_deadline(context, self._default_deadline_s)
        with self._open_collections.use(request.collection) as opened:
            schema = opened.row.settings.schema
            wanted = parse_suggest_request(request, schema)
            is_stop = build_stop_test(frozenset(field.language for field in schema.searchable))
            return to_suggest_response(*await opened.generation.suggest(wanted, is_stop, deadline))

    async def _search(
        self, request: pb.SearchRequest, size: int, opened: CollectionHandle, slot: Slot
    ) -> SearchPage[types_pb2.Document]:
        row, collection = opened.row, opened.as_searched()  # once: its settings may change meanwhile
        arms = collection.searcher.first_stage.arms
        names = parse_return_fields(request.return_fields, collection.schema)
        place = _read_place(request)
        page = parse_page(request, size, collection.schema, names)
        if place is not None and not place.docno:
            return await self._searches.turn_page(collection, place, page, slot)
        query = parse_query(request, row, arms)
        if place is not None:
            return await self._searches.browse_on(collection, query, place, page, slot)
        rerankers = self._rerankers(name_model_fields(request.rerank, query.rerank), row)
        return await self._searches.search(collection, query, page, rerankers, slot)


def _read_place(request: pb.SearchRequest) -> ListPlace | None:
    """Reads the place that the request's token names; None if it asks for the first page.

    Raises InvalidTokenError for a place that no search gives out.
    """
    parts = SEARCH.parse(request)
    if parts is None:
        return None
    place = ListPlace(parts[0], parts[1], Docno(parts[2]))
    if place.offset > MAX_RANK - MAX_PAGE_SIZE or (place.docno and request.query.strip()):
        raise InvalidTokenError("page_token", "names a place that no search has")
    return place


def _retrieve_text(index: int, query: pb.RetrieveQuery) -> str:
    text = parse_text(query.text, f"queries[{index}].text")
    if not text:
        raise RequiredError(f"queries[{index}].text", "is empty")
    return text
