"""A re-ranker is loaded beside the search that asks for it, and takes none of its arms' time."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.api.helpers.served import CALL_S, Api, served, tiny_settings

from quarry.models import serving as served_models
from quarry.models.cross_encoder import load_cross_encoder
from quarry.retrieval.dense_arm import DenseRetriever
from quarry.v1 import search_service_pb2 as pb


@pytest.fixture
def slow(tmp_path: Path, encoder_folder: Path, cross_encoder_folder: Path) -> Iterator[Api]:
    """A server that has loaded no re-ranker yet, with a collection ``faq``."""
    models = {"encoder": str(encoder_folder), "rerankers": (str(cross_encoder_folder),), "device": "cpu"}
    with served(tiny_settings(tmp_path / "data", encoder_folder, models=models)) as api:
        api.create("faq")
        api.upsert("faq", {f"d{n}": {"text": f"one word {n}"} for n in range(5)})
        yield api


def searched(api: Api, timeout_s: float, model: Path) -> pb.SearchResponse:
    request = pb.SearchRequest(collection="faq", query="one", rerank=pb.Rerank(model=str(model)))
    return api.searches.Search(request, timeout=timeout_s)


def load_after(event: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """Re-rankers are loaded once the event has come."""

    def load(*arguments: Any, **settings: Any) -> Any:
        assert event.wait(CALL_S)
        return load_cross_encoder(*arguments, **settings)

    monkeypatch.setattr(served_models, "load_cross_encoder", load)


def test_the_arms_search_while_the_reranker_is_loaded(
    slow: Api, cross_encoder_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searching, retrieve = threading.Event(), DenseRetriever.retrieve

    async def seen(*arguments: Any, **settings: Any) -> Any:
        searching.set()
        return await retrieve(*arguments, **settings)

    monkeypatch.setattr(DenseRetriever, "retrieve", seen)
    load_after(searching, monkeypatch)
    answer = searched(slow, 20.0, cross_encoder_folder)
    assert len(answer.hits) == 5
    assert not answer.degraded
    assert answer.reranker == str(cross_encoder_folder)


def test_a_reranker_that_is_not_loaded_in_time_leaves_the_fused_order_and_is_named(
    slow: Api, cross_encoder_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()
    load_after(answered, monkeypatch)
    try:
        answer = searched(slow, 2.0, cross_encoder_folder)
    finally:
        answered.set()
    assert len(answer.hits) == 5
    assert [(d.stage, d.reason) for d in answer.degraded] == [
        (pb.STAGE_RERANK, pb.DEGRADATION_REASON_UNAVAILABLE)
    ]
    assert not answer.reranker
    assert answer.degraded[0].model == str(cross_encoder_folder)
