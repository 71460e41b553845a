import asyncio
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.documents.followed import (
    GENERATION,
    PATIENCE_S,
    POLICY,
    FailingIndex,
    Log,
    NoVectors,
    caught_up,
    following,
)

from quarry.collections.consistency import ArmDifferences, reapply
from quarry.documents.follower import Follower
from quarry.errors import DataLossError, RetrieverUnavailableError
from quarry.retrieval.base import VectorChange
from quarry.retrieval.bm25_arm import FollowedLexical
from quarry.retrieval.definition import FollowPolicy
from quarry.retrieval.dense_arm import FollowedDense
from quarry.retrieval.memory_dense import MemoryDenseStore
from quarry.schema import DEFAULT_SCHEMA
from quarry.types import Change, Docno, Position


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


# the arms' own


class ForgetfulStore(MemoryDenseStore):
    """Its process is started again before the flush: it no longer knows what it was told."""

    async def flush(self) -> Position:
        return Position(GENERATION, 0)


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
