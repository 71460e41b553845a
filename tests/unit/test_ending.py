"""Parts that hang while a program ends: each is named and left behind, and the process ends with status 0."""

import asyncio
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from quarry.ending import SHORTEST_STEP_S, Ending, end_threads

HANGING = """
import logging, threading
from quarry.ending import LastResort
logging.basicConfig()
LastResort(0.5, lambda: "the model").start(PROBLEM)
threading.Thread(target=threading.Event().wait, name="stuck").start()
"""


async def test_parts_end_from_the_last_to_the_first() -> None:
    ended: list[str] = []

    async def end(what: str) -> None:
        ended.append(what)

    async with Ending(10.0) as ending:
        for what in ("first", "second", "third"):
            ending.push(what, lambda what=what: end(what))  # type: ignore[misc]
    assert ended == ["third", "second", "first"]
    assert not ending.left


async def test_parts_that_hang_are_named_and_left_behind_and_the_others_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended = asyncio.Event()

    async def end() -> None:
        ended.set()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:  # nor does it let itself be cancelled, the first time
            await asyncio.Event().wait()

    began_s = time.monotonic()
    async with Ending(SHORTEST_STEP_S) as ending:
        ending.push("what is well", end)
        ending.push("what hangs", hang)
        ending.push("what hangs too", hang)
    assert ended.is_set()
    assert ending.left == ["what hangs too", "what hangs"]
    assert time.monotonic() - began_s < 4 * SHORTEST_STEP_S
    assert "what hangs: does not end" in caplog.text


async def test_a_part_that_fails_is_told_of_after_all_have_ended() -> None:
    ended = asyncio.Event()

    async def end() -> None:
        ended.set()

    async def fail() -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        async with Ending(10.0) as ending:
            ending.push("what is well", end)
            ending.push("what fails", fail)
    assert ended.is_set()


async def test_a_failure_of_the_block_is_told_to_whom_it_concerns_and_not_hidden_by_a_part_that_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun: list[BaseException | None] = []

    async def fail() -> None:
        raise OSError("the disk is full")

    with pytest.raises(ValueError, match="the start") as raised:
        async with Ending(10.0, begun.append) as ending:
            ending.push("what fails", fail)
            raise ValueError("the start failed")
    assert begun == [raised.value]
    assert "the disk is full" in caplog.text


async def test_threads_that_hang_are_waited_for_no_longer_than_asked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    threads, gate = ThreadPoolExecutor(1), threading.Event()
    threads.submit(gate.wait)
    await end_threads(threads, 0.1)
    assert "a thread does not end" in caplog.text
    gate.set()
    await end_threads(threads, 10.0)


@pytest.mark.parametrize(("problem", "status"), [("None", 0), ("OSError('no port')", 1)])
def test_a_process_with_a_thread_that_hangs_ends_and_says_what_hung_and_why_it_ends(
    problem: str, status: int
) -> None:
    began_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", HANGING.replace("PROBLEM", problem)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == status
    assert time.monotonic() - began_s < 20
    assert "the model" in done.stderr
    assert "stuck" in done.stderr
    assert ("no port" in done.stderr) == bool(status)
