"""Erasing goes on, whatever fails."""

import asyncio
import itertools
import logging
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.retrieval.length_arm import OPENING
from tests.unit.retrieval.test_third_arm import served
from tests.unit.retrieval.test_third_arm import third_arm as third_arm

from quarry.collections import generation
from quarry.collections.erasing import LEFTOVERS_S, Eraser, ErasurePolicy
from quarry.collections.generation import Generation
from quarry.deadline import Deadline
from quarry.documents.catalog import read_now_us
from quarry.documents.passages import Cut
from quarry.documents.store import RequestId
from quarry.documents.vector_cache import KEY_BYTES, CachedVectors, VectorCache
from quarry.errors import DataLossError, RetrieverUnavailableError, UnavailableError
from quarry.models.caches.state_cache import StateCache
from quarry.retrieval.definition import Rewrite
from quarry.types import Change, Docno

WAIT_S = 20.0


class Nothing:
    """Collections, vectors and states of which nothing is left to erase, apart from what a test puts in."""

    def __init__(self, list_generations: Callable[[], list[Any]]) -> None:
        self.list_generations = list_generations
        self.emptied: list[str] = []
        self.empties, self.may_empty = threading.Event(), threading.Event()
        self.may_empty.set()

    def notify_when_deleted(self, _: Any) -> None:
        pass

    def read_owners(self) -> set[str]:
        return set()

    async def read_generations(self) -> set[str]:
        raise ZeroDivisionError("leftovers")

    def read_gone_texts(self) -> dict[int, bytes]:
        return {}

    def empty_log(self) -> None:
        self.empties.set()
        assert self.may_empty.wait(WAIT_S)
        self.emptied.append("log")

    def empty_databases(self) -> None:
        raise RecursionError("databases")


def make_eraser(
    list_generations: Callable[[], list[Any]], indexes_s: float = 86_400.0
) -> tuple[Eraser, Nothing]:
    nothing = Nothing(list_generations)
    left: Any = nothing
    return Eraser(left, left, left, nothing.empty_databases, ErasurePolicy(0.0, indexes_s)), nothing


async def test_erasing_goes_on_after_any_failure_and_tells_of_it(caplog: pytest.LogCaptureFixture) -> None:
    again, failures = asyncio.Event(), [KeyError("nobody expects it")]

    def list_generations() -> list[Any]:
        if failures:
            raise failures.pop()
        again.set()
        return []

    eraser, _ = make_eraser(list_generations)
    eraser.start()
    try:
        async with asyncio.timeout(WAIT_S):
            await again.wait()
    finally:
        await eraser.close()
    told = [record for record in caplog.records if record.exc_info and record.exc_info[0] is KeyError]
    assert [record.levelno for record in told] == [logging.ERROR]


async def test_what_fails_keeps_nothing_else_from_being_erased(caplog: pytest.LogCaptureFixture) -> None:
    eraser, nothing = make_eraser(list)
    await eraser.run_once()
    assert nothing.emptied == ["log", "log"]
    causes = [record.exc_info[0] for record in caplog.records if record.exc_info]
    assert causes == [ZeroDivisionError, RecursionError]


async def test_a_look_for_leftovers_that_fails_is_tried_in_the_next_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    eraser, _ = make_eraser(list)
    for _ in range(2):
        await eraser.run_once()
    causes = [record.exc_info[0] for record in caplog.records if record.exc_info]
    assert causes.count(ZeroDivisionError) == 2


async def test_a_close_waits_for_the_emptying_of_a_log_even_if_it_is_cancelled() -> None:
    eraser, nothing = make_eraser(list)
    nothing.may_empty.clear()
    eraser.start()
    assert await asyncio.to_thread(nothing.empties.wait, WAIT_S)
    closing = asyncio.create_task(eraser.close())
    await asyncio.sleep(0)
    closing.cancel()
    ended, _ = await asyncio.wait([closing], timeout=0.2)
    assert not ended
    nothing.may_empty.set()
    await closing
    assert nothing.emptied == ["log"]


async def test_vectors_outlive_the_indexes_that_a_repair_replaced_until_the_new_ones_are_full(
    third_arm: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again, sleep = asyncio.Event(), asyncio.sleep

    async def wait(seconds: float) -> None:
        await (again.wait() if seconds == 123.0 else sleep(seconds))

    monkeypatch.setattr(generation, "FIRST_RETRY_S", 123.0)
    monkeypatch.setattr(generation.asyncio, "sleep", wait)
    vectors, docnos = VectorCache(tmp_path / "vectors.db"), [Docno(1), Docno(2), Docno(3)]
    async with served(tmp_path) as faq:
        with faq.open_collections.use("faq") as collection:
            for follower in collection.generation.followers.values():
                follower.halted = DataLossError("for the test")
            replaced = collection.generation.name
        vectors.note_uses(replaced, {docno: make_key(docno) for docno in docnos})
        vectors.note_uses("dropped", {Docno(7): make_key(7)})
        vectors.put_many({make_key(n): CachedVectors(Cut(0, ()), NO_VECTORS) for n in (*docnos, 7)})
        OPENING.failures = [RetrieverUnavailableError("length", "no ruler yet")]
        with pytest.raises(UnavailableError, match="caught up"):
            await faq.open_collections.repair("faq", Deadline.set_after(0.0))
        hours = itertools.count(0.0, LEFTOVERS_S)
        parts = (faq.open_collections, vectors, StateCache(0), lambda: None)
        eraser = Eraser(*parts, ErasurePolicy(), clock_s=partial(next, hours))
        await eraser.run_once()
        assert (vectors.read_owners(), vectors.count()) == ({replaced}, 3)
        again.set()
        with faq.open_collections.use("faq") as collection:
            assert collection.generation.name != replaced
            await asyncio.wait_for(collection.generation._reopening[0], WAIT_S)
            assert await collection.generation.wait_visible(3, WAIT_S)
        await eraser.run_once()
        assert (vectors.read_owners(), vectors.count()) == (set(), 0)
        await eraser.close()
    vectors.close()


NO_VECTORS = np.empty((0, 4), np.float32)


def make_key(number: int) -> bytes:
    return bytes([number]) * KEY_BYTES


@pytest.fixture
async def deleted(
    third_arm: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Generation]:
    """A generation whose files hold a deleted document, and two that exist."""
    async with served(tmp_path) as faq:
        with faq.open_collections.use("faq") as collection:
            await collection.delete(["d000"], RequestId("", "delete", b""), True, Deadline.set_after(WAIT_S))
            for follower in collection.generation.followers.values():
                monkeypatch.setattr(follower, "durable", follower.visible)
            yield collection.generation


async def test_an_index_that_cannot_be_erased_keeps_no_other_from_it(
    deleted: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    erased: list[str] = []

    async def fail(_: Any) -> None:
        raise RetrieverUnavailableError("bm25", "it is stuck")

    async def erase(_: Any) -> None:
        erased.append("length")

    monkeypatch.setattr(deleted.get_open_arm("bm25"), "erase", fail)
    monkeypatch.setattr(OPENING.arm, "erase", erase)
    with pytest.raises(ExceptionGroup, match="bm25") as failed:
        await deleted.erase(read_now_us() + 1)
    assert [type(error) for error in failed.value.exceptions] == [RetrieverUnavailableError]
    assert erased == ["length"]


async def test_a_generation_that_closes_ends_its_erasing_first_and_begins_none(
    deleted: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    begun = asyncio.Event()

    async def erase(_: Any) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            happened.append("erasing ended")

    async def close() -> None:
        happened.append("closed")

    monkeypatch.setattr(OPENING.arm, "erase", erase)
    monkeypatch.setattr(OPENING.arm, "close", close)
    eraser, _ = make_eraser(lambda: [deleted], indexes_s=-1.0)
    await eraser.run_once()
    async with asyncio.timeout(WAIT_S):
        await begun.wait()
        await deleted.close()
    assert happened == ["erasing ended", "closed"]
    await deleted.erase(read_now_us() + 1)
    assert happened == ["erasing ended", "closed"]


async def test_documents_are_written_again_a_few_bytes_at_a_time(
    deleted: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[list[Docno]] = []
    follower = deleted.followers["length"]

    async def erase(rewrite: Rewrite) -> None:
        await rewrite([])
        await rewrite([Docno(1), Docno(2), Docno(3)])

    async def correct(changes: Sequence[Change]) -> None:
        written.append([change.docno for change in changes])

    monkeypatch.setattr(generation, "REWRITTEN_BYTES", 20)
    monkeypatch.setattr(OPENING.arm, "erase", erase)
    monkeypatch.setattr(follower, "correct", correct)
    await deleted.erase(read_now_us() + 1)
    assert written == [[], [2], [3]]
