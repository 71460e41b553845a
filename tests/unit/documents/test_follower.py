import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random
from threading import Lock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarry.collections.consistency import ArmDifferences, reapply
from quarry.documents import set_aside
from quarry.documents.follower import Follower
from quarry.documents.set_aside import LARGE_CHARS, PreparedIndex
from quarry.errors import DataLossError, RetrieverUnavailableError
from quarry.retrieval.base import VectorChange
from quarry.retrieval.bm25_arm import FollowedLexical
from quarry.retrieval.definition import FollowPolicy
from quarry.retrieval.dense_arm import FollowedDense
from quarry.retrieval.memory_dense import MemoryDenseStore
from quarry.schema import DEFAULT_SCHEMA
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


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), visible_at_once=st.booleans())
def test_an_index_that_fails_at_random_ends_equal_to_the_log(seed: int, visible_at_once: bool) -> None:
    async def run() -> None:
        random, log = Random(seed), Log()
        index = FailingIndex(Random(seed), visible_at_once)
        async with following(log, index) as follower:
            for _ in range(60):
                log.write(random.randint(1, 12), random.choice([None, 1, 2, 3]))
                follower.notify()
                if random.random() < 0.2:
                    await follower.wait_visible(random.randint(0, log.last), 0.002)
                await asyncio.sleep(0)
            index.heal()
            await caught_up(follower, log)
        assert index.applied == log.truth()
        async with following(log, index) as again:  # a new start settles the rest
            await caught_up(again, log)
            async with asyncio.timeout(PATIENCE_S):
                while again.durable < log.last:  # noqa: ASYNC110  # progress below what was waited for has no event
                    await asyncio.sleep(0.001)
        assert index.durable == log.truth()
        assert index.sequence == log.last

    asyncio.run(run())


async def test_what_is_said_to_be_visible_is(seed: int = 5) -> None:
    random, log = Random(seed), Log()
    index = FailingIndex(Random(seed))
    async with following(log, index) as follower:
        for n in range(200):
            sequence = log.write(n % 9 + 1, n)
            follower.notify()
            assert await follower.wait_visible(sequence, PATIENCE_S)
            assert index.sequence >= sequence
            if random.random() < 0.1:
                await asyncio.sleep(0)
    assert index.failures > 10


async def test_an_index_ahead_of_the_log_is_not_followed() -> None:
    log, index = Log(), FailingIndex()
    log.write(1, 1)
    index.sequence = 2
    async with following(log, index) as follower:
        assert isinstance(follower.halted, DataLossError)
        assert "part of the log is lost" in str(follower.halted)
        assert follower.error == str(follower.halted)
        assert not await follower.wait_visible(1, PATIENCE_S)
    assert index.applied == {}


async def test_writes_made_after_the_start_do_not_hide_that_the_log_is_behind() -> None:
    """The index cannot be reached at first; when it can, the log has outgrown its position."""
    log, index = Log(), FailingIndex()
    log.write(1, 1)
    index.sequence = 2
    index._random = Random(0)
    reach = index._fail
    index._fail = lambda share: reach(1.0)  # type: ignore[method-assign]
    async with following(log, index) as follower:
        assert follower.halted is None and follower.error is not None
        for value in range(5):
            log.write(2, value)
        index._fail = lambda share: None  # type: ignore[method-assign]
        assert not await follower.wait_visible(log.last, PATIENCE_S)
        assert isinstance(follower.halted, DataLossError)


async def test_an_index_of_another_generation_is_not_followed() -> None:
    log, index = Log(), FailingIndex()
    log.write(1, 1)
    index.sequence = 1
    follower = Follower(index, "g2", log.read_changes, log.read_last_sequence, POLICY)
    await follower.start()
    assert isinstance(follower.halted, DataLossError)
    await follower.stop()


async def test_a_correction_never_moves_the_position_past_what_was_followed() -> None:
    """The document that differed has been written again since: its new version is not the position."""
    log, index = Log(), FailingIndex()
    for docno in (1, 2, 3):
        log.write(docno, 0)
    async with following(log, index) as follower:
        await caught_up(follower, log)
        del index.applied[Docno(1)]
        async with follower.pause():
            log.write(2, 1)
            log.write(1, 1)
            index.settled.clear()
        await reapply(follower, ArmDifferences("fake", 3, missing=[Docno(1)]), log)  # type: ignore[arg-type]
        assert index.settled[0] in (3, 5)  # 3, unless the follower was there first
        await caught_up(follower, log)
    assert index.applied == log.truth()


async def test_a_correction_that_fails_loses_nothing_that_waited_to_be_settled() -> None:
    log, index = Log(), FailingIndex()
    log.write(1, 0)
    policy = FollowPolicy(batch_rows=3, idle_settle_s=3_600.0)
    follower = Follower(index, GENERATION, log.read_changes, log.read_last_sequence, policy)
    await follower.start()
    await caught_up(follower, log)
    log.write(2, 0)
    follower.notify()
    async with asyncio.timeout(PATIENCE_S):
        while Docno(2) not in index.applied:  # noqa: ASYNC110  # what waits to be settled has no event
            await asyncio.sleep(0.001)
    index._random = Random(0)
    reach = index._fail
    index._fail = lambda share: reach(1.0)  # type: ignore[method-assign]
    with pytest.raises(RetrieverUnavailableError):
        await reapply(follower, ArmDifferences("fake", 1, missing=[Docno(1)]), log)  # type: ignore[arg-type]
    index._fail = lambda share: None  # type: ignore[method-assign]
    assert await follower.wait_visible(2, PATIENCE_S)
    assert index.durable == log.truth()
    await follower.stop()


# large changes


class PreparingIndex(FailingIndex):
    """An index that prepares large changes: when it is told to, or at once with random failures."""

    def __init__(self, random: Random | None = None, visible_at_once: bool = True) -> None:
        super().__init__(random, visible_at_once)
        self.prepared: list[int] = []
        self.positions: list[int] = []
        self.go_on = asyncio.Event()
        if random is not None:
            self.go_on.set()

    async def prepare(self, change: Change) -> None:
        await self.go_on.wait()
        await asyncio.sleep(0)
        if self._random is not None and self._random.random() < 0.1:  # the index itself loses nothing by it
            raise RetrieverUnavailableError(self.arm, "it did not prepare a change")
        self.prepared.append(change.version)

    async def apply(self, changes: Sequence[Change], sequence: int) -> None:
        self.positions.append(sequence)
        await super().apply(changes, sequence)


LARGE = "a" * LARGE_CHARS


async def test_small_changes_do_not_wait_for_a_large_one_before_them() -> None:
    log, index = Log(), PreparingIndex()
    async with following(log, index) as follower:
        log.write(1, 0)
        large = log.write(2, LARGE)
        small = log.write(3, 0)
        follower.notify()
        assert await follower.wait_visible(small, PATIENCE_S, after=small - 1)
        assert not await follower.wait_visible(small, 0.02)
        assert not await follower.wait_visible(large, 0.02, after=large - 1)
        assert index.applied == {1: 1, 3: 3}
        assert max(index.positions) == large - 1 == follower.visible
        index.go_on.set()
        assert await follower.wait_visible(small, PATIENCE_S)
        assert (index.applied, index.prepared) == (log.truth(), [large])
        assert index.positions[-1] == small == follower.visible
        log.write(4, 0)
        follower.notify()
        await caught_up(follower, log)


async def test_a_crash_loses_no_large_change_that_was_being_prepared() -> None:
    log, index = Log(), PreparingIndex()
    async with following(log, index) as follower:
        large = log.write(1, LARGE)
        log.write(2, 0)
        follower.notify()
        assert await follower.wait_visible(2, PATIENCE_S, after=1)
    index.crash()
    assert index.sequence < large
    index.go_on.set()
    async with following(log, index) as follower:
        await caught_up(follower, log)
    assert index.applied == log.truth()


async def test_a_newer_version_takes_the_place_of_a_large_one_that_is_being_prepared() -> None:
    log, index = Log(), PreparingIndex()
    async with following(log, index) as follower:
        log.write(1, LARGE)
        log.write(2, 0)
        follower.notify()
        assert await follower.wait_visible(2, PATIENCE_S, after=1)
        log.write(1, None)
        follower.notify()
        await caught_up(follower, log)
        assert (index.applied, index.prepared) == ({2: 2}, [])


async def test_what_is_set_aside_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(set_aside, "MOST_CHARS", 2 * LARGE_CHARS)
    log, index = Log(), PreparingIndex()
    async with following(log, index) as follower:
        for docno in range(1, 5):
            log.write(docno, LARGE)
        small = log.write(5, 0)
        follower.notify()
        assert not await follower.wait_visible(small, 0.05, after=small - 1)
        index.go_on.set()
        await caught_up(follower, log)
    assert index.prepared == [1, 2, 3, 4]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), visible_at_once=st.booleans())
def test_large_changes_and_failures_at_random_end_equal_to_the_log(seed: int, visible_at_once: bool) -> None:
    async def run() -> None:
        random, log = Random(seed), Log()
        index = PreparingIndex(Random(seed), visible_at_once)
        async with following(log, index) as follower:
            for _ in range(60):
                log.write(random.randint(1, 12), random.choice([None, 1, LARGE, LARGE]))
                follower.notify()
                if random.random() < 0.3:
                    after = random.randint(0, log.last)
                    until = random.randint(after, log.last)
                    if await follower.wait_visible(until, 0.002, after):
                        _check_found(log, index, after, until)
            index.heal()
            await caught_up(follower, log)
            assert index.applied == log.truth()

    asyncio.run(run())


def _check_found(log: Log, index: FailingIndex, after: int, until: int) -> None:
    """Checks that the index has what was written there last, unless it has crashed since."""
    for docno, change in log.rows.items():
        if after < change.version <= until and not index.failures:
            assert index.applied.get(docno) == (change.version if change.fields else None)


# the arms' own


class ForgetfulStore(MemoryDenseStore):
    """Its process is started again before the flush: it no longer knows what it was told."""

    async def flush(self) -> Position:
        return Position(GENERATION, 0)


class NoVectors:
    async def note_uses(self, owner: str, documents: object) -> None:
        return

    async def read_vectors(self, documents: Sequence[object]) -> list[object]:
        return [np.zeros((0, 4), np.float32) for _ in documents]


class RememberedVectors(NoVectors):
    """A cache, and the order in which it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def note_uses(self, owner: str, documents: object) -> None:
        self.asked.append("uses")

    async def read_vectors(self, documents: Sequence[object]) -> list[object]:
        self.asked.append("vectors")
        return await super().read_vectors(documents)


async def test_a_dense_index_encodes_into_the_cache_when_it_prepares() -> None:
    vectors, store = RememberedVectors(), MemoryDenseStore(4, GENERATION)
    index = FollowedDense(store, vectors, DEFAULT_SCHEMA, GENERATION)  # type: ignore[arg-type]
    assert isinstance(index, PreparedIndex)
    await index.prepare(Change(Docno(1), 1, {"text": "a"}))
    assert vectors.asked == ["uses", "vectors"]
    assert await store.count() == 0


async def test_a_flush_that_holds_less_than_was_applied_is_a_failure() -> None:
    index = FollowedDense(ForgetfulStore(GENERATION, 4), NoVectors(), DEFAULT_SCHEMA, GENERATION)  # type: ignore[arg-type]
    await index.apply([Change(Docno(1), 1, {"text": "a"})], 1)
    with pytest.raises(RetrieverUnavailableError, match="up to 0 only"):
        await index.settle(1)


async def test_the_dense_position_is_that_of_the_log_not_of_the_last_change() -> None:
    told: list[int] = []

    class Store(MemoryDenseStore):
        async def apply(self, changes: Sequence[VectorChange], sequence: int) -> None:
            told.append(sequence)

    index = FollowedDense(Store(GENERATION, 4), NoVectors(), DEFAULT_SCHEMA, GENERATION)  # type: ignore[arg-type]
    await index.apply([Change(Docno(1), 9, {"text": "a"})], 7)
    assert told == [7]


async def test_a_cancelled_follower_waits_for_the_thread_that_still_writes() -> None:
    import threading

    entered, leave, left = threading.Event(), threading.Event(), threading.Event()

    class SlowIndex:
        def commit(self, sequence: int) -> None:
            entered.set()
            leave.wait(PATIENCE_S)
            left.set()

    index = FollowedLexical(SlowIndex())  # type: ignore[arg-type]
    settling = asyncio.create_task(index.settle(1))
    await asyncio.to_thread(entered.wait, PATIENCE_S)
    settling.cancel()
    await asyncio.sleep(0)
    assert not settling.done()
    leave.set()
    with pytest.raises(asyncio.CancelledError):
        await settling
    assert left.is_set()
