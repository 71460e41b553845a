"""A job is told what the server is set to."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from quarry.feedback.guards import GuardPolicy
from quarry.models.loading import Precision
from quarry.testing import tiny_cross_encoder
from quarry.training.spec import ModelRef
from quarry.v1 import training_service_pb2 as pb
from quarry_server.training_requests import Ground, parse_evaluation, parse_training


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_jobs_are_told_the_precision_that_serves(tmp_path: Path, precision: Precision) -> None:
    folder = str(tiny_cross_encoder(tmp_path / "model", seed=0))
    ground = Ground(
        collection=SimpleNamespace(key=1, settings=SimpleNamespace(name="faq", reranker="")),  # type: ignore[arg-type]
        base_reranker="",
        precision=precision,
        guards=GuardPolicy(),
        server="127.0.0.1:1",
        now_us=1,
        resolve=lambda name: ModelRef(name=name, folder=folder),
        key_of=lambda name: 1,
        mining_sets=None,  # type: ignore[arg-type]
        uploads=None,  # type: ignore[arg-type]
    )
    assert parse_evaluation(pb.EvaluateRerankerRequest(model="faq@1"), ground).precision == precision
    documents = pb.TrainRerankerRequest(base="faq@1", bootstrap=pb.Bootstrap(collections=["faq"]))
    assert parse_training(documents, ground).precision == precision
