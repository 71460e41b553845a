"""SearchService."""

import asyncio
import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from functools import partial

from google.protobuf import duration_pb2

from quarry.collections.collection import OpenCollection
from quarry.collections.library import Library
from quarry.config import MAX_MESSAGE_BYTES
from quarry.documents.catalog import Collection
from quarry.errors import InvalidArgumentError, LimitExceededError, PageExpiredError, QuarryError
from quarry.feedback.exploration import explored
from quarry.filters import Filter, matches
from quarry.ranking.queries import Query, WeightedSum
from quarry.ranking.ranking import Degradation, RankedDocument, Ranking, Reason, Stage, without_explanations
from quarry.search.answer_schedule import AnswerSchedule, Slot
from quarry.search.pages import PageStore, Place
from quarry.types import Candidate, Docno, Document
from quarry.v1 import search_service_pb2 as pb
from quarry.v1 import search_service_pb2_grpc, types_pb2
from quarry_server.common.context import Context, deadline_of
from quarry_server.common.errors import ok_status, status_of
from quarry_server.common.page_tokens import SEARCH
from quarry_server.common.paging import MAX_PAGE_BYTES, parse_page_size
from quarry_server.common.values import document_message
from quarry_server.search.audience import parse_context, parse_exploration
from quarry_server.search.filters import parse_filter
from quarry_server.search.impressions import AnswerLog, GivenPage
from quarry_server.search.queries import (
    MAX_RETRIEVE_QUERIES,
    model_fields,
    parse_arms,
    parse_query,
    parse_text,
)
from quarry_server.search.retrieval import complete_result
from quarry_server.search.return_fields import check_return_fields, parse_return_fields

DEFAULT_PAGE_SIZE = 10
MAX_PAGE_SIZE = 1_000

LIST_BYTES, BARE_BYTES, EXPLAINED_BYTES = 2_000, 24, 1_000
"""Memory that a kept list takes, and an entry of it without and with its explanation; measured."""
_READ_AT_ONCE = 100
_ENVELOPE_BYTES = 16_384

_STAGES = {
    Stage.BM25: pb.STAGE_BM25,
    Stage.DENSE: pb.STAGE_DENSE,
    Stage.RERANK: pb.STAGE_RERANK,
    Stage.TOTAL: pb.STAGE_TOTAL,
}
_REASONS = {
    Reason.TIMEOUT: pb.DEGRADATION_REASON_TIMEOUT,
    Reason.UNAVAILABLE: pb.DEGRADATION_REASON_UNAVAILABLE,
    Reason.REDUCED_DEPTH: pb.DEGRADATION_REASON_REDUCED_DEPTH,
    Reason.TRUNCATED_QUERY: pb.DEGRADATION_REASON_TRUNCATED_QUERY,
    Reason.REBUILDING: pb.DEGRADATION_REASON_REBUILDING,
    Reason.BEHIND: pb.DEGRADATION_REASON_BEHIND,
}

HoldRerankers = Callable[[Mapping[str, str], Collection], AbstractAsyncContextManager["asyncio.Future[None]"]]
"""Keeps re-rankers loaded for a search of a collection; each has the field of the request that names it.

Yields what is done when all are loaded. Raises QuarryError if one may not be asked for."""


@dataclass(frozen=True, slots=True)
class KeptSearch:
    """A ranked list and what later pages need of the search that made it."""

    ranking: Ranking
    filter: Filter | None


@dataclass(frozen=True, slots=True)
class Shown:
    """A document on a page, and its place in the ranked list from 0."""

    place: int
    ranked: RankedDocument
    document: Document
    message: types_pb2.Document


class SearchServicer(search_service_pb2_grpc.SearchServiceServicer):
    def __init__(
        self,
        library: Library,
        pages: PageStore[KeptSearch],
        rerankers: HoldRerankers,
        answers: AnswerLog,
        default_deadline_s: float,
    ) -> None:
        self._library = library
        self._pages = pages
        self._answers = answers
        self._rerankers = rerankers
        self._default_deadline_s = default_deadline_s
        self._retrieving = asyncio.Semaphore(1)
        self._schedule = AnswerSchedule()

    async def Search(self, request: pb.SearchRequest, context: Context) -> pb.SearchResponse:
        started = asyncio.get_running_loop().time()
        deadline = deadline_of(context, self._default_deadline_s)
        size = parse_page_size(request.page_size, DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
        with self._library.use(request.collection) as collection, self._schedule.slot(deadline) as slot:
            async with asyncio.timeout(deadline.timeout_s):
                await check_return_fields(request.return_fields, collection)
            if (later := SEARCH.parse(request)) is None:
                place = Place(uuid.uuid4().hex, 0)
                kept = await self._rank(request, collection, place.key, slot)
            else:
                place = Place(*later)
                kept = self._pages.get(place.key)
            with slot.work():
                async with asyncio.timeout(deadline.timeout_s):
                    response = await self._page(request, collection, kept, place, size)
        seconds = asyncio.get_running_loop().time() - started
        response.timings.total.CopyFrom(_duration(seconds))
        return response

    async def Retrieve(self, request: pb.RetrieveRequest, context: Context) -> pb.RetrieveResponse:
        deadline = deadline_of(context, self._default_deadline_s)
        if len(request.queries) > MAX_RETRIEVE_QUERIES:
            problem = f"has {len(request.queries)} queries, at most {MAX_RETRIEVE_QUERIES} are allowed"
            raise InvalidArgumentError("queries", problem)
        with self._library.use(request.collection) as collection:
            searcher = collection.generation.searcher
            arms = parse_arms(request.arms, searcher.arms, WeightedSum())
            schema = collection.collection.settings.schema
            filter = parse_filter(request.filter, schema) if request.HasField("filter") else None
            texts = [_retrieve_text(index, query) for index, query in enumerate(request.queries)]
            response = pb.RetrieveResponse(
                generation=collection.generation.name,
                degraded=[_degradation_message(d) for d in searcher.degradations(arms)],
            )
            size = 0
            async with asyncio.timeout(deadline.timeout_s):
                for query, text in zip(request.queries, texts, strict=True):
                    async with self._retrieving:  # one at a time: a search waits for one query at most
                        if request.complete:
                            runs = await searcher.runs(Query(text, arms, filter), deadline)
                            make = partial(complete_result, collection, query.id, text, runs)
                        else:
                            found = await searcher.retrieve(text, arms, filter)
                            make = partial(_retrieve_result, collection, query.id, found)
                    result = await asyncio.to_thread(make)
                    size += result.ByteSize()
                    if size > MAX_MESSAGE_BYTES - _ENVELOPE_BYTES:
                        raise LimitExceededError("the answer is too large: ask fewer queries or less depth")
                    response.results.append(result)
        return response

    async def _rank(
        self, request: pb.SearchRequest, collection: OpenCollection, search_id: str, slot: Slot
    ) -> KeptSearch:
        parse_context(request.context)
        exploration = parse_exploration(request.exploration)
        current = collection.collection  # once: the collection may get another re-ranker meanwhile
        query = parse_query(request, current, collection.generation.searcher.arms)
        models = model_fields(request.rerank, query.rerank)
        async with self._rerankers(models, current) as loading:
            ranking = await collection.generation.searcher.rank(query, slot.deadline, slot, loading)
        order = explored(ranking.documents, exploration, search_id)
        return KeptSearch(replace(ranking, documents=order), query.filter)

    async def _page(
        self,
        request: pb.SearchRequest,
        collection: OpenCollection,
        kept: KeptSearch,
        place: Place,
        size: int,
    ) -> pb.SearchResponse:
        ranking = kept.ranking
        if ranking.generation != collection.generation.name:
            raise PageExpiredError
        names = parse_return_fields(request.return_fields)
        page, end = await asyncio.to_thread(_cut, collection, kept, place.offset, size, names)
        response = pb.SearchResponse(
            search_id=place.key,
            total=_total_message(ranking),
            degraded=[_degradation_message(d) for d in ranking.degraded],
            timings=_timings_message(ranking.timings_s if place.offset == 0 else {}),
            generation=ranking.generation,
            reranker=ranking.reranker,
            rerankers=ranking.rerankers,
            ranking_configuration=ranking.configuration,
            ranking=ranking.tuned,
        )
        if request.explain:
            weights = ranking.weights.items()
            response.highest_fused = ranking.highest_fused
            response.weights.extend(pb.ArmWeight(arm=arm, weight=weight) for arm, weight in weights)
        texts = await self._passages(collection, page) if request.explain else {}
        for shown in page:
            hit = response.hits.add(
                document=shown.message,
                rank=shown.place + 1,
                score=shown.ranked.score,
                relevance=shown.ranked.relevance,
            )
            if request.explain:
                passage = texts.get(shown.ranked.docno, "")
                hit.explanation.CopyFrom(_explanation(shown.ranked, passage))
        if end < len(ranking.documents):
            if place.offset == 0:
                self._keep(place.key, kept, request.explain)
            response.next_page_token = SEARCH.encode((place.key, end), request)
        if not request.unlogged:
            response.attribution_token = self._given(request, collection, kept.ranking, place, page)
        return response

    def _given(
        self,
        request: pb.SearchRequest,
        collection: OpenCollection,
        ranking: Ranking,
        place: Place,
        page: Sequence["Shown"],
    ) -> str:
        """Logs the page; the token by which events refer to it."""
        given = GivenPage(
            collection.collection.key,
            collection.collection.settings.schema,
            collection.log,
            place.key,
            place.offset,
            request.query.strip(),
            request.filter.SerializeToString(deterministic=True) if request.HasField("filter") else b"",
            parse_context(request.context),
            parse_exploration(request.exploration),
            ranking,
            [(s.place, s.ranked, s.document.id, s.document.version) for s in page],
        )
        return self._answers.give(given)

    def _keep(self, key: str, kept: "KeptSearch", explain: bool) -> None:
        """Keeps the list for later pages, which ask for explanations if the first one did."""
        documents = kept.ranking.documents
        if not explain:
            ranking = replace(kept.ranking, documents=without_explanations(documents))
            kept = replace(kept, ranking=ranking)
        size = len(documents) * (EXPLAINED_BYTES if explain else BARE_BYTES)
        self._pages.keep(key, LIST_BYTES + size, kept)

    async def _passages(self, collection: OpenCollection, page: Sequence["Shown"]) -> Mapping[Docno, str]:
        vectors = collection.generation.vectors
        wanted = [(shown.ranked, shown.document) for shown in page if shown.ranked.passage is not None]
        if vectors is None or not wanted:
            return {}
        passages = await vectors.passages([document.fields for _, document in wanted])
        return {
            ranked.docno: texts[ranked.passage]
            for (ranked, _), texts in zip(wanted, passages, strict=True)
            if ranked.passage is not None and ranked.passage < len(texts)
        }


def _cut(
    collection: OpenCollection, kept: KeptSearch, offset: int, size: int, names: frozenset[str] | None
) -> tuple[list[Shown], int]:
    """At most ``size`` ranked documents from ``offset`` that still exist and pass the filter.

    The second result is the place in the list after the last one. Large documents make a smaller page.
    """
    ranked, schema = kept.ranking.documents, collection.collection.settings.schema
    page: list[Shown] = []
    place, room = min(offset, len(ranked)), MAX_PAGE_BYTES
    while len(page) < size and place < len(ranked):
        some = ranked[place : place + min(size - len(page), _READ_AT_ONCE)]
        current = collection.log.read([r.docno for r in some])
        for r in some:
            document = current.get(r.docno)
            if document is not None and (kept.filter is None or matches(kept.filter, document.fields)):
                message = document_message(document, schema, names)
                room -= message.ByteSize()
                if page and room < 0:
                    return page, place
                page.append(Shown(place, r, document, message))
            place += 1
    return page, place


def _retrieve_text(index: int, query: pb.RetrieveQuery) -> str:
    text = parse_text(query.text, f"queries[{index}].text")
    if not text:
        raise InvalidArgumentError(f"queries[{index}].text", "is empty")
    return text


def _retrieve_result(
    collection: OpenCollection, query_id: str, found: Mapping[str, list[Candidate] | QuarryError]
) -> pb.RetrieveResult:
    result = pb.RetrieveResult(query_id=query_id)
    docnos = {c.docno for arm in found.values() if not isinstance(arm, QuarryError) for c in arm}
    ids = collection.log.ids(docnos)
    for arm, candidates in found.items():
        message = result.arms.add(arm=arm)
        if isinstance(candidates, QuarryError):
            message.status.CopyFrom(status_of(candidates))
            continue
        message.status.CopyFrom(ok_status())
        alive = sorted((c for c in candidates if c.docno in ids), key=lambda c: (-c.score, ids[c.docno][0]))
        for rank, c in enumerate(alive, start=1):
            message.candidates.add(document_id=ids[c.docno][0], rank=rank, score=c.score, passage=c.passage)
    return result


def _total_message(ranking: Ranking) -> pb.Total:
    exact = ranking.total.exact
    relation = pb.TOTAL_RELATION_EXACT if exact else pb.TOTAL_RELATION_LOWER_BOUND
    return pb.Total(count=ranking.total.count, relation=relation)


def _degradation_message(degradation: Degradation) -> pb.Degradation:
    return pb.Degradation(
        stage=_STAGES[degradation.stage],
        reason=_REASONS[degradation.reason],
        detail=degradation.detail,
        model=degradation.model,
    )


def _timings_message(timings_s: Mapping[str, float]) -> pb.Timings:
    return pb.Timings(**{stage: _duration(seconds) for stage, seconds in timings_s.items()})


def _duration(seconds: float) -> duration_pb2.Duration:
    fraction, whole = math.modf(seconds)
    return duration_pb2.Duration(seconds=int(whole), nanos=int(fraction * 1e9))


def _explanation(ranked: RankedDocument, passage: str) -> pb.Explanation:
    return pb.Explanation(
        arms=[
            pb.ArmExplanation(arm=arm, rank=place.rank, score=place.score, contribution=place.contribution)
            for arm, place in ranked.arms.items()
        ],
        fused_rank=ranked.fused_rank,
        fused_score=ranked.fused_score,
        rerank_score=ranked.rerank_score,
        truncated=bool(ranked.readings) and ranked.readings[-1].truncated,
        passage=passage,
        rerankers=[
            pb.RerankExplanation(model=reading.model, score=reading.score, truncated=reading.truncated)
            for reading in ranked.readings
        ],
    )
