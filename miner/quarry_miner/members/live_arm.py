"""A live arm of the server as a member: asks ``SearchService.Retrieve``, many queries a call."""

import time
from collections.abc import Iterator, Sequence

from quarry.client import Client, QuarryCallError
from quarry.client.errors import is_transient
from quarry.errors import FailedPreconditionError, RetrieverUnavailableError
from quarry.jobs.retrying import Pause, retry
from quarry.ranking.ranges import ARM_DEPTH
from quarry.v1 import search_service_pb2 as pb
from quarry_miner.corpus import Corpus
from quarry_miner.members.members import Listed

QUERIES_PER_CALL = 256
CANDIDATES_PER_CALL = 25_600
"""A candidate is some 40 bytes: an answer stays under 2 MB."""
TIMEOUT_S = 120.0


class LiveArm:
    """Asks one arm of a collection.

    Attributes:
        unknown: candidates so far that the corpus does not know, being written after its snapshot; left out.
        incomplete: calls so far in which the arm did not hold all documents yet.
    """

    def __init__(
        self,
        name: str,
        corpus: Corpus,
        client: Client,
        collection: str,
        pause: Pause = time.sleep,
    ) -> None:
        self._name, self._corpus, self._collection, self._pause = name, corpus, collection, pause
        self._stub = client.search
        self.unknown = 0
        self.incomplete = 0

    @property
    def name(self) -> str:
        return self._name

    @property
    def notes(self) -> tuple[str, ...]:
        """What its lists were without so far, for people."""
        told = []
        if self.incomplete:
            told.append(
                f"{self._name}: in {self.incomplete:,} calls the live arm did not yet hold all documents; "
                "what it lacked is not among the candidates"
            )
        if self.unknown:
            told.append(
                f"{self._name}: {self.unknown:,} candidates of the live arm were left out: they were written "
                "after the documents were read"
            )
        return tuple(told)

    def search(self, queries: Sequence[str], depth: int) -> Listed:
        size = max(1, min(QUERIES_PER_CALL, CANDIDATES_PER_CALL // max(1, depth)))
        rows: list[tuple[list[int], list[float]]] = []
        for start in range(0, len(queries), size):
            rows += self._read_rows(queries[start : start + size], min(depth, int(ARM_DEPTH.most)))
        return Listed.from_rows(rows, depth)

    def _read_rows(self, queries: Sequence[str], depth: int) -> Iterator[tuple[list[int], list[float]]]:
        request = pb.RetrieveRequest(collection=self._collection)
        request.queries.extend(pb.RetrieveQuery(text=text) for text in queries)
        request.arms.add(name=self._name, depth=depth)
        response = self._retrieve(request)
        self.incomplete += bool(response.degraded)
        for result in response.results:
            (found,) = result.arms
            if found.status.code:
                raise RetrieverUnavailableError(self._name, found.status.message)
            known = [(self._corpus.numbers.get(c.document_id, -1), c.score) for c in found.candidates]
            kept = [(number, score) for number, score in known if number >= 0]
            self.unknown += len(known) - len(kept)
            yield [number for number, _ in kept], [score for _, score in kept]

    def _retrieve(self, request: pb.RetrieveRequest) -> pb.RetrieveResponse:
        try:
            return retry(
                lambda: self._stub.Retrieve(request, timeout=TIMEOUT_S),
                is_transient,
                f"the {self._name} arm",
                self._pause,
            )
        except QuarryCallError as error:
            if is_transient(error):
                raise RetrieverUnavailableError(self._name, error.message) from error
            problem = f"the {self._name} arm cannot be asked: {error.message}"
            raise FailedPreconditionError(problem, arm=self._name) from error
