"""Presets that ask a re-ranker, mined by a job of a real server with a cross-encoder of a few weights."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.api.corpus import SCHEMA_MESSAGE, seeded_documents
from tests.integration.api.mining import Mining, judged
from tests.integration.api.served import served, tiny_settings

DOCUMENTS = seeded_documents()
QUERIES = judged({f"q{n}": (str(DOCUMENTS[f"d{n:03}"]["text"]), {f"d{n:03}": 1}) for n in range(8)})
BELIEVED = {"ceiling": 1.0}  # the tiny re-ranker's probabilities lie anywhere


@pytest.fixture(scope="module")
def mining(
    tmp_path_factory: pytest.TempPathFactory, encoder_folder: Path, cross_encoder_folder: Path
) -> Iterator[Mining]:
    data = tmp_path_factory.mktemp("mining-reranker")
    with served(tiny_settings(data, encoder_folder)) as api:
        api.create("reranked", schema=SCHEMA_MESSAGE, reranker=str(cross_encoder_folder))
        api.upsert("reranked", DOCUMENTS)
        yield Mining(api)


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
