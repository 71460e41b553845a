"""Pages of a search: cut from the ranked list, which is kept for later ones."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from cachetools import TTLCache

from quarry.errors import PageExpiredError
from quarry.filters import Filter, matches
from quarry.ranking.queries import Query
from quarry.ranking.ranking import RankedDocument, Ranking, RestByDocno
from quarry.retrieval.base import FIRST_DOCNO
from quarry.search.requests import PageRequest
from quarry.search.resolving import Documents
from quarry.search.results.snippets import Snippet, SnippetMaker
from quarry.types import Docno, Document

T = TypeVar("T")
M = TypeVar("M")
_READ_AT_ONCE = 100


class ListPlace(NamedTuple):
    """A place in the list of a search.

    Attributes:
        key: of the search, and of the list that is kept for it.
        offset: entries before the page, from 0.
        docno: of what was browsed, the first document that may be on the page: the list is read from there.
            0: the list is kept.
    """

    key: str
    offset: int
    docno: Docno = FIRST_DOCNO


@dataclass(frozen=True, slots=True)
class KeptSearch:
    """A ranked list in the order in which it is given out, and what later pages need of its search.

    Attributes:
        first: place of its first entry in what is browsed, of which the list is a piece; else 0.
        explored: entries that there were when the order was explored; what came below them since was not.
        settled: first places whose order exploration may have changed.
    """

    ranking: Ranking
    query: Query
    first: int = 0
    explored: int = 0
    settled: int = 0

    @property
    def end(self) -> int:
        """The place after its last entry."""
        return self.first + len(self.ranking.documents)

    @property
    def filter(self) -> Filter | None:
        return self.query.filter

    def find_next(self, key: str, end: int) -> ListPlace | None:
        """Finds the place of the page after one that ended at ``end``; None if that was the last one.

        What is browsed is in the order of docnos below the places that exploration may have changed, and
        needs no list there.
        """
        rest = self.ranking.rest
        if self.query.text or self.query.order_by:
            return ListPlace(key, end) if end < self.end or rest is not None else None
        pinned = self.ranking.pinned
        if end < max(pinned, min(pinned + self.settled, self.explored)):
            return ListPlace(key, end)
        if end < self.end:
            return ListPlace(key, end, self.ranking.documents[end - self.first].docno)
        return ListPlace(key, end, rest.first) if isinstance(rest, RestByDocno) else None


@dataclass(frozen=True, slots=True)
class Hit(Generic[M]):
    """A document on a page.

    Attributes:
        place: in the ranked list, from 0.
        document: as it is now.
        rendered: what is given out of it.
        members: what is given out of others of its group, with the ranked document of each.
        snippets: of its texts, if the request asks for them.
    """

    place: int
    ranked: RankedDocument
    document: Document
    rendered: M
    members: Sequence[tuple[RankedDocument, M]] = ()
    snippets: Sequence[Snippet] = ()


def cut_page(
    documents: Documents,
    kept: KeptSearch,
    offset: int,
    request: PageRequest[M],
    maker: SnippetMaker | None = None,
) -> tuple[list[Hit[M]], int]:
    """Cuts the hits from ``offset`` on that still exist and pass the search's filter as they are now. Blocks.

    The second result is the place in the list after the last hit. Large documents make a smaller page.
    """
    ranked = kept.ranking.documents
    page: list[Hit[M]] = []
    place, room = min(offset - kept.first, len(ranked)), request.max_bytes
    while len(page) < request.size and place < len(ranked):
        some = ranked[place : place + min(request.size - len(page), _READ_AT_ONCE)]
        current = documents.read([r.docno for r in some])
        for r in some:
            document = current.get(r.docno)
            if document is not None and (kept.filter is None or matches(kept.filter, document.fields)):
                rendered, size = request.render(document)
                members, of_members = (
                    _render_members(documents, kept, r, request) if r.shape.members else ((), 0)
                )
                snippets = maker.make_snippets(document.fields) if maker else ()
                room -= size + of_members + sum(fragment.size for s in snippets for fragment in s.fragments)
                if page and room < 0:
                    return page, kept.first + place
                page.append(Hit(kept.first + place, r, document, rendered, members, snippets))
            place += 1
    return page, kept.first + place


def _render_members(
    documents: Documents, kept: KeptSearch, head: RankedDocument, request: PageRequest[M]
) -> tuple[list[tuple[RankedDocument, M]], int]:
    """Renders the others of a group that exist and pass the filter as they are now; the bytes of all come
    second."""
    current = documents.read([member.docno for member in head.shape.members])
    alive = [member for member in head.shape.members if member.docno in current]
    passing = [m for m in alive if kept.filter is None or matches(kept.filter, current[m.docno].fields)]
    rendered = [request.render(current[member.docno]) for member in passing]
    pairs = [(member, message) for member, (message, _) in zip(passing, rendered, strict=True)]
    return pairs, sum(size for _, size in rendered)


class PageStore(Generic[T]):
    """Keeps ranked lists for a time, and at most so many bytes in all; those that nobody
    has read for longest go first.

    Not thread-safe: lives on the event loop.
    """

    def __init__(
        self, lifetime_s: float, max_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.lifetime_s = lifetime_s
        self._lists: TTLCache[str, tuple[int, T]] = TTLCache(
            max_bytes, lifetime_s, timer=clock, getsizeof=lambda kept: kept[0]
        )

    def keep(self, key: str, size: int, ranked: T) -> None:
        """Keeps ``ranked``, which takes ``size`` bytes, under ``key``, unless it is larger than the store."""
        self._lists.pop(key, None)
        if size <= self._lists.maxsize:
            self._lists[key] = (size, ranked)

    def get(self, key: str) -> T:
        """Raises PageExpiredError if the list is no longer kept."""
        kept = self._lists.get(key)
        if kept is None:
            raise PageExpiredError
        return kept[1]
