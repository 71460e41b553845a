"""Large changes of the log are prepared beside it, and lose nothing by it."""

import asyncio
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.documents.followed import (
    GENERATION,
    PATIENCE_S,
    FailingIndex,
    Log,
    NoVectors,
    caught_up,
    following,
)

from quarry.documents import set_aside
from quarry.documents.set_aside import LARGE_CHARS, Preparation, PreparingIndex
from quarry.errors import RetrieverUnavailableError
from quarry.retrieval.dense_arm import FollowedDense
from quarry.retrieval.memory_dense import MemoryDenseStore
from quarry.schema import DEFAULT_SCHEMA
from quarry.types import Change, Docno
from quarry.waiting import TellProgress, tell_nobody


class SlowIndex(FailingIndex):
    """An index that prepares large changes: when it is told to, or at once with random failures."""

    def __init__(self, random: Random | None = None, visible_at_once: bool = True) -> None:
        super().__init__(random, visible_at_once)
        self.begun: list[int] = []
        self.prepared: list[int] = []
        self.positions: list[int] = []
        self.go_on = asyncio.Event()
        if random is not None:
            self.go_on.set()

    async def prepare(self, change: Change, tell: TellProgress) -> None:
        self.begun.append(change.version)
        tell(1, 3)
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
    log, index = Log(), SlowIndex()
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
        assert (follower.reached_sequence, follower.list_preparations()) == (
            small,
            [Preparation(large, 1, 3)],
        )
        index.go_on.set()
        assert await follower.wait_visible(small, PATIENCE_S)
        assert (index.applied, index.prepared) == (log.truth(), [large])
        assert index.positions[-1] == small == follower.visible
        assert follower.list_preparations() == []
        log.write(4, 0)
        follower.notify()
        await caught_up(follower, log)


async def test_a_crash_loses_no_large_change_that_was_being_prepared() -> None:
    log, index = Log(), SlowIndex()
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
    log, index = Log(), SlowIndex()
    async with following(log, index) as follower:
        log.write(1, LARGE)
        log.write(2, 0)
        follower.notify()
        assert await follower.wait_visible(2, PATIENCE_S, after=1)
        log.write(1, None)
        follower.notify()
        await caught_up(follower, log)
        assert (index.applied, index.prepared) == ({2: 2}, [])


async def test_the_same_content_again_goes_on_with_what_is_being_prepared() -> None:
    log, index = Log(), SlowIndex()
    async with following(log, index) as follower:
        log.write(1, LARGE)
        log.write(2, 0)
        follower.notify()
        assert await follower.wait_visible(2, PATIENCE_S, after=1)
        again = log.write(1, LARGE)
        small = log.write(2, 1)
        follower.notify()
        assert await follower.wait_visible(small, PATIENCE_S, after=again)
        assert (index.begun, follower.list_preparations()) == ([1], [Preparation(again, 1, 3)])
        index.go_on.set()
        await caught_up(follower, log)
        assert (index.begun, index.applied) == ([1], {1: again, 2: small})


async def test_other_content_of_the_same_size_is_prepared_anew() -> None:
    log, index = Log(), SlowIndex()
    async with following(log, index) as follower:
        log.write(1, LARGE)
        log.write(2, 0)
        follower.notify()
        assert await follower.wait_visible(2, PATIENCE_S, after=1)
        other = log.write(1, "b" * LARGE_CHARS)
        small = log.write(2, 1)
        follower.notify()
        assert await follower.wait_visible(small, PATIENCE_S, after=other)
        index.go_on.set()
        await caught_up(follower, log)
        assert index.prepared == [other]


async def test_what_is_set_aside_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(set_aside, "MOST_CHARS", 2 * LARGE_CHARS)
    log, index = Log(), SlowIndex()
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
        index = SlowIndex(Random(seed), visible_at_once)
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


class RememberedVectors(NoVectors):
    """A cache, and the order in which it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def note_uses(self, owner: str, documents: object) -> None:
        self.asked.append("uses")

    async def read_vectors(
        self, documents: Sequence[object], tell: TellProgress = tell_nobody
    ) -> list[object]:
        self.asked.append("vectors")
        tell(2, 5)
        return await super().read_vectors(documents)


async def test_a_dense_index_encodes_into_the_cache_when_it_prepares() -> None:
    vectors, store = RememberedVectors(), MemoryDenseStore(GENERATION, 4)
    index = FollowedDense(store, vectors, DEFAULT_SCHEMA, GENERATION)  # type: ignore[arg-type]
    assert isinstance(index, PreparingIndex)
    told: list[tuple[int, int]] = []
    await index.prepare(Change(Docno(1), 1, {"text": "a"}), lambda *counts: told.append(counts))
    assert told == [(2, 5)]
    assert vectors.asked == ["uses", "vectors"]
    assert await store.count() == 0
