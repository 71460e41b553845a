"""A page as it is handed to the feedback log, of which a search knows no more than this."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from quarry.ranking.ranking import RankedDocument, Ranking
from quarry.schema import Schema
from quarry.search.logged_request import LoggedRequest
from quarry.search.resolving import Documents
from quarry.search.result_pages import ListPlace


@dataclass(frozen=True, slots=True)
class GivenPage:
    """A page of a search, as it was given out.

    Attributes:
        collection: its key.
        documents: the collection's log.
        ranking: explored already.
        shown: each hit's place in the list from 0, the hit, and the id and version that were given out.
        explored: entries of the list that were there when it was explored.
    """

    collection: int
    schema: Schema
    documents: Documents
    place: ListPlace
    request: LoggedRequest
    ranking: Ranking
    shown: Sequence[tuple[int, RankedDocument, str, int]]
    explored: int


class PageLog(Protocol):
    """Keeps what searches gave out."""

    def log(self, page: GivenPage) -> str:
        """Takes a page to be logged without waiting; returns the token by which events refer to it."""
        ...
