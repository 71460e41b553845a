"""A collection of ten documents, searched through the whole use case, without an engine or a server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from tests.unit.search.fakes import FixedArm, FixedDocuments, Stack

from quarry.deadline import Deadline
from quarry.errors import QuarryError
from quarry.filters import EqualTo, Filter
from quarry.schema import Field, FieldType, Schema
from quarry.search.answer_schedule import Slot
from quarry.search.exploration import FairPairs
from quarry.search.logged_request import LoggedRequest, SearchContext
from quarry.search.page_log import GivenPage
from quarry.search.requests import PageRequest, SearchedCollection
from quarry.search.result_pages import Hit, KeptSearch, ListPlace, PageStore
from quarry.search.service import SearchPage, SearchService
from quarry.types import Document, Fields

SCHEMA = Schema((Field("text", FieldType.TEXT), Field("tag", FieldType.KEYWORD)))
TAGGED = EqualTo("tag", "x")
COUNT = 10
ALWAYS = FairPairs(swap_probability=0.5, depth=COUNT)
RENDERED_BYTES = 100


class RecordingLog:
    """Keeps the pages that it is given. A page's token names its place in ``pages``."""

    def __init__(self) -> None:
        self.pages: list[GivenPage] = []

    def log(self, page: GivenPage) -> str:
        self.pages.append(page)
        return f"token-{len(self.pages)}"


class CountingArm(FixedArm):
    """Counts how often it is asked, and knows whether the re-rankers were held meanwhile."""

    def __init__(self, held: list[bool]) -> None:
        super().__init__("bm25", {n: float(COUNT - n) for n in range(COUNT)})
        self._held, self.held_when_asked = held, list[bool]()

    async def retrieve(self, *arguments: Any, **named: Any) -> Any:
        self.held_when_asked.append(bool(self._held))
        return await super().retrieve(*arguments, **named)


@dataclass
class Searched:
    """Searches one collection. Document ``d0`` is the best for every query, ``d9`` the worst."""

    threads: ThreadPoolExecutor
    max_kept_bytes: int = 1_000_000
    log: RecordingLog = field(default_factory=RecordingLog)
    documents: FixedDocuments = field(
        default_factory=lambda: FixedDocuments({n: {"text": f"t{n}", "tag": "x"} for n in range(COUNT)})
    )
    generation: str = "g"
    held: list[bool] = field(default_factory=list)
    refusal: QuarryError | None = None

    def __post_init__(self) -> None:
        self.arm = CountingArm(self.held)
        self.stack = Stack([self.arm], self.threads, {n: {"text": f"t{n}"} for n in range(COUNT)})
        self.pages: PageStore[KeptSearch] = PageStore(60.0, self.max_kept_bytes)
        self.service = SearchService(self.pages, self.log)

    @property
    def collection(self) -> SearchedCollection:
        searcher = self.stack.searcher(self.documents)
        return SearchedCollection(7, SCHEMA, self.documents, self.generation, searcher, cut_passages)

    async def search(
        self, filter: Filter | None = None, text: str = "words", deepens: bool = False, **changes: Any
    ) -> SearchPage[str]:
        query = self.stack.make_query(text, filter=filter, deepens=deepens)
        return await self.service.search(self.collection, query, asked(**changes), self.hold(), slot())

    async def turn(self, place: ListPlace | None, **changes: Any) -> SearchPage[str]:
        assert place is not None
        return await self.service.turn_page(self.collection, place, asked(**changes), slot())

    async def browse_on(
        self, place: ListPlace | None, filter: Filter | None = None, **changes: Any
    ) -> SearchPage[str]:
        """Gives a later page of an empty query, as the server does: from a list only where one is kept."""
        assert place is not None
        if not place.docno:
            return await self.turn(place, **changes)
        query = self.stack.make_query("", filter=filter)
        return await self.service.browse_on(self.collection, query, place, asked(**changes), slot())

    @contextlib.asynccontextmanager
    async def hold(self) -> AsyncIterator["asyncio.Future[None]"]:
        if self.refusal is not None:
            raise self.refusal
        loaded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        loaded.set_result(None)
        self.held.append(True)
        try:
            yield loaded
        finally:
            self.held.clear()


def asked(size: int = 4, exploration: FairPairs | None = None, **changes: Any) -> PageRequest[str]:
    logged = LoggedRequest("words", b"raw filter", SearchContext(user_id="u"), exploration or FairPairs())
    return replace(PageRequest(logged, size, 10_000, render), **changes)


def render(document: Document) -> tuple[str, int]:
    return f"<{document.id} v{document.version}>", RENDERED_BYTES


async def cut_passages(documents: Sequence[Fields]) -> list[list[str]]:
    return [[f"first of {fields['text']}", f"second of {fields['text']}"] for fields in documents]


def slot() -> Slot:
    return Slot.make_single(Deadline.set_after(30.0))


def ids(page: SearchPage[str]) -> list[str]:
    return [hit.document.id for hit in page.hits]


def places(hits: Sequence[Hit[str]]) -> list[int]:
    return [hit.place for hit in hits]


@contextlib.contextmanager
def searched(**changes: Any) -> Iterator[Searched]:
    with ThreadPoolExecutor(2) as threads:
        yield Searched(threads, **changes)
