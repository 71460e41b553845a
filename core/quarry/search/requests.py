"""The request of one page of a search: the collection, and how the page is to look.

How the hits are ranked is in ``quarry.ranking.queries.Query``.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from quarry.facets import FacetRequest
from quarry.schema import Schema
from quarry.search.logged_request import LoggedRequest
from quarry.search.pipeline import Searcher
from quarry.search.resolving import Documents
from quarry.search.results.snippets import SnippetPlan
from quarry.types import Document, Fields

M = TypeVar("M")

CutPassages = Callable[[Sequence[Fields]], Awaitable[Sequence[Sequence[str]]]]
"""Cuts each document into the passages that its vectors stand for; none without a dense arm."""
Render = Callable[[Document], tuple[M, int]]
"""Makes what is given out of a document, and says how many bytes that takes. A thread calls it."""


@dataclass(frozen=True, slots=True)
class SearchedCollection:
    """A collection as one search sees it.

    Attributes:
        key: its number in the log.
        documents: its log.
        generation: name of the indexes that answer.
        searcher: ranks the documents of this generation.
    """

    key: int
    schema: Schema
    documents: Documents
    generation: str
    searcher: Searcher
    cut_passages: CutPassages


@dataclass(frozen=True, slots=True)
class PageRequest(Generic[M]):
    """A request for one page of a search. All pages of a search have the same but for their sizes.

    Attributes:
        logged: goes into the feedback log unless ``unlogged``; its exploration orders the hits either way.
        size: hits on the page, at most.
        max_bytes: that the rendered documents of a page of two or more take, at most.
        explain: each hit comes with its passage, and later pages keep their explanations.
        snippets: of each hit; None for none.
        facets: to be counted for the first page.
    """

    logged: LoggedRequest
    size: int
    max_bytes: int
    render: Render[M]
    explain: bool = False
    unlogged: bool = False
    snippets: SnippetPlan | None = None
    facets: tuple[FacetRequest, ...] = ()

    @property
    def reads_passages(self) -> bool:
        """Whether a hit's best passage has to be known on later pages, too."""
        return self.explain or self.snippets is not None
