"""The use case of a search: rank, explore, cut a page from the ranked list, and log what it gave out."""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from quarry.errors import PageExpiredError, QuarryError
from quarry.facets import Facet
from quarry.ranking.queries import Query
from quarry.ranking.ranking import (
    ArmPlace,
    BareDocuments,
    Degradation,
    DegradationReason,
    DegradedStage,
    Ranking,
    RestByOrder,
    RestByWords,
    drop_explanations,
)
from quarry.search.answer_schedule import Slot
from quarry.search.exploration import explore, join_documents
from quarry.search.page_log import GivenPage, PageLog
from quarry.search.requests import PageRequest, SearchedCollection
from quarry.search.result_pages import Hit, KeptSearch, ListPlace, PageStore, cut_page
from quarry.search.results.ordered import ORDERED_AT_FIRST, join_below
from quarry.search.results.snippets import SnippetMaker
from quarry.search.shaping.pinning import find_hidden
from quarry.search.shaping.shaped_search import browse_shaped, hide_documents, rank_shaped
from quarry.search.shortfalls import refuse_incomplete
from quarry.types import Docno

M = TypeVar("M")

BROWSED_AT_ONCE = 100
"""Documents that are browsed for a page at least: what exploration chooses from, and the log keeps."""
LIST_BYTES, BARE_BYTES, SHAPED_BYTES, EXPLAINED_BYTES = 2_000, 25, 500, 1_000
"""Memory that a kept list takes, and an entry of it without its explanation, of a shaped list, and with its
explanation; measured."""

HeldRerankers = AbstractAsyncContextManager["asyncio.Future[None]"]
"""Keeps the re-rankers of a search loaded; yields what is done when all are.

Raises QuarryError if one may not be asked for."""


@dataclass(frozen=True, slots=True)
class SearchPage(Generic[M]):
    """The answer to a search.

    Attributes:
        place: of this page; its key names the search on all pages.
        passages: by document, the passage that the dense arm compared; empty without explanations.
        next: place of the page after this one; None if this is the last.
        attribution_token: by which events refer to this page; empty if it is not logged.
        facets: what the request asks to be counted; on the first page, if it could be.
    """

    place: ListPlace
    ranking: Ranking
    hits: Sequence[Hit[M]]
    passages: Mapping[Docno, str]
    next: ListPlace | None
    attribution_token: str
    facets: Sequence[Facet] = ()


class SearchService:
    """Answers searches and their later pages. Lives on the event loop."""

    def __init__(self, pages: PageStore[KeptSearch], log: PageLog) -> None:
        self._pages, self._page_log = pages, log

    async def search(
        self,
        collection: SearchedCollection,
        query: Query,
        request: PageRequest[M],
        rerankers: HeldRerankers,
        slot: Slot,
    ) -> SearchPage[M]:
        """Ranks the collection's documents, explores their order, and gives the first page.

        Raises:
            QuarryError: what ``rerankers`` raises, or as ``Searcher.rank``.
            TimeoutError: the deadline of ``slot`` passed while the page was cut.
        """
        place = ListPlace(uuid.uuid4().hex, 0)
        async with rerankers as loading:
            listing = _list(collection, query, place, request, slot, loading)
            facets: Sequence[Facet] = ()
            if not request.facets:
                query, ranking = await listing
            elif query.shaping is None:
                counting = collection.searcher.first_stage.count_facets(query, request.facets, slot.limit)
                (query, ranking), counted = await asyncio.gather(listing, counting)
                ranking, facets = _add_facets(ranking, *counted)
            else:  # the list says what is looked for, and what is hidden
                query, ranking = await listing
                stage, hidden = collection.searcher.first_stage, ranking.hidden
                counted = await stage.count_facets(query, request.facets, slot.last, hidden)
                ranking, facets = _add_facets(ranking, *counted)
        order = explore(ranking.documents, request.logged.exploration, place.key, ranking.pinned)
        explored, settled = len(ranking.documents), request.logged.exploration.settled
        kept = KeptSearch(replace(ranking, documents=order), query, explored=explored, settled=settled)
        return await self._give(collection, kept, place, request, slot, facets)

    async def turn_page(
        self, collection: SearchedCollection, place: ListPlace, request: PageRequest[M], slot: Slot
    ) -> SearchPage[M]:
        """Gives the page that starts at ``place`` in a kept list.

        Raises:
            PageExpiredError: the list is no longer kept, or other indexes than its own serve now.
            TimeoutError: as ``search``.
            QuarryError: the page lies below what is kept, and nothing was found there because BM25 failed.
        """
        kept = self._pages.get(place.key)
        if kept.ranking.generation != collection.generation:
            raise PageExpiredError
        return await self._give(collection, kept, place, request, slot)

    async def browse_on(
        self,
        collection: SearchedCollection,
        query: Query,
        place: ListPlace,
        request: PageRequest[M],
        slot: Slot,
    ) -> SearchPage[M]:
        """Gives the page that starts at ``place`` of what is browsed, for which no list is kept.

        Raises:
            TimeoutError: as ``search``.
            QuarryError: as ``Searcher.browse``.
        """
        ranking = await _browse(collection, query, place, request, slot)
        return await self._give(collection, KeptSearch(ranking, query, place.offset), place, request, slot)

    async def _give(
        self,
        collection: SearchedCollection,
        kept: KeptSearch,
        place: ListPlace,
        request: PageRequest[M],
        slot: Slot,
        facets: Sequence[Facet] = (),
    ) -> SearchPage[M]:
        if isinstance(kept.ranking.rest, RestByWords) and place.offset + request.size > kept.end:
            kept = await self._add_below(collection, kept, place, request, slot)
        if isinstance(kept.ranking.rest, RestByOrder) and place.offset + request.size > kept.end:
            kept = await self._order_further(collection, kept, kept.ranking.rest, place, request, slot)
        with slot.measure_work():
            async with asyncio.timeout(slot.deadline.timeout_s):
                maker, notes = await _make_snippet_maker(collection, kept.query, request, slot)
                hits, end = await asyncio.to_thread(
                    cut_page, collection.documents, kept, place.offset, request, maker
                )
                passages = await _read_passages(collection, hits) if request.explain else {}
                if kept.query.order_by and kept.query.text:
                    hits = await _score_by_words(collection, kept.query, hits, slot)
                if maker is not None:
                    hits = await _show_passages(collection, hits, maker)
                    notes = notes or _report_late_snippets(kept.query, maker)
            following = kept.find_next(place.key, end)
            if following is not None and not following.docno and place.offset == 0:
                self._keep(place.key, kept, request.reads_passages)
            token = "" if request.unlogged else self._log(collection, kept, place, request, hits)
        ranking = kept.ranking
        if notes:
            ranking = replace(ranking, degraded=(*ranking.degraded, *notes))
        return SearchPage(place, ranking, hits, passages, following, token, facets)

    async def _add_below(
        self,
        collection: SearchedCollection,
        kept: KeptSearch,
        place: ListPlace,
        request: PageRequest[M],
        slot: Slot,
    ) -> KeptSearch:
        """Puts what BM25 finds beyond its depth below a list that ends before the page does.

        If BM25 is late or fails, the list stays as it is, and the next page tries again.

        Raises QuarryError or TimeoutError, as BM25 does, if the page would be empty then.
        """
        ranking = kept.ranking
        if not isinstance(ranking.rest, RestByWords):
            return kept
        try:
            searcher = hide_documents(collection.searcher, collection.documents, ranking.hidden)
            below = await searcher.find_below(kept.query, ranking.documents, ranking.rest, slot.limit)
        except (TimeoutError, QuarryError):
            if place.offset < kept.end:
                return kept
            raise
        documents = join_documents(ranking.documents, below)
        kept = replace(kept, ranking=replace(ranking, documents=documents, rest=None))
        if place.offset:
            self._keep(place.key, kept, request.reads_passages)
        return kept

    async def _order_further(
        self,
        collection: SearchedCollection,
        kept: KeptSearch,
        rest: RestByOrder,
        place: ListPlace,
        request: PageRequest[M],
        slot: Slot,
    ) -> KeptSearch:
        """Orders as many documents more as the page needs, at least. Raises as ``Searcher.order``."""
        depth = max(rest.depth, place.offset + request.size + 1)
        found = await collection.searcher.order(kept.query, slot.deadline, depth, kept.ranking.hidden)
        documents = join_below(kept.ranking.documents, found.documents)
        kept = replace(kept, ranking=replace(kept.ranking, documents=documents, rest=found.rest))
        if place.offset:
            self._keep(place.key, kept, request.reads_passages)
        return kept

    def _keep(self, key: str, kept: KeptSearch, explain: bool) -> None:
        """Keeps the list for later pages, which need explanations if the first one did."""
        documents = kept.ranking.documents
        if not explain:
            shaped = kept.ranking.shaped
            ranking = replace(kept.ranking, documents=drop_explanations(documents, shaped))
            kept = replace(kept, ranking=ranking)
        entries, bare = len(documents), isinstance(kept.ranking.documents, BareDocuments)
        entry_bytes = BARE_BYTES if bare else EXPLAINED_BYTES
        if kept.ranking.shaped:
            entries += sum(len(document.shape.members) for document in documents)
            entry_bytes = entry_bytes if bare or explain else SHAPED_BYTES
        size = entries * entry_bytes
        self._pages.keep(key, LIST_BYTES + len(kept.query.text) + size, kept)

    def _log(
        self,
        collection: SearchedCollection,
        kept: KeptSearch,
        place: ListPlace,
        request: PageRequest[M],
        hits: Sequence[Hit[M]],
    ) -> str:
        shown = [(hit.place, hit.ranked, hit.document.id, hit.document.version) for hit in hits]
        return self._page_log.log(
            GivenPage(
                collection.key,
                collection.schema,
                collection.documents,
                place,
                request.logged,
                kept.ranking,
                shown,
                kept.explored,
            )
        )


async def _list(
    collection: SearchedCollection,
    query: Query,
    place: ListPlace,
    request: PageRequest[M],
    slot: Slot,
    loading: "asyncio.Future[None]",
) -> tuple[Query, Ranking]:
    """Lists what the query finds. The query is another one for what is like a document."""
    if query.order_by:
        depth, hidden = max(request.size + 1, ORDERED_AT_FIRST), frozenset[Docno]()
        if query.shaping is not None:
            hidden = await asyncio.to_thread(find_hidden, collection.documents, query.shaping)
        return query, await collection.searcher.order(query, slot.deadline, depth, hidden)
    if query.shaping is not None and (query.text or query.shaping.like):
        return await rank_shaped(
            collection.searcher, collection.documents, query, query.shaping, slot, loading
        )
    if query.text:
        return query, await collection.searcher.rank(query, slot.deadline, slot, loading)
    return query, await _browse(collection, query, place, request, slot)


def _add_facets(
    ranking: Ranking, facets: Sequence[Facet], notes: Sequence[Degradation]
) -> tuple[Ranking, Sequence[Facet]]:
    return replace(ranking, degraded=(*ranking.degraded, *notes)), facets


async def _browse(
    collection: SearchedCollection, query: Query, place: ListPlace, request: PageRequest[M], slot: Slot
) -> Ranking:
    size = max(request.size, BROWSED_AT_ONCE)
    if query.shaping is not None:
        return await browse_shaped(
            collection.searcher, collection.documents, query, query.shaping, slot, place.docno, size
        )
    return await collection.searcher.browse(query, slot.deadline, place.docno, size)


async def _score_by_words(
    collection: SearchedCollection, query: Query, hits: Sequence[Hit[M]], slot: Slot
) -> list[Hit[M]]:
    """Gives hits of a list that is ordered by fields the scores that BM25 gives them."""
    stage = collection.searcher.first_stage
    scores = await stage.score_by_words(query, [hit.ranked.docno for hit in hits], slot.deadline)

    def give(hit: Hit[M]) -> Hit[M]:
        score = scores.get(hit.ranked.docno)
        place = {} if score is None else {stage.browsing: ArmPlace(0, score, 0.0)}
        return replace(hit, ranked=replace(hit.ranked, score=score or 0.0, arms=place))

    return [give(hit) for hit in hits]


async def _make_snippet_maker(
    collection: SearchedCollection, query: Query, request: PageRequest[M], slot: Slot
) -> tuple[SnippetMaker | None, list[Degradation]]:
    """Makes what makes the snippets of one page, and says what it lacks; None if none are asked for."""
    if request.snippets is None:
        return None, []
    limit = slot.leave_time_to_send()
    search_text, notes = await collection.searcher.first_stage.rewrite_query(query, limit)
    return SnippetMaker(request.snippets, search_text, collection.schema, limit), notes


def _report_late_snippets(query: Query, maker: SnippetMaker) -> list[Degradation]:
    """Says if texts were left unread. Raises DeadlineExceeded then if ``require_complete``."""
    detail = "there was no time to look for words in all texts that are shown"
    notes = [Degradation(DegradedStage.SNIPPETS, DegradationReason.TIMEOUT, detail)] if maker.late else []
    refuse_incomplete(query, notes, nothing=False)
    return notes


async def _show_passages(
    collection: SearchedCollection, hits: Sequence[Hit[M]], maker: SnippetMaker
) -> list[Hit[M]]:
    """Shows the best passage of hits that have no word of the query in a text that the encoder reads."""
    passages = await _read_passages(collection, [hit for hit in hits if maker.lacks_words(hit.snippets)])
    return [
        replace(
            hit, snippets=maker.show_passage(hit.snippets, hit.document.fields, passages[hit.ranked.docno])
        )
        if hit.ranked.docno in passages and maker.lacks_words(hit.snippets)
        else hit
        for hit in hits
    ]


async def _read_passages(collection: SearchedCollection, hits: Sequence[Hit[M]]) -> dict[Docno, str]:
    """Reads the passage of each hit that the dense arm compared.

    A document that has fewer passages by now is left out.
    """
    wanted = [(hit, hit.ranked.passage) for hit in hits if hit.ranked.passage is not None]
    if not wanted:
        return {}
    cut = await collection.cut_passages([hit.document.fields for hit, _ in wanted])
    return {
        hit.ranked.docno: passages[number]
        for (hit, number), passages in zip(wanted, cut, strict=True)
        if number < len(passages)
    }
