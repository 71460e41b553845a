"""A log and an index that fails, to be followed by a follower, and a cache without vectors."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random
from threading import Lock

import numpy as np

from quarry.documents.follower import Follower
from quarry.errors import RetrieverUnavailableError
from quarry.retrieval.definition import FollowPolicy
from quarry.types import Change, Docno, Document, Position

GENERATION = "g1"
PATIENCE_S = 20.0
POLICY = FollowPolicy(batch_rows=3, settle_batches=2, settle_s=0.01, idle_settle_s=0.001, retry_s=0.0005)


class Log:
    """What a follower reads: the latest write of each document, in the order of writes."""

    def __init__(self) -> None:
        self.rows: dict[Docno, Change] = {}
        self.last = 0
        self._lock = Lock()  # a follower reads in a thread, and never half of a write

    def write(self, docno: int, value: int | str | None) -> int:
        fields = None if value is None else {"value": value}
        with self._lock:
            self.last += 1
            self.rows[Docno(docno)] = Change(Docno(docno), self.last, fields)
            return self.last

    def read_changes(self, after: int, max_rows: int, max_bytes: int) -> list[Change]:
        with self._lock:
            later = sorted((c for c in self.rows.values() if c.version > after), key=lambda c: c.version)
        return later[:max_rows]

    def read_last_sequence(self) -> int:
        return self.last

    def read(self, docnos: Sequence[Docno]) -> dict[Docno, Document]:
        return {
            docno: Document(docno, str(docno), change.fields, change.version, 0)
            for docno in docnos
            if (change := self.rows.get(docno)) is not None and change.fields is not None
        }

    def truth(self) -> dict[Docno, int]:
        return {docno: change.version for docno, change in self.rows.items() if change.fields is not None}


class FailingIndex:
    """An index that loses what was not settled whenever it fails, as a killed writer does."""

    arm = "fake"

    def __init__(self, random: Random | None = None, visible_at_once: bool = False) -> None:
        self.visible_at_once = visible_at_once
        self.durable: dict[Docno, int] = {}
        self.applied: dict[Docno, int] = {}
        self.sequence = 0
        self.failures = 0
        self.settled: list[int] = []
        self._random = random

    async def read_position(self) -> Position:
        self._fail(0.1)
        return Position(GENERATION, self.sequence)

    async def apply(self, changes: Sequence[Change], sequence: int) -> None:
        for change in changes:
            self._fail(0.03)
            if change.fields is None:
                self.applied.pop(change.docno, None)
            else:
                self.applied[change.docno] = change.version

    async def settle(self, sequence: int) -> None:
        self._fail(0.1)
        self.durable, self.sequence = dict(self.applied), sequence
        self.settled.append(sequence)
        self._fail(0.1)  # done, but nobody was told

    def _fail(self, share: float) -> None:
        if self._random is not None and self._random.random() < share:
            self.crash()
            raise RetrieverUnavailableError(self.arm, "it was killed")

    def crash(self) -> None:
        self.applied = dict(self.durable)
        self.failures += 1

    def heal(self) -> None:
        self._random = None


def follower_of(log: Log, index: FailingIndex) -> Follower:
    return Follower(index, GENERATION, log.read_changes, log.read_last_sequence, POLICY)


@asynccontextmanager
async def following(log: Log, index: FailingIndex) -> AsyncIterator[Follower]:
    follower = follower_of(log, index)
    await follower.start()
    try:
        yield follower
    finally:
        await follower.stop()


async def caught_up(follower: Follower, log: Log) -> None:
    assert await follower.wait_visible(log.last, PATIENCE_S)


class NoVectors:
    async def note_uses(self, owner: str, documents: object) -> None:
        return

    async def read_vectors(self, documents: Sequence[object]) -> list[object]:
        return [np.zeros((0, 4), np.float32) for _ in documents]
