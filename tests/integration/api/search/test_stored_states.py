"""What reads texts apart finds states of passages where an earlier server, or indexing, has left them."""

import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.api.helpers.corpus import SCHEMA_MESSAGE, seeded_documents
from tests.integration.api.helpers.models import Models
from tests.integration.api.helpers.served import CALL_S, served, tiny_settings

from quarry.collections.state_fill import StateFill
from quarry.config import Settings
from quarry.models.cross_encoder import load_cross_encoder
from quarry.models.encoder import load_encoder
from quarry.models.torch_modules.late_module import make_late_model
from quarry.models.torch_modules.split_module import make_split_model
from quarry.models.two_steps.two_step_cross_encoder import TwoStepCrossEncoder
from quarry.testing import make_tiny_encoder
from quarry.v1 import search_service_pb2

QUERY = "the rata neli of ba"
DOCUMENTS = 30


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_encoder(tmp_path_factory.mktemp("encoder"), seed=4)


@pytest.fixture(scope="module", params=["split", "late"])
def reranker(encoder: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    return (
        make_late_model(encoder, folder) if request.param == "late" else make_split_model(encoder, 1, folder)
    )


@pytest.fixture(scope="module")
def exports(encoder: Path, reranker: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both models, exported once for all servers."""
    folder = tmp_path_factory.mktemp("exports")
    load_encoder(str(encoder), folder, "cpu")
    for precision in ("fp32", "int8"):
        load_cross_encoder(str(reranker), folder, "cpu", precision=precision)  # type: ignore[arg-type]
    return folder


@pytest.fixture
def data(exports: Path, tmp_path: Path) -> Path:
    return shutil.copytree(exports, tmp_path / "data")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many passages were run through lower layers, by each batch that lacked some."""
    counts: list[int] = []
    make = TwoStepCrossEncoder._make_states

    def counted(self: TwoStepCrossEncoder, pairs: list) -> dict:  # type: ignore[type-arg]
        counts.append(len(pairs))
        return make(self, pairs)

    monkeypatch.setattr(TwoStepCrossEncoder, "_make_states", counted)
    return counts


@pytest.fixture
def filled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The writes up to which states were filled in behind indexing."""
    done: list[int] = []
    once = StateFill.run_once

    async def noted(self: StateFill) -> None:
        await once(self)
        done.extend(position for models in self._filled.values() for _, position in models.values())

    monkeypatch.setattr(StateFill, "run_once", noted)
    return done


def settings_of(data: Path, encoder: Path, **models: object) -> Settings:
    return tiny_settings(data, encoder, models={"encoder": str(encoder), "device": "cpu", **models})


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + CALL_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def scores(answer: search_service_pb2.SearchResponse) -> list[float]:
    return [hit.explanation.rerank_score for hit in answer.hits]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_restart_does_not_start_cold(
    data: Path,
    encoder: Path,
    reranker: Path,
    made: list[int],
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
) -> None:
    monkeypatch.setattr(StateFill, "start", lambda self: None)  # so that only searches leave states
    settings = settings_of(data, encoder, reranker_precision=precision)
    with served(settings) as api:
        api.create("faq", schema=SCHEMA_MESSAGE, reranker=str(reranker))
        api.upsert("faq", seeded_documents(size=DOCUMENTS))
        before = api.search("faq", QUERY, explain=True)
    assert sum(made) > len(before.hits)
    made.clear()
    with served(settings) as api:
        after = api.search("faq", QUERY, explain=True)
    assert sum(made) == 0
    assert scores(after) == pytest.approx(scores(before), abs=1e-4)


def test_indexing_leaves_states_that_no_search_has_asked_for(
    data: Path, encoder: Path, reranker: Path, made: list[int], filled: list[int]
) -> None:
    with served(settings_of(data, encoder)) as api:
        api.create("faq", schema=SCHEMA_MESSAGE, reranker=str(reranker))
        for size in (DOCUMENTS, DOCUMENTS + 5):
            wanted = api.upsert("faq", seeded_documents(size=size)).result.sequence
            wait_until(lambda wanted=wanted: max(filled, default=0) >= wanted)
            made.clear()
            assert api.search("faq", QUERY, explain=True).reranker == str(reranker)
            assert sum(made) == 0


def test_a_promotion_fills_in_the_states_of_what_was_indexed_before(
    data: Path, encoder: Path, reranker: Path, made: list[int], filled: list[int]
) -> None:
    with served(settings_of(data, encoder)) as api:
        api.create("faq", schema=SCHEMA_MESSAGE)
        wanted = api.upsert("faq", seeded_documents(size=DOCUMENTS)).result.sequence
        models = Models(api)
        version = models.imported("faq", reranker).name
        models.promote(version)
        wait_until(lambda: max(filled, default=0) >= wanted)
        made.clear()
        assert api.search("faq", QUERY).reranker == version
        assert sum(made) == 0


def test_states_of_documents_that_go_do_not_pile_up(data: Path, encoder: Path, reranker: Path) -> None:
    bound = 20_000
    with served(settings_of(data, encoder, state_store_bytes=bound)) as api:
        api.create("faq", schema=SCHEMA_MESSAGE, reranker=str(reranker))
        for seed in range(4):
            api.upsert("faq", seeded_documents(size=DOCUMENTS, seed=seed))
            api.search("faq", QUERY, explain=True)
    with sqlite3.connect(data / "states.db") as connection:
        (kept,) = connection.execute("SELECT sum(length(value)) FROM state").fetchone()
    assert 0 < kept <= bound


def test_without_a_store_no_file_is_left(data: Path, encoder: Path, reranker: Path) -> None:
    with served(settings_of(data, encoder)) as api:
        api.create("faq", schema=SCHEMA_MESSAGE, reranker=str(reranker))
    assert (data / "states.db").exists()
    with served(settings_of(data, encoder, state_store_bytes=0)) as api:
        api.upsert("faq", seeded_documents(size=5))
        assert api.search("faq", QUERY).reranker == str(reranker)
    assert not (data / "states.db").exists()
