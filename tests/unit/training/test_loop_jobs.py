"""Turns wait for one another, leave a report whatever happens, and end what they were waiting for."""

import asyncio
from pathlib import Path

import pytest
from tests.unit.training.loops import loop_report, loop_spec

from quarry.errors import Cancelled, QuarryError, UnavailableError
from quarry.jobs.files import write_model
from quarry.jobs.process import OnDetails, OnProgress
from quarry.jobs.waited_for import note_operation
from quarry.training.loop_jobs import LoopJobs
from quarry.training.loop_reports import REPORT
from quarry.training.loop_spec import LoopReport


class FakeProcess:
    """Does in this process what the trainer's would do."""

    def __init__(self) -> None:
        self.report: LoopReport = loop_report()
        self.error: QuarryError | None = None
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.begun: asyncio.Queue[str] = asyncio.Queue()
        self.running = self.most = 0

    async def __call__(
        self, module: str, arguments: list[str], on_progress: OnProgress, on_details: OnDetails
    ) -> None:
        assert arguments[0] == "loop"
        folder = Path(arguments[1])
        self.begun.put_nowait(folder.name)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            note_operation(folder, "operations/train-reranker-1")
            await on_progress("training", 0.5)
            await self.go_on.wait()
            if self.error:
                raise self.error
            write_model(folder / REPORT, self.report)
        finally:
            self.running -= 1


class Ended:
    def __init__(self) -> None:
        self.names: list[str] = []

    async def __call__(self, name: str) -> None:
        self.names.append(name)


def written(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.rglob("*.json"))


async def heard(_stage: str, _progress: float) -> None:
    pass


async def test_a_turn_leaves_its_report(tmp_path: Path) -> None:
    process, ended = FakeProcess(), Ended()
    jobs = LoopJobs(tmp_path, ended, process)
    assert await jobs.turn(loop_spec(), heard) == process.report
    assert jobs.reports.get("faq-1") == process.report
    assert not ended.names


async def test_a_turn_that_found_too_little_leaves_nothing(tmp_path: Path) -> None:
    process = FakeProcess()
    process.report = loop_report("", outcome="NOT_ENOUGH_FEEDBACK")
    jobs = LoopJobs(tmp_path, Ended(), process)
    assert (await jobs.turn(loop_spec(), heard)).outcome == "NOT_ENOUGH_FEEDBACK"
    assert not jobs.reports.list_newest()
    assert not list((tmp_path / "loops").glob("*"))


async def test_turns_of_whatever_collection_wait_for_one_another(tmp_path: Path) -> None:
    process = FakeProcess()
    process.go_on.clear()
    jobs = LoopJobs(tmp_path, Ended(), process)
    turns = [asyncio.create_task(jobs.turn(loop_spec(f"t{n}", n), heard)) for n in range(3)]
    assert await process.begun.get() == "t0"
    process.go_on.set()
    await asyncio.gather(*turns)
    assert process.most == 1


async def test_a_failed_turn_says_why_and_ends_its_operation(tmp_path: Path) -> None:
    process, ended = FakeProcess(), Ended()
    process.error = UnavailableError("killed")
    jobs = LoopJobs(tmp_path, ended, process)
    with pytest.raises(UnavailableError):
        await jobs.turn(loop_spec(), heard)
    report = jobs.reports.get("faq-1")
    again = "`quarry loop faq --once` goes on with it, or begins it anew"
    assert (report.outcome, report.advice, report.reason) == ("FAILED", ("killed", again), "UNAVAILABLE")
    assert ended.names == ["train-reranker-1"]


async def test_a_cancelled_turn_ends_its_operation(tmp_path: Path) -> None:
    process, ended = FakeProcess(), Ended()
    process.go_on.clear()
    jobs = LoopJobs(tmp_path, ended, process)
    turn = asyncio.create_task(jobs.turn(loop_spec(), heard))
    await process.begun.get()
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    assert ended.names == ["train-reranker-1"]
    assert jobs.reports.get("faq-1").outcome == "FAILED"
    assert not process.running


async def test_a_purge_ends_the_turn_that_reads_the_feedback_and_takes_reports(tmp_path: Path) -> None:
    process = FakeProcess()
    jobs = LoopJobs(tmp_path, Ended(), process)
    await jobs.turn(loop_spec(), heard)
    process.go_on.clear()
    turn = asyncio.create_task(jobs.turn(loop_spec("faq-2"), heard))
    while await process.begun.get() != "faq-2":
        pass
    assert await jobs.purge(1, None, None) == ["faq-1"]
    with pytest.raises(Cancelled, match="deleted"):
        await turn
    (left,) = jobs.reports.list_newest()
    assert (left.name, left.outcome) == ("faq-2", "FAILED")
    assert "lost password" not in written(tmp_path)


async def test_what_is_of_deleted_collections_goes(tmp_path: Path) -> None:
    jobs = LoopJobs(tmp_path, Ended(), FakeProcess())
    await jobs.turn(loop_spec(), heard)

    async def deleted() -> set[int]:
        return {1}

    await jobs.remove_of_deleted(deleted)
    assert not jobs.reports.list_newest()
