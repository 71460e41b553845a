"""ModelService: versions as trainings and tunings make them, and what becomes of them."""

import io
import tarfile
from pathlib import Path
from typing import Any

import grpc
from tests.integration.api.helpers.served import CALL_S, refused
from tests.integration.api.helpers.training import Training
from tests.unit.server.services.conftest import JUDGED

from quarry.v1 import model_service_pb2 as models_pb
from quarry.v1 import training_service_pb2 as pb


def get(training: Training, name: str) -> models_pb.Model:
    return training.models.GetModel(models_pb.GetModelRequest(name=name), timeout=CALL_S).model


def test_a_training_becomes_a_version_that_is_listed_exported_and_retired(
    training: Training, faq: str, examples: str
) -> None:
    started = training.start(faq, examples=examples, seed=3, description="IMPROVED", request_id="r")
    assert training.start(faq, examples=examples, seed=3, description="IMPROVED", request_id="r").name == (
        started.name
    )
    made = training.made(started)
    metadata = training.metadata(started)
    assert (metadata.collection, metadata.stage, metadata.progress) == (faq, "done", 1.0)
    assert (metadata.step, metadata.development_ndcg) == (2, 0.25)
    assert not metadata.HasField("eta")
    assert (made.name, made.collection, made.state) == (f"{faq}@1", faq, models_pb.MODEL_STATE_CANDIDATE)
    assert (made.verdict, list(made.advice)) == (models_pb.MODEL_VERDICT_IMPROVED, ["an advice"])
    assert (made.lineage.examples, made.lineage.seed, made.lineage.steps) == (examples, 3, 10)
    assert (made.blend.rerank, made.blend.fused) == (0.5, 0.5)
    assert get(training, made.name).artefact_hash == made.artefact_hash
    (listed,) = training.models.ListModels(models_pb.ListModelsRequest(collection=faq), timeout=CALL_S).models
    assert (listed.name, listed.report_json, bool(made.report_json)) == (made.name, "", True)
    export = models_pb.ExportModelRequest(name=made.name)
    archive = b"".join(piece.archive for piece in training.models.ExportModel(export, timeout=CALL_S))
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert "config.json" in {Path(name).name for name in tar.getnames()}
    retired = training.models.RetireModel(models_pb.RetireModelRequest(name=made.name), timeout=CALL_S).model
    assert retired.state == models_pb.MODEL_STATE_RETIRED


def test_an_archive_of_a_version_becomes_another_version(training: Training, faq: str, examples: str) -> None:
    made = training.trained(faq, examples=examples)
    export = models_pb.ExportModelRequest(name=made.name)
    pieces = [piece.archive for piece in training.models.ExportModel(export, timeout=CALL_S)]
    options = models_pb.ImportModelRequest(options={"collection": faq, "description": "again"})
    requests = [options, *(models_pb.ImportModelRequest(archive=piece) for piece in pieces)]
    imported = training.models.ImportModel(iter(requests), timeout=CALL_S).model
    assert (imported.name, imported.description) == (f"{faq}@2", "again")
    assert imported.artefact_hash == made.artefact_hash

    def send(messages: Any, timeout: float) -> Any:
        return training.models.ImportModel(iter(messages), timeout=timeout)

    kind = models_pb.ImportModelRequest(options={"collection": faq, "kind": 9})  # type: ignore[arg-type]
    for messages, field in (
        ([], "part"),
        (requests[1:], "part"),
        ([options, options], "part"),
        ([options, models_pb.ImportModelRequest()], "part"),
        ([options], "options.source"),
        ([kind], "options.kind"),
    ):
        assert refused(send, messages).field == field


def test_a_ranking_is_tuned_registered_promoted_and_taken_back(training: Training, faq: str) -> None:
    request = pb.TuneRankingRequest(collection=faq, judgments=JUDGED)
    done = training.wait(training.stub.TuneRanking(request, timeout=CALL_S))
    made = models_pb.Ranking()
    assert done.response.Unpack(made), done
    assert (made.name, made.verdict) == (f"{faq}/ranking@1", models_pb.MODEL_VERDICT_NO_IMPROVEMENT)
    assert [(arm.name, arm.weight) for arm in made.arms] == [("bm25", 0.5), ("dense", 0.5)]
    found = training.models.GetRanking(models_pb.GetRankingRequest(name=made.name), timeout=CALL_S).ranking
    assert (found.name, found.state) == (made.name, models_pb.MODEL_STATE_CANDIDATE)
    listed = models_pb.ListRankingsRequest(collection=faq)
    assert [one.name for one in training.models.ListRankings(listed, timeout=CALL_S).rankings] == [made.name]
    promote = models_pb.PromoteRankingRequest(name=made.name, promoted_by="me", reason="a try")
    promoted = training.models.PromoteRanking(promote, timeout=CALL_S)
    assert (promoted.ranking.state, promoted.ranking.promoted_by, promoted.previous) == (
        models_pb.MODEL_STATE_SERVING, "me", "",
    )  # fmt: skip
    rollback = models_pb.RollbackRankingRequest(collection=faq, promoted_by="me")
    taken_back = training.models.RollbackRanking(rollback, timeout=CALL_S)
    assert (taken_back.serving, taken_back.previous) == ("", made.name)
    wrong = models_pb.PromoteRankingRequest(name=made.name, reason="x" * 2_000)
    assert refused(training.models.PromoteRanking, wrong).field == "reason"
    few = pb.TuneRankingRequest(collection=faq, judgments=JUDGED[:1])
    assert refused(training.stub.TuneRanking, few).field == "judgments"


def test_what_is_not_there_is_named(training: Training, faq: str) -> None:
    models, stub = training.models, training.stub
    for call, request in (
        (models.GetModel, models_pb.GetModelRequest(name=f"{faq}@9")),
        (models.RetireModel, models_pb.RetireModelRequest(name=f"{faq}@9")),
        (models.PromoteModel, models_pb.PromoteModelRequest(name=f"{faq}@9")),
        (models.ListModels, models_pb.ListModelsRequest(collection="none")),
        (models.GetRanking, models_pb.GetRankingRequest(name=f"{faq}/ranking@9")),
        (models.RollbackModel, models_pb.RollbackModelRequest(collection="none")),
        (stub.GetLoopReport, pb.GetLoopReportRequest(name="none")),
        (stub.TrainReranker, pb.TrainRerankerRequest(collection="none", examples="x")),
        (stub.RunLoop, pb.RunLoopRequest(collection="none")),
    ):
        assert refused(call, request).code is grpc.StatusCode.NOT_FOUND
    nothing_before = models_pb.RollbackModelRequest(collection=faq)
    assert refused(models.RollbackModel, nothing_before).code is grpc.StatusCode.FAILED_PRECONDITION
