"""The heartbeat of a store goes on whatever happens to its questions."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from quarry.errors import RetrieverUnavailableError
from quarry.retrieval import heartbeat
from quarry.retrieval.heartbeat import Heartbeat


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.01)
    monkeypatch.setattr(heartbeat, "LOOK_S", 0.01)


class Judge:
    """Remembers what it was told; ``told`` is set each time."""

    def __init__(self) -> None:
        self.silences: list[float] = []
        self.told = asyncio.Event()

    def __call__(self, silent_s: float) -> None:
        self.silences.append(silent_s)
        self.told.set()

    async def until(self, done: Callable[[list[float]], bool]) -> None:
        async with asyncio.timeout(10):
            while not done(self.silences):
                self.told.clear()
                await self.told.wait()


@asynccontextmanager
async def beating(beat: Heartbeat) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(beat.run())
    yield task
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()  # by us, and by nothing before


def failing_at_first(error: BaseException, times: int) -> Callable[[], Awaitable[None]]:
    left = [error] * times

    async def ask() -> None:
        if left:
            raise left.pop()

    return ask


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (RetrieverUnavailableError("dense", "no"), 0),
        (ValueError("the client cannot read this"), 1),
        (asyncio.CancelledError(), 0),
    ],
)
async def test_a_question_that_fails_is_no_answer_and_the_next_one_is_asked(
    error: BaseException, lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    judge = Judge()
    async with beating(Heartbeat(failing_at_first(error, 3), judge)):
        await judge.until(lambda told: 0.0 in told)
    assert judge.silences[:4] == pytest.approx([0.01, 0.02, 0.03, 0.0])
    assert len([r for r in caplog.records if r.levelno >= logging.ERROR]) == lines


async def test_a_judge_that_fails_does_not_end_the_beating(caplog: pytest.LogCaptureFixture) -> None:
    judge = Judge()

    def judging(silent_s: float) -> None:
        judge(silent_s)
        if len(judge.silences) < 3:
            raise OSError("no such process")

    async with beating(Heartbeat(failing_at_first(ValueError("no"), 0), judging)):
        await judge.until(lambda told: len(told) > 4)
    assert caplog.text.count("cannot be judged") == 1
