"""Asks the live server what it would give a re-ranker to order: the best fused candidates of many queries."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quarry.client import Client, QuarryCallError
from quarry.client.errors import is_transient
from quarry.errors import FailedPreconditionError, UnavailableError
from quarry.jobs.child import CHANNEL_OPTIONS
from quarry.jobs.retrying import Pause, retry
from quarry.v1 import search_service_pb2 as pb
from quarry_trainer.data.entities import TitlesOf, read_no_titles
from quarry_trainer.data.matching_passages import MatchingPassages, open_documents, read_collection

Float64 = NDArray[np.float64]
Counted = Callable[[int, int], None]
"""Told how many of how many are done."""
PassagesOf = Callable[[str, Sequence[str]], Mapping[str, str]]
"""The passage of each document that matches a query, by id; without those that are gone."""

DEPTH = 50
"""Candidates that the server re-ranks unless a search says otherwise."""
THREADS = 2
"""Searches under way at once: more would make those of people wait."""
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, eq=False)
class RankedQuery:
    """The candidates that a re-ranker is given to order for one query, ``n`` of them, best first in fused
    order.

    Attributes:
        query_id: whatever the caller knows it by.
        text: as the re-ranker reads it.
        documents: ids, distinct.
        fused: float64 in [0, 1], shape ``(n,)``, not rising: a share of what the method can give at most.
        passages: the text that the re-ranker reads of each.
        arms: which arms returned each, of themselves.

    Raises:
        ValueError: of other lengths.
    """

    query_id: str
    text: str
    documents: tuple[str, ...]
    fused: Float64
    passages: tuple[str, ...]
    arms: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        if not len(self.documents) == len(self.fused) == len(self.passages) == len(self.arms):
            raise ValueError(f"{self.query_id}: documents, scores, passages and arms differ in number")

    def __len__(self) -> int:
        return len(self.documents)

    def take(self, places: Sequence[int]) -> "RankedQuery":
        """Takes some of the candidates, by their places from 0, ascending."""
        return replace(
            self,
            documents=tuple(self.documents[place] for place in places),
            fused=self.fused[list(places)],
            passages=tuple(self.passages[place] for place in places),
            arms=tuple(self.arms[place] for place in places),
        )


class LiveSearch:
    """Asks a collection's searches, without re-ranking and without leaving a trace in the feedback log.

    Args:
        client: of the server.
        matching: reads the passage of a document whose vectors no search has compared: the re-ranker is given
            the one that matches the query by words.
        pause: waits before a call is tried again.
        titles: reads the titles of documents.
        ranking: name of the ranking configuration that must merge all searches, empty for the default; None:
            the one that merges the first.

    Attributes:
        matching_passages: ``matching``.
        ranking: as above; None until the first search is answered.
    """

    def __init__(
        self,
        client: Client,
        collection: str,
        matching: PassagesOf,
        pause: Pause = time.sleep,
        titles: TitlesOf = read_no_titles,
        ranking: str | None = None,
    ) -> None:
        self._stub = client.search
        self._collection, self.matching_passages, self._pause = collection, matching, pause
        self.titles, self.ranking = titles, ranking

    def rank(
        self, queries: Mapping[str, str], depth: int = DEPTH, counted: Counted | None = None
    ) -> list[RankedQuery]:
        """Ranks the best ``depth`` candidates of each query, in the order of ``queries``.

        Args:
            queries: texts by id; none of them empty, or documents are listed and nothing is ranked.

        Raises:
            FailedPreconditionError: the server refuses a search, or another ranking configuration serves.
            UnavailableError: it does not answer in full, however often it is asked.
        """
        ranked: list[RankedQuery] = []
        with ThreadPoolExecutor(THREADS, thread_name_prefix="search") as pool:
            for one in pool.map(lambda id: self._rank(id, queries[id], depth), queries):
                ranked.append(one)
                if counted is not None:
                    counted(len(ranked), len(queries))
        return ranked

    def _rank(self, query_id: str, text: str, depth: int) -> RankedQuery:
        hits, highest = self._fetch_hits(text, depth)
        missing = [hit.document.id for hit in hits if not hit.explanation.passage]
        matching = self.matching_passages(text, missing) if missing else {}
        return RankedQuery(
            query_id,
            text.strip(),
            tuple(hit.document.id for hit in hits),
            np.array([hit.explanation.fused_score / highest for hit in hits], np.float64),
            tuple(hit.explanation.passage or matching.get(hit.document.id, "") for hit in hits),
            tuple(tuple(arm.arm for arm in hit.explanation.arms if arm.rank) for hit in hits),
        )

    def _fetch_hits(self, text: str, depth: int) -> tuple[list[pb.Hit], float]:
        """Fetches the hits that all arms have scored, and the highest fused score that there can be.

        As many pages as it takes: one is cut short if its texts are too long for a message.
        """
        request = pb.SearchRequest(
            collection=self._collection,
            query=text,
            page_size=depth,
            rerank=pb.Rerank(disabled=True),
            explain=True,
            require_complete=True,
            return_fields=["-"],
            unlogged=True,
        )
        hits: list[pb.Hit] = []
        highest = 1.0
        while len(hits) < depth:
            response = self._search(request)
            self._check_ranking(response.ranking)
            merged = [hit for hit in response.hits if hit.scored_by != pb.SCORE_BASIS_BM25]
            hits += merged
            highest = response.highest_fused or highest
            request.page_token = response.next_page_token
            if not response.next_page_token or len(merged) < len(response.hits):
                break
        return hits[:depth], highest

    def _check_ranking(self, name: str) -> None:
        """Checks the ranking: fused scores of two configurations are not to be compared, nor taken for
        those of one."""
        if self.ranking is None:
            self.ranking = name
        if name != self.ranking:
            raise FailedPreconditionError(
                f"another ranking configuration of {self._collection} serves since the job was asked for: "
                "ask again",
                collection=self._collection,
            )

    def _search(self, request: pb.SearchRequest) -> pb.SearchResponse:
        name = self._collection
        try:
            return retry(
                lambda: self._stub.Search(request, timeout=TIMEOUT_S), is_transient, name, self._pause
            )
        except QuarryCallError as error:
            problem = f"{name} cannot be searched: {error.message}"
            if is_transient(error):
                raise UnavailableError(problem, collection=name) from error
            raise FailedPreconditionError(problem, collection=name) from error


@contextmanager
def open_search(
    data: Path, server: str, collection: str, key: int, ranking: str | None = None
) -> Iterator[LiveSearch]:
    """Opens searches of a collection, for as long as the context lasts.

    Args:
        data: the server's data folder.
        server: its ``host:port``.
        key: the collection's number in the log.
        ranking: as ``LiveSearch`` has it.

    Raises:
        CollectionNotFoundError: it was deleted meanwhile.
        DataLossError: there is no document log.
    """
    with open_documents(data) as database, Client(server, options=CHANNEL_OPTIONS) as client:
        matching = MatchingPassages(database, read_collection(database, key), data)
        yield LiveSearch(client, collection, matching, titles=matching.read_titles, ranking=ranking)
