"""What becomes of trainings when a server stops, and which policy lets a version serve."""

import sqlite3
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from tests.integration.api.helpers.mining import failure_of
from tests.integration.api.helpers.pretended import ROWS, jobs, pretend
from tests.integration.api.helpers.served import CALL_S, refused, served, tiny_settings
from tests.integration.api.helpers.training import Training, examples_file, until

from quarry.v1 import collection_service_pb2
from quarry.v1 import model_service_pb2 as models_pb


@pytest.fixture(autouse=True)
def pretending(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return examples_file(tmp_path_factory.mktemp("examples") / "x", ROWS)


def test_a_server_that_stops_fails_its_trainings_and_the_next_goes_on_with_them(
    tmp_path: Path, encoder_folder: Path, cross_encoder_folder: Path, data: bytes
) -> None:
    settings = tiny_settings(tmp_path, encoder_folder)
    with served(settings) as api:
        training = Training(api)
        api.create("full")
        asked = {"examples": training.upload(data), "base": str(cross_encoder_folder), "description": "stop"}
        operation = training.start("full", **asked)
        until(lambda: training.metadata(operation).step, "step")
    assert not jobs()
    with served(settings) as api:
        training = Training(api)
        stopped = failure_of(training.wait(operation))
        assert (stopped.code, stopped.reason) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
        assert [p.name for p in (tmp_path / "training").glob("[!.]*")] == ["uploads"]
        assert training.trained("full", **asked).lineage.data_hash == "begun 2"


@pytest.mark.parametrize("servers", ["manual", "when_improved"])
def test_a_collections_own_policy_goes_before_the_servers(
    tmp_path: Path, encoder_folder: Path, cross_encoder_folder: Path, data: bytes, servers: str
) -> None:
    settings = tiny_settings(tmp_path, encoder_folder, training={"promotion": servers})
    with served(settings) as api:
        training = Training(api)
        asked = {"examples": training.upload(data), "base": str(cross_encoder_folder)}
        api.create("full", promotion=collection_service_pb2.PROMOTION_POLICY_MANUAL)

        def serves(description: str, policy: int | None = None) -> bool:
            if policy is not None:
                changed = collection_service_pb2.UpdateCollectionRequest(
                    collection={"name": "full", "promotion": policy}, update_mask={"paths": ["promotion"]}
                )
                answer = api.collections.UpdateCollection(changed, timeout=CALL_S)
                assert answer.collection.promotion == policy
            made = training.trained("full", **asked, description=description)
            assert made.verdict == models_pb.MODEL_VERDICT_IMPROVED
            return made.state == models_pb.MODEL_STATE_SERVING

        assert not serves("IMPROVED, by hand")
        assert serves("IMPROVED, by itself", collection_service_pb2.PROMOTION_POLICY_WHEN_IMPROVED)
        assert not serves("IMPROVED, few unseen")
        assert serves("IMPROVED, few unseen again", collection_service_pb2.PROMOTION_POLICY_DESPITE_CAUTIONS)
        by_server = serves("IMPROVED as the server says", collection_service_pb2.PROMOTION_POLICY_UNSPECIFIED)
        assert by_server == (servers == "when_improved")
        wrong = collection_service_pb2.UpdateCollectionRequest(
            collection={"name": "full", "promotion": 99}, update_mask={"paths": ["promotion"]}
        )
        assert refused(api.collections.UpdateCollection, wrong).field == "collection.promotion"
        made_wrong = collection_service_pb2.CreateCollectionRequest(
            collection={"name": "other", "promotion": 99}
        )
        failed = refused(api.collections.CreateCollection, made_wrong)
        assert (failed.code, failed.field) == (grpc.StatusCode.INVALID_ARGUMENT, "collection.promotion")
    with closing(sqlite3.connect(tmp_path / "documents.db")) as database:
        reasons = [reason for (reason,) in database.execute("SELECT reason FROM promotions ORDER BY id")]
    by_whom = ["when_improved", "despite_cautions", *(["when_improved"] if by_server else [])]
    assert reasons == [f"MODEL_VERDICT_IMPROVED: the promotion policy is {policy}" for policy in by_whom]


def test_the_policy_makes_what_is_improved_serve_unless_something_else_does_by_then(
    tmp_path: Path, encoder_folder: Path, cross_encoder_folder: Path, data: bytes
) -> None:
    policy = {"promotion": "when_improved"}
    with served(tiny_settings(tmp_path, encoder_folder, training=policy)) as api:
        training = Training(api)
        api.create("full")
        asked = {"examples": training.upload(data), "base": str(cross_encoder_folder)}

        def serving() -> str:
            request = collection_service_pb2.GetCollectionRequest(name="full")
            return api.collections.GetCollection(request, timeout=CALL_S).collection.reranker

        training.trained("full", **asked, description="NO_IMPROVEMENT")
        assert serving() == ""
        made = training.trained("full", **asked, description="IMPROVED")
        assert (made.state, made.promoted_by) == (models_pb.MODEL_STATE_SERVING, "policy")
        assert serving() == made.name == "full@2"
        blind = training.trained("full", **asked, description="IMPROVED, few unseen")
        assert (blind.verdict, blind.state) == (
            models_pb.MODEL_VERDICT_IMPROVED,
            models_pb.MODEL_STATE_CANDIDATE,
        )
        assert list(blind.cautions) == [models_pb.MODEL_CAUTION_FEW_UNSEEN]
        assert "not promoted by itself (FEW_UNSEEN)" in blind.advice[-1]
        assert serving() == "full@2"
        operation = training.start("full", **asked, seed=1, description="IMPROVED hold")
        until(lambda: training.metadata(operation).step, "step")
        rollback = models_pb.RollbackModelRequest(collection="full")
        training.models.RollbackModel(rollback, timeout=CALL_S)
        (job,) = (tmp_path / "training").glob("full-*")
        (job / "go").touch()
        made = training.made(operation)
        assert made.state == models_pb.MODEL_STATE_CANDIDATE
        assert "compared with full@2, and the fused order serves now" in made.advice[-1]
        unless_changed = models_pb.PromoteModelRequest(name=made.name, if_unchanged=True)
        refusal = refused(training.models.PromoteModel, unless_changed)
        assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION
        assert "compared with full@2, and the fused order serves now" in refusal.message
        assert serving() == ""
