"""Work goes on when its caller goes, and whoever ends things waits for it."""

import asyncio

import pytest

from quarry.waiting import OngoingWork


async def test_work_goes_on_when_its_caller_goes() -> None:
    ended: list[str] = []
    begun, go_on = asyncio.Event(), asyncio.Event()
    ongoing = OngoingWork()

    async def work() -> None:
        begun.set()
        await go_on.wait()
        ended.append("done")

    caller = asyncio.create_task(ongoing.finish(work(), lambda: ended.append("told")))
    await begun.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await ongoing.wait(timeout_s=0.001)
    assert ended == []
    go_on.set()
    await ongoing.wait()
    assert ended == ["done", "told"]


async def test_what_begins_while_others_are_waited_for_is_waited_for() -> None:
    ongoing, ended = OngoingWork(), list[int]()
    later: list[asyncio.Task[None]] = []

    async def work(number: int) -> None:
        if number < 3:
            later.append(asyncio.create_task(ongoing.finish(work(number + 1))))
        await asyncio.sleep(0)
        ended.append(number)

    first = asyncio.create_task(ongoing.finish(work(1)))
    await asyncio.sleep(0)
    await ongoing.wait()
    assert ended == [1, 2, 3]
    await asyncio.gather(first, *later)


async def test_work_that_fails_fails_its_caller_and_is_over() -> None:
    told: list[int] = []
    ongoing = OngoingWork()

    async def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await ongoing.finish(fail(), lambda: told.append(1))
    await ongoing.wait()
    assert told == [1]
