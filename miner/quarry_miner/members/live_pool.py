"""The live first stage as a member of the ensemble: what the collection really puts before a re-ranker."""

import math
import time
from collections.abc import Sequence
from typing import NamedTuple

from quarry.client import Client, QuarryCallError
from quarry.client.errors import is_transient
from quarry.errors import FailedPreconditionError, RetrieverUnavailableError
from quarry.jobs.retrying import Pause, retry
from quarry.mining.members import FUSED
from quarry.ranking.fusion import round_fused
from quarry.ranking.ranges import RERANK_DEPTH
from quarry.v1 import search_service_pb2 as pb
from quarry_miner.corpus import Corpus
from quarry_miner.members.live_arm import TIMEOUT_S
from quarry_miner.members.members import Listed

UNKNOWN = -1
RELEVANCE_DIGITS = 4
"""Beyond these a probability depends on the last bits of a fused score."""


class _Candidate(NamedTuple):
    number: int
    score: float
    relevance: float


class LivePool:
    """Asks a collection's searches, without leaving a trace in the feedback log.

    A training reads the same lists, and so does a re-ranker when it serves: the documents that it is going to
    confuse are among them.

    Args:
        judged: the re-ranker that serves is calibrated, and says how likely each document answers. It changes
            neither the order nor which documents are listed.

    Attributes:
        unknown: documents so far that the corpus does not know, being written after its snapshot; left out.
    """

    name = FUSED

    def __init__(
        self,
        corpus: Corpus,
        client: Client,
        collection: str,
        pause: Pause = time.sleep,
        judged: bool = False,
    ) -> None:
        self._corpus, self._collection, self._pause = corpus, collection, pause
        self._judged = judged
        self._stub = client.search
        self.unknown = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """What its lists were without so far, for people."""
        if not self.unknown:
            return ()
        return (
            f"{FUSED}: {self.unknown:,} documents of the live first stage were left out: they were written "
            "after the documents were read",
        )

    def search(self, queries: Sequence[str], depth: int) -> Listed:
        """Finds at most as many documents of each query as a re-ranker reads, in fused order, with fused
        scores.

        Raises:
            RetrieverUnavailableError: the server does not answer in full, however often it is asked.
            FailedPreconditionError: it refuses a search.
        """
        size = min(depth, int(RERANK_DEPTH.most))
        rows = [self._read_row(text, size) for text in queries]
        listed = [([one.number for one in row], [one.score for one in row]) for row in rows]
        relevance = [[one.relevance for one in row] for row in rows] if self._judged else None
        return Listed.from_rows(listed, depth, relevance=relevance)

    def _read_row(self, text: str, depth: int) -> list["_Candidate"]:
        """Reads the hits in fused order, whatever a re-ranker has made of it."""
        hits = self._fetch_hits(text, depth)
        found = [
            _Candidate(
                self._corpus.numbers.get(hit.document.id, UNKNOWN),
                round_fused(hit.explanation.fused_score),
                round(hit.relevance, RELEVANCE_DIGITS) if hit.HasField("relevance") else math.nan,
            )
            for hit in hits
        ]
        kept = [one for one in found if one.number != UNKNOWN]
        self.unknown += len(found) - len(kept)
        return sorted(kept, key=lambda one: (-one.score, one.number))

    def _fetch_hits(self, text: str, depth: int) -> list[pb.Hit]:
        """Fetches the first ``depth`` of the fused order, in whatever order: a re-ranker may have put some of
        them on later pages. What BM25 alone has scored comes below all of them, and is left out."""
        request = pb.SearchRequest(
            collection=self._collection,
            query=text,
            page_size=depth,
            rerank=pb.Rerank(disabled=not self._judged),
            explain=True,
            require_complete=True,
            return_fields=["-"],
            unlogged=True,
        )
        found: list[pb.Hit] = []
        while len(found) < depth:
            response = self._search(request)
            merged = [hit for hit in response.hits if hit.scored_by != pb.SCORE_BASIS_BM25]
            found += [hit for hit in merged if hit.explanation.fused_rank <= depth]
            request.page_token = response.next_page_token
            if not response.next_page_token or len(merged) < len(response.hits):
                break
        return found

    def _search(self, request: pb.SearchRequest) -> pb.SearchResponse:
        try:
            return retry(
                lambda: self._stub.Search(request, timeout=TIMEOUT_S),
                is_transient,
                "the first stage",
                self._pause,
            )
        except QuarryCallError as error:
            if is_transient(error):
                raise RetrieverUnavailableError(FUSED, error.message) from error
            problem = f"the first stage cannot be asked: {error.message}"
            raise FailedPreconditionError(problem, arm=FUSED) from error
