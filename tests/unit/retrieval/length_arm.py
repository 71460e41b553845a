"""A third arm, for the tests: the nearer a document's text is to the query in length, the better."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence

from quarry.deadline import NO_LIMIT, Deadline
from quarry.errors import QuarryError
from quarry.filters import Filter, matches
from quarry.retrieval.definition import ArmDefinition, ArmSite, OpenArm
from quarry.retrieval.retriever import Retrieved
from quarry.retrieval.text_query import SearchText
from quarry.types import Candidate, Change, Docno, Fields, Position

NAME = "length"


class LengthArm(OpenArm):
    """Holds every document in memory; its own retriever and its own followed index.

    Attributes:
        failure: what every search raises; None: none does.
        stuck: whether searches never end.
    """

    name = arm = NAME
    visible_at_once = True

    def __init__(self, generation: str) -> None:
        self.retriever = self.index = self
        self.failure: QuarryError | None = None
        self.stuck = False
        self._generation, self._durable, self._applied = generation, 0, 0
        self._documents: dict[Docno, tuple[int, Fields]] = {}

    async def read_position(self) -> Position:
        return Position(self._generation, self._durable)

    async def apply(self, changes: Sequence[Change], sequence: int) -> None:
        for change in changes:
            self._documents.pop(change.docno, None)
            if change.fields is not None:
                self._documents[change.docno] = change.version, change.fields
        self._applied = sequence

    async def settle(self, sequence: int) -> None:
        self._durable = self._applied

    async def count(self) -> int:
        return len(self._documents)

    async def read_versions(self) -> AsyncIterator[tuple[Docno, int]]:
        for docno, (version, _) in self._documents.items():
            yield docno, version

    async def close(self) -> None:
        self._documents.clear()

    async def retrieve(
        self,
        text: SearchText,
        depth: int,
        filter: Filter | None,
        limit: Deadline = NO_LIMIT,
        boost_scale: float = 1.0,
    ) -> Retrieved:
        if self.stuck:
            await asyncio.Event().wait()
        if self.failure is not None:
            raise self.failure

        def score(docno: Docno) -> Candidate:
            return Candidate(
                docno, 1 / (1 + abs(len(str(self._documents[docno][1]["text"])) - len(str(text))))
            )

        async def complete(docnos: Collection[Docno]) -> dict[Docno, Candidate]:
            return {docno: score(docno) for docno in docnos if docno in self._documents}

        passing = [
            d for d, (_, fields) in self._documents.items() if filter is None or matches(filter, fields)
        ]
        found = sorted(map(score, passing), key=lambda candidate: (-candidate.score, candidate.docno))
        return Retrieved(found[:depth], LENGTH.low, 1.0, complete, absent_is_low=False)


class Opening:
    """Opens the arm.

    Attributes:
        arm: that was opened last.
        failures: what the next openings raise, one after the other.
    """

    def __init__(self) -> None:
        self.arm: LengthArm
        self.failures: list[QuarryError] = []

    async def __call__(self, site: ArmSite) -> LengthArm:
        if self.failures:
            raise self.failures.pop(0)
        self.arm = LengthArm(site.generation)
        return self.arm


OPENING = Opening()
LENGTH = ArmDefinition(NAME, OPENING, weight=0.5, low=0.0, high=1.0)
