"""A worker's process does tasks one after the other, and one that goes too far costs the process alone."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from quarry.errors import InvalidArgumentError, LimitExceededError, UnavailableError
from quarry.jobs import job_worker as workers
from quarry.jobs.job_worker import JobWorker
from quarry.jobs.process import JobKilledError

MODULE = """
import os, sys, time
from pathlib import Path
from quarry.errors import InvalidArgumentError
from quarry.jobs.child import work_as_worker

def work(task):
    written = Path(task["pid_file"] + ".new")
    written.write_text(str(os.getpid()))
    written.replace(task["pid_file"])  # whole: the test may be reading it
    if task["what"] == "fail":
        raise InvalidArgumentError("what", "is wrong")
    if task["what"] == "ask":
        input("really? ")
    if task["what"] == "die":
        os.abort()
    if task["what"] == "wait":
        time.sleep(600)
    if task["what"] == "eat":
        kept = [bytearray(b"x") * 2**20 for _ in range(8_000)]
    print("not JSON", flush=True)

sys.exit(work_as_worker(work))
"""
MEMORY_BYTES = 256 * 2**20


@pytest_asyncio.fixture
async def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[JobWorker]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    (tmp_path / "some_worker.py").write_text(MODULE)
    worker = JobWorker("some_worker", MEMORY_BYTES, 30.0)
    yield worker
    await worker.close()


@pytest.fixture
def pid_file(tmp_path: Path) -> Path:
    return tmp_path / "pid"


async def did(worker: JobWorker, pid_file: Path, what: str) -> int:
    """Does a task; the id of the process that did it."""
    await worker.run({"what": what, "pid_file": str(pid_file)})
    return int(await asyncio.to_thread(pid_file.read_text))


async def test_one_process_does_many_tasks_and_a_failed_one_costs_nothing(
    worker: JobWorker, pid_file: Path
) -> None:
    first = await did(worker, pid_file, "")
    with pytest.raises(InvalidArgumentError, match="what: is wrong"):
        await did(worker, pid_file, "fail")
    assert set(await asyncio.gather(*(did(worker, pid_file, "") for _ in range(3)))) == {first}
    await worker.close()
    assert not psutil.pid_exists(first)


async def test_nobody_answers_what_a_task_asks(worker: JobWorker, pid_file: Path) -> None:
    with pytest.raises(Exception, match="EOFError"):
        await did(worker, pid_file, "ask")
    await did(worker, pid_file, "")


async def test_a_task_that_goes_too_far_costs_the_process_alone(worker: JobWorker, pid_file: Path) -> None:
    first = await did(worker, pid_file, "")
    with pytest.raises(LimitExceededError, match=f"memory_bytes allows: {MEMORY_BYTES} bytes"):
        await did(worker, pid_file, "eat")
    assert not psutil.pid_exists(first)
    second = await did(worker, pid_file, "")
    with pytest.raises(JobKilledError, match="SIGABRT"):
        await did(worker, pid_file, "die")
    worker._task_s = 1.0
    with pytest.raises(LimitExceededError, match="took over 1 s"):
        await did(worker, pid_file, "wait")
    worker._task_s = 30.0
    assert await did(worker, pid_file, "") not in (first, second)


async def test_a_process_that_was_killed_between_tasks_is_started_again(
    worker: JobWorker, pid_file: Path
) -> None:
    process = psutil.Process(await did(worker, pid_file, ""))
    process.kill()
    assert worker._running is not None
    await worker._running._process.wait()
    assert await did(worker, pid_file, "") != process.pid


async def test_a_process_without_tasks_ends(
    worker: JobWorker, pid_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "IDLE_S", 0.0)
    pid = await did(worker, pid_file, "")
    async with asyncio.timeout(30):
        while psutil.pid_exists(pid):  # noqa: ASYNC110  nothing tells of it
            await asyncio.sleep(0.01)
    assert await did(worker, pid_file, "") != pid


async def test_closing_ends_what_runs_and_what_waits(worker: JobWorker, pid_file: Path) -> None:
    first = asyncio.create_task(did(worker, pid_file, "wait"))
    async with asyncio.timeout(30):
        while not await asyncio.to_thread(pid_file.exists):  # noqa: ASYNC110  nothing tells of it
            await asyncio.sleep(0.01)
    second = asyncio.create_task(did(worker, pid_file, ""))
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await worker.close()
    for task in (first, second):
        with pytest.raises(UnavailableError, match="stopped"):
            await task
    with pytest.raises(UnavailableError):
        await did(worker, pid_file, "")
