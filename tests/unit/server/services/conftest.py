"""One server in this process for all tests of the servicers: no encoder reads, no job has a process."""

import asyncio
import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.integration.api.helpers import fake_loop_jobs, fake_trainer
from tests.integration.api.helpers.mining import judged
from tests.integration.api.helpers.served import Api, served, tiny_settings
from tests.integration.api.helpers.training import Training, examples_file
from tests.unit.training.loops import loop_report

from quarry.errors import QuarryError
from quarry.jobs.child import read_spec
from quarry.jobs.files import write_model
from quarry.jobs.folders import SPEC
from quarry.jobs.process import OnDetails, OnProgress
from quarry.mining.estimate import EstimateSpec, PairRelevance, RankValue, RelevanceReport
from quarry.mining.jobs import ESTIMATE
from quarry.ranking.ranking_configuration import RankingConfiguration
from quarry.testing import make_tiny_cross_encoder
from quarry.training.folders import RESULT
from quarry.training.loop_reports import REPORT
from quarry.training.loop_spec import LoopSpec
from quarry.training.spec import EvaluationReport, TuningResult, TuningSpec

ROWS = [(f"q{n}", f"red {n}", "d1", "d2") for n in range(8)]
JUDGED = judged({f"q{n}": (f"red {n}", {"d1": 1}) for n in range(60)})
FAILS, HANGS = 7, 8
"""Seeds with which an estimate fails, and with which it does not end."""
Told = Callable[..., None]


def estimate(folder: Path, told: Told) -> None:
    spec = read_spec(folder / SPEC, EstimateSpec)
    if spec.seed == FAILS:
        raise QuarryError("no click was counted")
    value = RankValue(rank=1, value=0.9, lower=0.8, upper=1.0, impressions=4)
    pair = PairRelevance(
        query="red", document_id="d1", relevance=0.5, lower=0.25, upper=0.75, impressions=4, clicks=2
    )
    write_model(
        folder / ESTIMATE,
        RelevanceReport(
            model=spec.model,
            impressions=4,
            clicks=2,
            simulated=False,
            examination=(value,),
            estimates=(pair,),
        ),
    )


def tune(folder: Path, told: Told) -> None:
    read_spec(folder / SPEC, TuningSpec)
    told("fitting", 0.5)
    weights = {"bm25": 0.5, "dense": 0.5}
    found = EvaluationReport(verdict="NO_IMPROVEMENT", advice=("an advice",), source="judgments", queries=30)
    result = TuningResult(
        evaluation=found, configuration=RankingConfiguration(weights=weights), queries=30, source="judgments"
    )
    write_model(folder / RESULT, result)


def turn(folder: Path, told: Told) -> None:
    spec = read_spec(folder / SPEC, LoopSpec)
    told("mining", 0.5)
    changes = {
        "collection": spec.collection,
        "collection_key": spec.collection_key,
        "start_us": spec.create_time_us,
    }
    write_model(folder / REPORT, loop_report(spec.name, **changes))


JOBS: dict[str, Callable[[Path, Told], None]] = {
    "mine": fake_loop_jobs.mine,
    "train": fake_trainer.train,
    "evaluate": fake_trainer.evaluate,
    "estimate": estimate,
    "tune": tune,
    "loop": turn,
}


async def run_here(
    module: str,
    arguments: Sequence[str],
    on_progress: OnProgress,
    on_details: OnDetails = lambda _: None,
    **_: Any,
) -> None:
    """Does the work of a job's process in a thread of this one."""
    job, folder = arguments
    if job == "estimate" and read_spec(Path(folder) / SPEC, EstimateSpec).seed == HANGS:
        await asyncio.Event().wait()
    loop = asyncio.get_running_loop()

    def told(stage: str, progress: float, details: dict[str, float] | None = None) -> None:
        on_details(details or {})
        asyncio.run_coroutine_threadsafe(on_progress(stage, progress), loop).result()

    await asyncio.to_thread(partial(JOBS[job], Path(folder), told))


class NoTrial:
    """Tries no model, and finds each good."""

    def __init__(self, *_: Any) -> None: ...
    async def run(self, task: Any) -> None: ...
    async def close(self) -> None: ...


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-encoder that trainings start from."""
    return make_tiny_cross_encoder(tmp_path_factory.mktemp("base"), seed=2)


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Iterator[Api]:
    data, nowhere = tmp_path_factory.mktemp("server"), Path("/nowhere")
    models = {"encoder": str(nowhere), "base_reranker": str(base), "device": "cpu", "state_store_bytes": 0}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("quarry_server.startup.opening.run_process", run_here)
        patched.setattr("quarry_server.wiring.JobWorker", NoTrial)
        with served(tiny_settings(data, nowhere, models=models)) as api:
            yield api


@pytest.fixture(scope="session")
def new_name() -> Callable[[], str]:
    """Names of collections that no other test uses."""
    numbers = itertools.count(1)
    return lambda: f"c{next(numbers)}"


@pytest.fixture
def faq(api: Api, new_name: Callable[[], str]) -> str:
    """A collection without an encoder, of three documents about things that are red."""
    name = api.create(new_name(), encoder="none").name
    documents = {f"d{n}": {"title": "red", "text": f"red thing {'red ' * n}"} for n in range(1, 4)}
    api.upsert(name, documents)
    return name


@pytest.fixture
def training(api: Api) -> Training:
    return Training(api)


@pytest.fixture
def examples(training: Training, tmp_path: Path) -> str:
    """An uploaded file."""
    return training.upload(examples_file(tmp_path / "examples", ROWS))
