"""The live first stage as a member of the ensemble: what the collection really puts before a re-ranker."""

import time
from collections.abc import Sequence

import grpc

from quarry.errors import FailedPreconditionError, RetrieverUnavailableError
from quarry.jobs.retrying import Pause, retried
from quarry.v1 import search_service_pb2 as pb
from quarry.v1 import search_service_pb2_grpc
from quarry_miner.corpus import Corpus
from quarry_miner.live_arm import MAX_DEPTH, TIMEOUT_S, is_transient
from quarry_miner.members import FUSED, Listed

SCORE_DIGITS = 4
"""Of a fused score. Its last bits depend on which queries the server encoded together, and the same state of
the collection is to give the same rows."""


class LivePool:
    """Asks a collection's searches, without re-ranking and without leaving a trace in the feedback log.

    A training reads the same lists, and so does a re-ranker when it serves: the documents that it is going to
    confuse are among them.

    Attributes:
        unknown: documents so far that the corpus does not know, being written after its snapshot; left out.
    """

    name = FUSED

    def __init__(
        self, corpus: Corpus, channel: grpc.Channel, collection: str, pause: Pause = time.sleep
    ) -> None:
        self._corpus, self._collection, self._pause = corpus, collection, pause
        self._stub = search_service_pb2_grpc.SearchServiceStub(channel)
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
        """At most as many documents of each query as a re-ranker reads, in fused order, with fused scores.

        Raises:
            RetrieverUnavailableError: the server does not answer in full, however often it is asked.
            FailedPreconditionError: it refuses a search.
        """
        size = min(depth, MAX_DEPTH)
        return Listed.of_rows([self._row(text, size) for text in queries], depth)

    def _row(self, text: str, depth: int) -> tuple[list[int], list[float]]:
        hits = self._hits(text, depth)
        known = [(self._corpus.numbers.get(hit.document.id, -1), hit.explanation.fused_score) for hit in hits]
        kept = [(number, round(score, SCORE_DIGITS)) for number, score in known if number >= 0]
        self.unknown += len(known) - len(kept)
        kept.sort(key=lambda one: (-one[1], one[0]))
        return [number for number, _ in kept], [score for _, score in kept]

    def _hits(self, text: str, depth: int) -> list[pb.Hit]:
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
        while len(hits) < depth:
            response = self._search(request)
            hits += response.hits
            request.page_token = response.next_page_token
            if not response.next_page_token:
                break
        return hits[:depth]

    def _search(self, request: pb.SearchRequest) -> pb.SearchResponse:
        try:
            return retried(
                lambda: self._stub.Search(request, timeout=TIMEOUT_S),
                is_transient,
                "the first stage",
                self._pause,
            )
        except grpc.RpcError as error:
            if is_transient(error):
                raise RetrieverUnavailableError(FUSED, str(error.details())) from error
            problem = f"the first stage cannot be asked: {error.details()}"
            raise FailedPreconditionError(problem, arm=FUSED) from error
