"""The use case of a search: rank, explore, cut a page from the ranked list, and log what it gave out."""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from quarry.errors import PageExpiredError, QuarryError
from quarry.ranking.queries import Query
from quarry.ranking.ranking import Ranking, RestByWords, drop_explanations
from quarry.search.answer_schedule import Slot
from quarry.search.exploration import explore, join_documents
from quarry.search.page_log import GivenPage, PageLog
from quarry.search.requests import PageRequest, SearchedCollection
from quarry.search.result_pages import Hit, KeptSearch, ListPlace, PageStore, cut_page
from quarry.search.shaping.shaped_search import browse_shaped, hide_documents, rank_shaped
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
    """

    place: ListPlace
    ranking: Ranking
    hits: Sequence[Hit[M]]
    passages: Mapping[Docno, str]
    next: ListPlace | None
    attribution_token: str


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
            if query.shaping is not None and (query.text or query.shaping.like):
                query, ranking = await rank_shaped(
                    collection.searcher, collection.documents, query, query.shaping, slot, loading
                )
            elif query.text:
                ranking = await collection.searcher.rank(query, slot.deadline, slot, loading)
            else:
                ranking = await _browse(collection, query, place, request, slot)
        order = explore(ranking.documents, request.logged.exploration, place.key, ranking.pinned)
        explored, settled = len(ranking.documents), request.logged.exploration.settled
        kept = KeptSearch(replace(ranking, documents=order), query, explored=explored, settled=settled)
        return await self._give(collection, kept, place, request, slot)

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
    ) -> SearchPage[M]:
        if isinstance(kept.ranking.rest, RestByWords) and place.offset + request.size > kept.end:
            kept = await self._add_below(collection, kept, place, request, slot)
        with slot.measure_work():
            async with asyncio.timeout(slot.deadline.timeout_s):
                hits, end = await asyncio.to_thread(
                    cut_page, collection.documents, kept, place.offset, request
                )
                passages = await _read_passages(collection, hits) if request.explain else {}
            following = kept.find_next(place.key, end)
            if following is not None and not following.docno and place.offset == 0:
                self._keep(place.key, kept, request.explain)
            token = "" if request.unlogged else self._log(collection, kept, place, request, hits)
        return SearchPage(place, kept.ranking, hits, passages, following, token)

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
            self._keep(place.key, kept, request.explain)
        return kept

    def _keep(self, key: str, kept: KeptSearch, explain: bool) -> None:
        """Keeps the list for later pages, which ask for explanations if the first one did."""
        documents = kept.ranking.documents
        if not explain:
            shaped = kept.ranking.shaped
            ranking = replace(kept.ranking, documents=drop_explanations(documents, shaped))
            kept = replace(kept, ranking=ranking)
        entries, entry_bytes = len(documents), EXPLAINED_BYTES if explain else BARE_BYTES
        if kept.ranking.shaped:
            entries += sum(len(document.shape.members) for document in documents)
            entry_bytes = max(entry_bytes, SHAPED_BYTES)
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


async def _browse(
    collection: SearchedCollection, query: Query, place: ListPlace, request: PageRequest[M], slot: Slot
) -> Ranking:
    size = max(request.size, BROWSED_AT_ONCE)
    if query.shaping is not None:
        return await browse_shaped(
            collection.searcher, collection.documents, query, query.shaping, slot, place.docno, size
        )
    return await collection.searcher.browse(query, slot.deadline, place.docno, size)


async def _read_passages(collection: SearchedCollection, hits: Sequence[Hit[M]]) -> dict[Docno, str]:
    """Reads the passage of each hit that the dense arm compared.

    None for a document that has fewer by now.
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
