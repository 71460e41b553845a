"""The re-ranker that mining runs does no work twice."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray
from tests.unit.miner.small import make_corpus

from quarry.documents.catalog import NO_ENCODER, Collection, CollectionSettings
from quarry.mining.spec import MiningSpec
from quarry.models.runtime.onnx_runner import OnnxRunner
from quarry.models.torch_modules.split_module import make_split_model
from quarry.schema import DEFAULT_SCHEMA
from quarry.testing import make_tiny_encoder
from quarry_miner.job.resources import open_materials
from quarry_miner.presets.registry import make_preset

QUERIES, PASSAGES = ("the bado", "gira mo", "sapo"), ("bado cobe", "fidu nami gira", "lute", "mo sapo bine")


def test_a_split_rerankers_lower_layers_read_each_passage_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reranker = make_split_model(make_tiny_encoder(tmp_path / "encoder", seed=5), 1, tmp_path / "split")
    settings = CollectionSettings("faq", DEFAULT_SCHEMA, NO_ENCODER, str(reranker))
    collection = Collection(1, settings, "g1", 0, 0, 0, 0, 0)
    spec = MiningSpec(name="s", collection="faq", collection_key=1, server="127.0.0.1:1")
    preset = make_preset("denoised")
    read: list[int] = []
    run = OnnxRunner.run

    def counted(runner: OnnxRunner, inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        if "input_ids" in inputs:  # the layers that read texts apart; those above them read states
            read.append(len(inputs["input_ids"]))
        return run(runner, inputs)

    with open_materials(tmp_path, collection, make_corpus(PASSAGES), spec, preset, (), None) as sources:
        assert sources.cross_encoder is not None
        monkeypatch.setattr(OnnxRunner, "run", counted)
        for query in QUERIES:
            sources.cross_encoder.score([(query, passage) for passage in PASSAGES])
    assert sum(read) == len(QUERIES) + len(PASSAGES)
