"""Trainings wait for one another, hand over what they made, and leave nothing but their unfinished work."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.unit.training.samples import evaluation_spec, report, result, spec, tuning_spec

from quarry.errors import Cancelled, DiskFullError, QuarryError, UnavailableError
from quarry.jobs.files import write_model
from quarry.jobs.process import OnDetails, OnProgress
from quarry.jobs.waited_for import note_operation
from quarry.training.folders import EVALUATION, FOLDER, MODEL, RESULT, find_work
from quarry.training.jobs import TrainingJobs
from quarry.training.spec import TrainingResult, TrainingSpec, TuningResult, TuningSpec


class FakeProcess:
    """Does in this process what the trainer's would do."""

    def __init__(self) -> None:
        self.result: TrainingResult = result()
        self.error: QuarryError | None = None
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.noted = asyncio.Event()
        self.begun: asyncio.Queue[str] = asyncio.Queue()
        self.running = self.most = 0

    async def __call__(
        self, module: str, arguments: list[str], on_progress: OnProgress, on_details: OnDetails
    ) -> None:
        what, folder = arguments[0], Path(arguments[1])
        self.begun.put_nowait(what)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if what == "train":
                spec = TrainingSpec.model_validate_json((folder / "spec.json").read_bytes())
                (find_work(folder, spec) / "checkpoint").touch()
            on_details({"step": 1.0, "loss": 0.5})
            await on_progress("training", 0.5)
            if what == "tune":
                note_operation(folder, "operations/mine-1")
                self.noted.set()
            await self.go_on.wait()
            if self.error:
                raise self.error
            if what == "evaluate":
                write_model(folder / EVALUATION, report("REGRESSED"))
                return
            if self.result.has_model:
                (folder / MODEL).mkdir()
            write_model(folder / RESULT, self.result)
        finally:
            self.running -= 1


class Heard:
    def __init__(self) -> None:
        self.stages: list[str] = []
        self.details: list[Any] = []
        self.taken: list[tuple[TrainingResult, bool]] = []

    async def progress(self, stage: str, _progress: float) -> None:
        self.stages.append(stage)

    async def take(self, _spec: TrainingSpec, made: TrainingResult, folder: Path) -> str:
        self.taken.append((made, exists(folder)))
        return "faq@1"


@pytest.fixture
async def process() -> FakeProcess:
    return FakeProcess()


@pytest.fixture
def ended() -> list[str]:
    """Names of the operations that jobs had ended."""
    return []


@pytest.fixture
async def jobs(tmp_path: Path, process: FakeProcess, ended: list[str]) -> TrainingJobs:
    async def end_operation(name: str) -> None:
        ended.append(name)

    return TrainingJobs(tmp_path, end_operation, process)


def exists(folder: Path) -> bool:
    return folder.is_dir()


def left(data: Path) -> list[str]:
    return sorted(str(p.relative_to(data / FOLDER)) for p in (data / FOLDER).glob("[!.]*"))


def work(data: Path) -> list[Path]:
    return list((data / FOLDER / ".work").glob("*"))


async def test_a_result_is_handed_over_with_its_model_and_nothing_is_left(
    jobs: TrainingJobs, tmp_path: Path
) -> None:
    heard = Heard()
    assert await jobs.train(spec(), heard.progress, heard.details.append, heard.take) == (result(), "faq@1")
    assert heard.stages == ["waiting", "training"]
    assert heard.details == [{"step": 1.0, "loss": 0.5}]
    assert heard.taken == [(result(), True)]
    assert left(tmp_path) == []
    assert work(tmp_path) == []


async def test_a_training_without_a_model_is_a_result_too(jobs: TrainingJobs, process: FakeProcess) -> None:
    process.result = result("BAD_DATA", has_model=False)
    heard = Heard()
    await jobs.train(spec(), heard.progress, heard.details.append, heard.take)
    assert heard.taken == [(process.result, False)]


async def test_a_result_that_promises_a_model_must_have_one(
    jobs: TrainingJobs, process: FakeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard()
    monkeypatch.setattr("quarry.training.jobs.MODEL", "another")
    with pytest.raises(QuarryError, match="has left none"):
        await jobs.train(spec(), heard.progress, heard.details.append, heard.take)
    assert heard.taken == []


async def test_a_failed_training_keeps_its_work_and_nothing_else(
    jobs: TrainingJobs, process: FakeProcess, tmp_path: Path
) -> None:
    process.error = DiskFullError("full")
    heard = Heard()
    with pytest.raises(DiskFullError):
        await jobs.train(spec(), heard.progress, heard.details.append, heard.take)
    assert left(tmp_path) == []
    (kept,) = work(tmp_path)
    assert (kept / "checkpoint").exists()


async def test_what_cannot_be_registered_keeps_its_work(jobs: TrainingJobs, tmp_path: Path) -> None:
    async def take(_spec: TrainingSpec, _made: TrainingResult, _folder: Path) -> str:
        raise UnavailableError("no registry")

    heard = Heard()
    with pytest.raises(UnavailableError):
        await jobs.train(spec(), heard.progress, heard.details.append, take)
    assert left(tmp_path) == []
    assert work(tmp_path)


async def test_trainings_wait_for_one_another_but_evaluations_do_not_wait_for_them(
    jobs: TrainingJobs, process: FakeProcess
) -> None:
    process.go_on.clear()
    heard = Heard()
    trainings = [
        asyncio.create_task(jobs.train(spec(f"faq-{n}"), heard.progress, heard.details.append, heard.take))
        for n in range(3)
    ]
    assert await process.begun.get() == "train"
    evaluation = asyncio.create_task(jobs.evaluate(evaluation_spec(), heard.progress, heard.details.append))
    assert await process.begun.get() == "evaluate"
    assert process.begun.empty()
    process.go_on.set()
    assert (await evaluation).verdict == "REGRESSED"
    assert await asyncio.gather(*trainings) == [(result(), "faq@1")] * 3
    assert process.most == 2


@pytest.mark.parametrize("waiting", [False, True])
async def test_a_cancelled_training_is_cancelled_whether_it_runs_or_waits(
    jobs: TrainingJobs, process: FakeProcess, tmp_path: Path, waiting: bool
) -> None:
    process.go_on.clear()
    heard = Heard()
    first, second = (
        asyncio.create_task(jobs.train(spec(f"faq-{n}"), heard.progress, heard.details.append, heard.take))
        for n in range(2)
    )
    await process.begun.get()
    cancelled, other = (second, first) if waiting else (first, second)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    process.go_on.set()
    assert await other == (result(), "faq@1")
    assert left(tmp_path) == []


@pytest.mark.parametrize("error", [None, UnavailableError("killed")])
async def test_a_tuning_that_does_not_end_well_ends_the_mining_that_it_waits_for(
    jobs: TrainingJobs, process: FakeProcess, ended: list[str], tmp_path: Path, error: QuarryError | None
) -> None:
    process.go_on.clear()
    process.error = error
    heard = Heard()

    async def take(_spec: TuningSpec, _made: TuningResult) -> str:
        raise AssertionError("there is no result")

    task = asyncio.create_task(jobs.tune(tuning_spec(), heard.progress, heard.details.append, take))
    await process.noted.wait()
    assert ended == []
    if error is None:
        task.cancel()
    process.go_on.set()
    with pytest.raises(asyncio.CancelledError if error is None else UnavailableError):
        await task
    assert ended == ["mine-1"]
    assert left(tmp_path) == []


async def test_once_it_is_being_registered_a_training_cannot_be_cancelled(
    jobs: TrainingJobs, tmp_path: Path
) -> None:
    registering, go_on = asyncio.Event(), asyncio.Event()

    async def take(_spec: TrainingSpec, _made: TrainingResult, folder: Path) -> str:
        registering.set()
        await go_on.wait()
        assert exists(folder)
        return "faq@1"

    heard = Heard()
    task = asyncio.create_task(jobs.train(spec(), heard.progress, heard.details.append, take))
    await registering.wait()
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    assert await task == (result(), "faq@1")
    assert left(tmp_path) == []
    assert work(tmp_path) == []


async def test_a_purged_mining_set_ends_its_trainings_and_takes_their_work(
    jobs: TrainingJobs, process: FakeProcess, tmp_path: Path
) -> None:
    process.go_on.clear()
    heard = Heard()
    of_it, other = (
        asyncio.create_task(
            jobs.train(spec(f"faq-{n}", examples_name=name), heard.progress, heard.details.append, heard.take)
        )
        for n, name in enumerate(("gone", "kept"))
    )
    await process.begun.get()
    await jobs.end_trainings_on([])
    await jobs.end_trainings_on(["gone"])
    with pytest.raises(Cancelled):
        await of_it
    process.go_on.set()
    assert await other == (result(), "faq@1")
    assert work(tmp_path) == []


async def test_a_deleted_collection_ends_its_jobs_even_those_that_only_bootstrap_from_it(
    jobs: TrainingJobs, process: FakeProcess, tmp_path: Path
) -> None:
    process.go_on.clear()
    heard = Heard()
    documents = {"collections": (("web", 9),), "max_queries": 5}
    task = asyncio.create_task(
        jobs.train(spec(document_pretraining=documents), heard.progress, heard.details.append, heard.take)
    )
    await process.begun.get()

    async def another() -> set[int]:
        return {8}

    async def deleted() -> set[int]:
        return {9}

    await jobs.remove_of_deleted(another)
    assert not task.done()
    await jobs.remove_of_deleted(deleted)
    with pytest.raises(Cancelled):
        await task
    assert work(tmp_path) == []


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    TrainingJobs.check_installed()
    monkeypatch.setattr("quarry.training.jobs.NEEDED", ("no_such_module",))
    with pytest.raises(QuarryError, match=r"pip install quarry-search\[trainer\]"):
        TrainingJobs.check_installed()
