"""What a server keeps of its models: over damage, a full disk, deletion and a restart."""

import errno
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.integration.api.helpers.corpus import seeded_documents
from tests.integration.api.helpers.mining import Mining, judged
from tests.integration.api.helpers.models import Models, import_stream, tar_of
from tests.integration.api.helpers.served import CALL_S, Api, failure, refused, served, tiny_settings

from quarry.errors import DataLossError
from quarry.registry import artefacts
from quarry.v1 import collection_service_pb2
from quarry.v1 import model_service_pb2 as pb


@pytest.fixture
def own(folder: Path, new_server: Callable[..., Any], first_folder: Path) -> Iterator[Models]:
    """A server of the test's own with a collection ``faq``."""
    with new_server() as api:
        api.create("faq", encoder="none")
        api.upsert("faq", {"a": {"text": "one rata"}, "b": {"text": "two rata"}})
        yield Models(api)


def test_a_broken_artefact_is_data_loss_and_leaves_what_serves(
    own: Models, folder: Path, first_folder: Path, second_folder: Path
) -> None:
    first, second = (own.imported("faq", f).name for f in (first_folder, second_folder))
    own.promote(first)
    before = own.api.search("faq", "rata", explain=True)
    (weights,) = (folder / "registry").glob("*/2/model/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    for call, request in (
        (own.stub.PromoteModel, pb.PromoteModelRequest(name=second)),
        (own.stub.ImportModel, import_stream(b"", collection="faq", source=second)),
    ):
        failed = refused(call, request)
        assert (failed.code, failed.reason) == (grpc.StatusCode.DATA_LOSS, "MODEL_DAMAGED")
    with pytest.raises(grpc.RpcError) as caught:
        own.exported(second)
    assert failure(caught.value).reason == "MODEL_DAMAGED"
    with pytest.raises(grpc.RpcError) as caught:
        own.api.search("faq", "rata", rerank={"model": second})
    assert failure(caught.value).reason == "MODEL_DAMAGED"
    after = own.api.search("faq", "rata", explain=True)
    assert (after.hits, after.reranker, after.degraded) == (before.hits, first, before.degraded)
    assert own.get(second).state == pb.MODEL_STATE_CANDIDATE


def test_a_full_disk_registers_nothing(
    own: Models, folder: Path, first_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    kept = own.imported("faq", first_folder).name
    with monkeypatch.context() as broken:
        broken.setattr(artefacts, "sync_path", full)
        failed = refused(own.stub.ImportModel, import_stream(tar_of(first_folder), collection="faq"))
        assert (failed.code, failed.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "DISK_FULL")
    assert own.names() == [kept]
    assert sorted(p.name for p in (folder / "registry").glob("*/*")) == ["1"]
    assert not list((folder / "registry").glob(".*"))
    own.promote(kept)


def test_a_deleted_collections_models_go_and_a_new_one_begins_anew(
    own: Models, folder: Path, first_folder: Path, second_folder: Path
) -> None:
    own.promote(own.imported("faq", first_folder).name)
    old = own.api.search("faq", "rata", explain=True).hits[0].explanation.rerank_score
    request = collection_service_pb2.DeleteCollectionRequest(name="faq")
    own.api.collections.DeleteCollection(request, timeout=CALL_S)
    assert own.names() == []
    assert not list((folder / "registry").rglob("model.safetensors"))
    own.api.create("faq", encoder="none")
    own.api.upsert("faq", {"a": {"text": "one rata"}, "b": {"text": "two rata"}})
    name = own.imported("faq", second_folder).name
    assert name == "faq@1"
    own.promote(name)
    answer = own.api.search("faq", "rata", explain=True)
    assert answer.reranker == name
    assert old not in {hit.explanation.rerank_score for hit in answer.hits}


def test_after_a_restart_the_same_version_answers(
    folder: Path, encoder_folder: Path, first_folder: Path, second_folder: Path
) -> None:
    settings = tiny_settings(folder, encoder_folder)
    with served(settings) as api:
        models = Models(api)
        api.create("faq", encoder="none")
        api.upsert("faq", {"a": {"text": "one rata"}, "b": {"text": "two rata"}})
        for model in (first_folder, second_folder):
            models.promote(models.imported("faq", model).name)
        before = api.search("faq", "rata", explain=True)
    shutil.rmtree(folder / "models", ignore_errors=True)  # a version needs nothing but its own folder
    with served(settings) as api:
        after = api.search("faq", "rata", explain=True)
        assert (after.hits, after.reranker, list(after.degraded)) == (before.hits, "faq@2", [])
        assert Models(api).rollback("faq").serving == "faq@1"


def test_mining_asks_the_version_that_serves(
    api: Api, models: Models, collection: str, first_folder: Path
) -> None:
    texts = {id: str(fields["text"]) for id, fields in seeded_documents(size=30).items()}
    queries = judged({f"q{n}": (texts[f"d{n:03}"], {f"d{n:03}": 1}) for n in range(4)})
    mining = Mining(api)
    refused = mining.failed(collection, queries=queries, preset="refresh", negatives=2)
    assert refused.code is grpc.StatusCode.FAILED_PRECONDITION
    models.promote(models.imported(collection, first_folder).name)
    made = mining.mined(collection, queries=queries, preset="refresh", negatives=2)
    assert len(mining.examples(made.name)) == 2 * len(queries)


def test_a_folder_that_has_lost_its_log_is_not_served_and_keeps_its_models(
    folder: Path, encoder_folder: Path
) -> None:
    model = folder / "registry" / "1" / "1" / "model" / "model.safetensors"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"weights")
    with (
        pytest.raises(DataLossError, match=r"documents\.db is not there, but its folder holds registry"),
        served(tiny_settings(folder, encoder_folder)),
    ):
        pass
    assert model.exists()
