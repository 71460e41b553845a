"""Presets that ask a re-ranker, mined by a job of a real server with a cross-encoder of a few weights."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from tests.integration.api.helpers.corpus import SCHEMA_MESSAGE, seeded_documents
from tests.integration.api.helpers.mining import Mining, judged
from tests.integration.api.helpers.served import served, tiny_settings

from quarry.models.calibration import Calibration, write_calibration

DOCUMENTS = seeded_documents()
QUERIES = judged({f"q{n}": (str(DOCUMENTS[f"d{n:03}"]["text"]), {f"d{n:03}": 1}) for n in range(8)})
PLAIN_SIGMOID = Calibration(
    slope=1.0, intercept=0.0, source="judgments", queries=40, pairs=400, relevant=40, ece=0.02, ece_all=0.01
)
BELIEVED = {"ceiling": 1.0}  # the tiny re-ranker's probabilities lie anywhere


@pytest.fixture(scope="module")
def mining(
    tmp_path_factory: pytest.TempPathFactory, encoder_folder: Path, cross_encoder_folder: Path
) -> Iterator[Mining]:
    data = tmp_path_factory.mktemp("mining-reranker")
    calibrated = tmp_path_factory.mktemp("calibrated") / "model"
    shutil.copytree(cross_encoder_folder, calibrated)
    write_calibration(calibrated, PLAIN_SIGMOID)
    with served(tiny_settings(data, encoder_folder)) as api:
        for name, model in (("reranked", calibrated), ("uncalibrated", cross_encoder_folder)):
            api.create(name, schema=SCHEMA_MESSAGE, reranker=str(model))
            api.upsert(name, DOCUMENTS)
        yield Mining(api)


@pytest.mark.parametrize("preset", ["denoised", "relabelled"])
def test_without_a_calibration_probabilities_are_refused(mining: Mining, preset: str) -> None:
    refusal = mining.failed("uncalibrated", queries=QUERIES, preset=preset)
    assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION
    assert "the re-ranker has no calibration" in refusal.message


def test_without_a_calibration_the_default_preset_judges_by_order_alone_and_says_so(mining: Mining) -> None:
    made = mining.mined("uncalibrated", queries=QUERIES, negatives=3)
    assert "nothing is dropped or re-labelled by a probability" in made.report_json
    rows = mining.examples(made.name).to_pylist()
    assert rows and all("rerank" not in dict(row["evidence"]) and row["label"] == 0 for row in rows)


def test_denoised_keeps_what_the_reranker_disbelieves_and_says_by_how_much(mining: Mining) -> None:
    made = mining.mined("reranked", queries=QUERIES, preset="denoised", parameters=BELIEVED, negatives=3)
    rows = mining.examples(made.name).to_pylist()
    assert made.rows == len(rows) == 24
    assert all(0 <= dict(row["evidence"])["rerank"] < 1 for row in rows)
    strict = mining.mined("reranked", queries=QUERIES, preset="denoised", negatives=3)
    assert all(dict(row["evidence"])["rerank"] < 0.1 for row in mining.examples(strict.name).to_pylist())


def test_relabelled_makes_positives_of_what_the_reranker_puts_above(mining: Mining) -> None:
    made = mining.mined("reranked", queries=QUERIES, preset="relabelled", parameters={"gap": 0.0})
    labels = {row["label"] for row in mining.examples(made.name).to_pylist()}
    assert labels == {0, 1}


def test_refresh_draws_from_what_the_reranker_ranks_first(mining: Mining) -> None:
    made = mining.mined("reranked", queries=QUERIES, preset="refresh", negatives=3, seed=1)
    again = mining.mined("reranked", queries=QUERIES, preset="refresh", negatives=3, seed=1)
    other = mining.mined("reranked", queries=QUERIES, preset="refresh", negatives=3, seed=2)
    first, second, third = (mining.examples(one.name).to_pylist() for one in (made, again, other))
    assert len(first) == 24
    assert first == second != third
