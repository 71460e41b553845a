import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from quarry.deadline import Deadline
from quarry.errors import DeadlineExceeded, LimitExceededError, ModelError, UnavailableError
from quarry.models.base import ModelInfo, PairScore
from quarry.models.encoder import TransformerEncoder
from quarry.models.runtime.batch_queue import BatchQueue
from quarry.models.runtime.batcher import Batcher, BatcherLimits, EncoderBatcher, PairBatcher, Priority


@dataclass(frozen=True)
class Word:
    """An item of a fake model; as many tokens as characters."""

    text: str
    truncated: bool = False

    def __len__(self) -> int:
        return max(1, len(self.text))


@dataclass
class Shouting:
    """Answers each text in capitals, once ``gate`` is open; fails on ``bad``."""

    batch_tokens: int = 16
    parallel: int = 1
    gate: threading.Event = field(default_factory=threading.Event)
    started: threading.Event = field(default_factory=threading.Event)
    batches: list[list[str]] = field(default_factory=list)
    info: ModelInfo = field(default_factory=lambda: ModelInfo("shouting", "f", 64))

    def prepare(self, items: Sequence[str]) -> list[Word]:
        if "unreadable" in items:
            raise ModelError("unreadable")
        return [Word(item[:64], len(item) > 64) for item in items]

    def run(self, batch: Sequence[Word]) -> list[str]:
        self.batches.append([word.text for word in batch])
        self.started.set()
        self.gate.wait(timeout=30)
        if any(word.text == "bad" for word in batch):
            raise ModelError("bad input")
        return [word.text.upper() for word in batch]


@pytest.fixture
def model() -> Shouting:
    return Shouting()


@pytest_asyncio.fixture
async def batcher(model: Shouting) -> AsyncIterator[Batcher[str, str]]:
    made: Batcher[str, str] = Batcher(model, BatcherLimits(queued_items=8))
    yield made
    model.gate.set()
    await asyncio.to_thread(made.close)


async def _busy(
    batcher: Batcher[str, str], model: Shouting, priority: Priority = Priority.INTERACTIVE
) -> None:
    """Leaves the only worker of a class in the middle of a batch."""
    model.started.clear()
    asyncio.get_running_loop().create_task(batcher.run(["busy"], priority)).add_done_callback(_read)
    await asyncio.to_thread(model.started.wait, 30)


def _read(task: "asyncio.Task[list[str]]") -> None:
    if not task.cancelled():
        task.exception()


async def _queued(batcher: Batcher[str, str], *requests: Sequence[str]) -> list["asyncio.Task[list[str]]"]:
    """Requests that have reached the queue, in order."""
    tasks = []
    for request in requests:
        tasks.append(asyncio.create_task(batcher.run(request)))
        await asyncio.sleep(0)
    return tasks


async def test_outputs_come_in_the_order_of_the_items(batcher: Batcher[str, str], model: Shouting) -> None:
    model.gate.set()
    assert await batcher.run(["ccc", "a", "", "bb"]) == ["CCC", "A", "", "BB"]
    assert await batcher.run([]) == []


async def test_requests_of_several_callers_share_a_batch_by_length(
    batcher: Batcher[str, str], model: Shouting
) -> None:
    await _busy(batcher, model)
    tasks = await _queued(batcher, ["aaaaaaaa"], ["b"], ["cccccccc"])
    model.gate.set()
    await asyncio.gather(*tasks)
    assert [sorted(batch) for batch in model.batches[1:]] == [["aaaaaaaa", "cccccccc"], ["b"]]


async def test_bulk_work_does_not_hold_up_a_search(batcher: Batcher[str, str], model: Shouting) -> None:
    await _busy(batcher, model, Priority.BULK)
    model.started.clear()
    search = asyncio.create_task(batcher.run(["a"]))
    assert await asyncio.to_thread(model.started.wait, 30)  # although the bulk batch still runs
    model.gate.set()
    assert await search == ["A"]


async def test_the_work_of_a_cancelled_request_is_not_run(
    batcher: Batcher[str, str], model: Shouting
) -> None:
    await _busy(batcher, model)
    gone, other = await _queued(batcher, ["gone", "gone"], ["other"])
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    model.gate.set()
    assert await other == ["OTHER"]
    assert model.batches[1:] == [["other"]]


async def test_the_work_of_an_expired_request_is_not_run(batcher: Batcher[str, str], model: Shouting) -> None:
    await _busy(batcher, model)
    late = asyncio.create_task(batcher.run(["late"], deadline=Deadline.set_after(0)))
    (other,) = await _queued(batcher, ["other"])
    model.gate.set()
    with pytest.raises(DeadlineExceeded):
        await late
    assert await other == ["OTHER"]
    assert ["late"] not in model.batches


async def test_a_full_queue_refuses_and_takes_again_when_it_has_drained(
    batcher: Batcher[str, str], model: Shouting
) -> None:
    await _busy(batcher, model)
    (large,) = await _queued(batcher, ["a"] * 20)  # alone, it may be larger than the limit
    with pytest.raises(LimitExceededError):
        await batcher.run(["b"])
    large.cancel()
    model.gate.set()
    await asyncio.gather(large, return_exceptions=True)
    while True:
        try:
            assert await batcher.run(["c"] * 8) == ["C"] * 8
            break
        except LimitExceededError:
            await asyncio.sleep(0)


async def test_a_bad_input_fails_only_its_own_request(batcher: Batcher[str, str], model: Shouting) -> None:
    await _busy(batcher, model)
    good, bad = await _queued(batcher, ["god"], ["bad"])
    model.gate.set()
    assert await good == ["GOD"]
    with pytest.raises(ModelError, match="bad input"):
        await bad
    with pytest.raises(ModelError, match="unreadable"):
        await batcher.run(["unreadable"])
    assert await batcher.run(["still there"]) == ["STILL THERE"]


async def test_closing_fails_what_waits_and_refuses_what_comes(model: Shouting) -> None:
    batcher: Batcher[str, str] = Batcher(model)
    await _busy(batcher, model)
    (waiting,) = await _queued(batcher, ["waits"])
    closing = asyncio.create_task(asyncio.to_thread(batcher.close))
    while True:
        try:
            _ = [task.cancel() for task in await _queued(batcher, ["late"])]
            await asyncio.sleep(0.001)
            await batcher.run(["later"], deadline=Deadline.set_after(0))
        except UnavailableError:
            break
        except DeadlineExceeded:
            continue
    model.gate.set()
    await closing
    with pytest.raises(UnavailableError):
        await waiting


async def test_truncated_texts_are_counted(batcher: Batcher[str, str], model: Shouting) -> None:
    model.gate.set()
    await batcher.run(["a" * 100, "b"])
    assert batcher.truncated == 1


async def test_what_fits_grows_with_time_and_shrinks_with_the_queue(
    batcher: Batcher[str, str], model: Shouting
) -> None:
    assert batcher.count_tokens_within(0) == 0
    assert 0 < batcher.count_tokens_within(0.1) < batcher.count_tokens_within(1)
    assert batcher.count_tokens_within(float("inf")) > 0


@dataclass
class LengthScores:
    """A cross-encoder that knows no steps: the score of a pair is the length of its passage."""

    info: ModelInfo = field(default_factory=lambda: ModelInfo("lengths", "f", 64))

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[PairScore]:
        return [PairScore(float(len(passage)), False) for _, passage in pairs]


@dataclass
class LengthVectors:
    """An encoder that knows no steps."""

    info: ModelInfo = field(default_factory=lambda: ModelInfo("lengths", "f", 64, dimension=2))

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.array([[len(text), 0] for text in texts], np.float32)

    def find_token_spans(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        return [[(i, i + 1) for i in range(len(text))] for text in texts]


async def test_any_cross_encoder_and_encoder_will_do() -> None:
    scores, vectors = PairBatcher(LengthScores()), EncoderBatcher(LengthVectors())
    try:
        assert [s.score for s in await scores.score([("q", "aa"), ("q", "b" * 400)])] == [2.0, 400.0]
        assert (await vectors.encode(["a", "bbb"])).tolist() == [[1, 0], [3, 0]]
        assert (await vectors.encode([])).shape == (0, 2)
        assert scores.count_fitting([("q", "a" * 30)] * 10, 0) == 0
        assert scores.count_fitting([("q", "a" * 30)] * 10, 60) == 10
    finally:
        scores.close()
        vectors.close()


@given(
    requests=st.lists(st.lists(st.text("abc ", max_size=90), min_size=1, max_size=5), min_size=1, max_size=6),
    bulk=st.booleans(),
)
@settings(deadline=None, max_examples=25)
def test_vectors_are_those_of_each_text_alone_whatever_is_in_flight(
    encoder: TransformerEncoder, requests: list[list[str]], bulk: bool
) -> None:
    async def concurrently() -> list[NDArray[np.float32]]:
        batcher = EncoderBatcher(encoder, BatcherLimits(threads=2))
        priorities = [Priority.BULK if bulk and i % 2 else Priority.INTERACTIVE for i in range(len(requests))]
        try:
            calls = (batcher.encode(r, p) for r, p in zip(requests, priorities, strict=True))
            return list(await asyncio.gather(*calls))
        finally:
            batcher.close()

    for texts, vectors in zip(requests, asyncio.run(concurrently()), strict=True):
        for text, vector in zip(texts, vectors, strict=True):
            assert np.abs(vector - encoder.encode([text])[0]).max() <= 1e-4


def test_a_closed_lane_has_no_threads() -> None:
    before = threading.active_count()
    queue: BatchQueue[str, str] = BatchQueue(Shouting(), "lane", threads=3, niceness=0, max_items=10)
    assert threading.active_count() == before + 3
    queue.close()
    assert threading.active_count() == before
