"""Jobs wait for one another, can be ended, are settled, and go with what they are made from."""

import asyncio
from collections.abc import Collection
from pathlib import Path

import pytest
from pydantic import BaseModel

from quarry.errors import Cancelled, DiskFullError, QuarryError, UnavailableError
from quarry.jobs.folders import JobFolders, WorkFolders, open_work
from quarry.jobs.runner import JobRunner
from quarry.jobs.waited_for import note_operation


class CountSpec(BaseModel):
    """Asks a job to count the steps to ``steps``."""

    name: str
    key: int = 1
    steps: int = 3


class Steps(BaseModel):
    """Marks the steps that are done of a count, so that the same count goes on after them."""

    key: int


class CountStore:
    """Keeps the folders of counts, the unfinished ones' steps, and how each count was settled."""

    def __init__(self, root: Path) -> None:
        self.folders, self.work = JobFolders(root), WorkFolders(root, Steps)
        self.settled: dict[str, QuarryError | None] = {}
        self.full = False

    def create(self, spec: CountSpec) -> Path:
        if self.full:
            raise DiskFullError("full")
        return self.folders.create(spec.name, spec)

    def settle(self, spec: CountSpec, error: QuarryError | None) -> None:
        self.settled[spec.name] = error

    def list_job_keys(self, spec: CountSpec) -> tuple[int, ...]:
        return (spec.key,)

    def list_keys(self) -> set[int]:
        return {mark.key for mark in self.work.list_marks()}

    def remove_by_collection(self, keys: Collection[int]) -> None:
        self.work.remove_where(lambda mark: mark.key in keys)


class Counts:
    """Counts that can be held, cancelled and made to fail, and go on after the steps that are done."""

    def __init__(self, root: Path) -> None:
        self.store = CountStore(root)
        self.ended: list[str] = []
        self.stages: list[str] = []
        self.runner: JobRunner[CountSpec] = JobRunner(self.store, self._end_operation)
        self.turn = asyncio.Lock()
        self.begun: asyncio.Queue[str] = asyncio.Queue()
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.fail_at = 0
        self.running = self.most = 0

    async def run(self, spec: CountSpec) -> int:
        """Returns how many steps this run has done."""

        async def count(folder: Path) -> int:
            assert CountSpec.model_validate_json((folder / "spec.json").read_bytes()) == spec
            note_operation(folder, "operations/child-1")
            work = open_work(folder.parent / ".work" / f"to-{spec.steps}", Steps(key=spec.key))
            self.running += 1
            self.most = max(self.most, self.running)
            try:
                self.begun.put_nowait(spec.name)
                await self.go_on.wait()
                return self._count(spec, work)
            finally:
                self.running -= 1

        return await self.runner.run(spec, self.turn, self._hear, count)

    def start(self, name: str, **changes: int) -> "asyncio.Task[int]":
        return asyncio.create_task(self.run(CountSpec(name=name, **changes)))

    async def _hear(self, stage: str, _progress: float) -> None:
        self.stages.append(stage)

    async def _end_operation(self, name: str) -> None:
        self.ended.append(name)

    def _count(self, spec: CountSpec, work: Path) -> int:
        done = 0
        for step in range(spec.steps):
            if (work / str(step)).exists():
                continue
            if step + 1 == self.fail_at:
                raise UnavailableError("killed")
            (work / str(step)).touch()
            done += 1
        return done


@pytest.fixture
async def counts(tmp_path: Path) -> Counts:
    return Counts(tmp_path)


async def none_deleted() -> set[int]:
    return set()


async def test_a_job_that_ends_well_is_settled_and_ends_nothing_else(counts: Counts) -> None:
    assert await counts.run(CountSpec(name="a")) == 3
    assert counts.store.settled == {"a": None}
    assert counts.stages == ["waiting"]
    assert counts.ended == []


async def test_a_job_that_fails_is_settled_with_its_error_and_ends_what_it_waited_for(counts: Counts) -> None:
    counts.fail_at = 2
    with pytest.raises(UnavailableError, match="killed"):
        await counts.run(CountSpec(name="a"))
    assert isinstance(counts.store.settled["a"], UnavailableError)
    assert counts.ended == ["child-1"]


async def test_the_same_request_goes_on_where_the_failed_job_was(counts: Counts) -> None:
    counts.fail_at = 3
    with pytest.raises(UnavailableError):
        await counts.run(CountSpec(name="a"))
    counts.fail_at = 0
    assert await counts.run(CountSpec(name="b")) == 1


async def test_a_new_server_goes_on_where_the_last_one_was_killed(counts: Counts, tmp_path: Path) -> None:
    counts.fail_at = 2
    with pytest.raises(UnavailableError):
        await counts.run(CountSpec(name="a"))
    next_server = Counts(tmp_path)
    assert [folder.name for folder in next_server.store.folders.list_folders()] == ["a"]
    next_server.store.work.remove_old(0)
    assert await next_server.run(CountSpec(name="b")) == 2


async def test_an_error_without_a_type_is_raised_as_it_is_and_settled_as_an_internal_one(
    counts: Counts,
) -> None:
    async def fail(_folder: Path) -> int:
        raise ZeroDivisionError("by zero")

    with pytest.raises(ZeroDivisionError):
        await counts.runner.run(CountSpec(name="a"), counts.turn, counts._hear, fail)
    assert str(counts.store.settled["a"]) == "internal error: ZeroDivisionError: by zero"


async def test_a_folder_that_cannot_be_made_is_the_jobs_error_and_frees_the_turn(counts: Counts) -> None:
    counts.store.full = True
    with pytest.raises(DiskFullError):
        await counts.run(CountSpec(name="a"))
    assert counts.store.settled == {}
    counts.store.full = False
    assert await counts.run(CountSpec(name="a")) == 3


async def test_a_second_cancellation_lets_go_of_no_job_that_still_runs(counts: Counts) -> None:
    begun, ending, let_go = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def end_slowly(_folder: Path) -> int:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ending.set()
            await let_go.wait()
        return 0

    job = asyncio.create_task(counts.runner.run(CountSpec(name="a"), counts.turn, counts._hear, end_slowly))
    await begun.wait()
    job.cancel()
    await ending.wait()
    job.cancel()
    await asyncio.wait([job], timeout=0.05)
    assert not job.done()
    let_go.set()
    with pytest.raises(asyncio.CancelledError):
        await job
    assert list(counts.store.settled) == ["a"]


async def test_jobs_of_one_turn_go_one_after_the_other(counts: Counts) -> None:
    counts.go_on.clear()
    jobs = [counts.start(name, steps=n) for n, name in enumerate("abc", start=1)]
    assert await counts.begun.get() == "a"
    counts.go_on.set()
    assert await asyncio.gather(*jobs) == [1, 2, 3]
    assert counts.most == 1


@pytest.mark.parametrize("waiting", [False, True])
async def test_a_cancelled_job_ends_whether_it_runs_or_waits_and_the_other_one_goes_on(
    counts: Counts, waiting: bool
) -> None:
    counts.go_on.clear()
    first, second = counts.start("first"), counts.start("second", steps=5)
    assert await counts.begun.get() == "first"
    cancelled, other = (second, first) if waiting else (first, second)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    counts.go_on.set()
    assert await other in (3, 5)
    assert counts.running == 0
    name = "second" if waiting else "first"
    assert (name in counts.store.settled) is not waiting  # a job that waits has no folder
    assert waiting or isinstance(counts.store.settled[name], Cancelled)
    assert counts.ended == ([] if waiting else ["child-1"])


async def test_what_something_concerns_is_ended_with_an_error_that_says_so(counts: Counts) -> None:
    counts.go_on.clear()
    runs, waits = counts.start("runs"), counts.start("waits", steps=5)
    await counts.begun.get()
    await counts.runner.end(lambda spec: spec.name == "other")
    assert not runs.done()
    await counts.runner.end(lambda spec: spec.key == 1, waiting=False)
    assert counts.running == 0
    with pytest.raises(Cancelled, match="deleted meanwhile"):
        await runs
    counts.go_on.set()
    assert await waits == 5


async def test_a_deleted_collection_ends_its_jobs_even_those_that_wait_and_takes_their_work(
    counts: Counts,
) -> None:
    counts.go_on.clear()
    runs, waits, other = counts.start("runs"), counts.start("waits"), counts.start("other", key=2, steps=5)
    await counts.begun.get()
    await counts.runner.remove_of_deleted(none_deleted)
    assert not runs.done()

    async def deleted() -> set[int]:
        return {1, 7}

    await counts.runner.remove_of_deleted(deleted)
    for job in (runs, waits):
        with pytest.raises(Cancelled):
            await job
    assert not {1} & counts.store.list_keys()
    counts.go_on.set()
    assert await other == 5
    assert counts.store.list_keys() == {2}


async def test_where_nothing_is_nobody_asks_what_was_deleted(counts: Counts) -> None:
    async def deleted() -> set[int]:
        raise AssertionError("nobody needs to know")

    await counts.runner.remove_of_deleted(deleted)


async def test_a_job_that_has_left_nothing_yet_goes_with_its_collection(counts: Counts) -> None:
    counts.go_on.clear()
    runs, waits = counts.start("runs"), counts.start("waits", key=3)
    await counts.begun.get()

    async def deleted() -> set[int]:
        return {3}

    await counts.runner.remove_of_deleted(deleted)
    with pytest.raises(Cancelled):
        await waits
    counts.go_on.set()
    assert await runs == 3
