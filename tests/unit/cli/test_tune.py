"""`quarry tune` against a service that answers from memory."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from typer.testing import CliRunner, Result

from quarry.v1 import collection_service_pb2 as collections_pb
from quarry.v1 import (
    collection_service_pb2_grpc,
    model_service_pb2_grpc,
    search_service_pb2,
    training_service_pb2_grpc,
)
from quarry.v1 import model_service_pb2 as models_pb
from quarry.v1 import training_service_pb2 as pb
from quarry_cli.main import app

NAME = "faq/ranking@2"
ARMS = [
    search_service_pb2.Arm(name="bm25", weight=0.4, depth=100, boost_scale=2),
    search_service_pb2.Arm(name="dense", weight=0.6, depth=100),
]
BY_QUERY = search_service_pb2.Fusion(
    weighted_sum=search_service_pb2.WeightedSum(
        by_query=[search_service_pb2.QueryTrait(name="words", slope=0.5, mean=2, deviation=1)]
    )
)


def metric(subject: str, value: float) -> models_pb.ModelMetric:
    return models_pb.ModelMetric(
        measure="nDCG@10", slice="all", subject=subject, value=value, lower=value - 0.25, upper=value + 0.25,
        queries=50,
    )  # fmt: skip


def ranking(**changes: Any) -> models_pb.Ranking:
    values: dict[str, Any] = {
        "name": NAME, "collection": "faq", "state": models_pb.MODEL_STATE_CANDIDATE, "queries": 50,
        "verdict": models_pb.MODEL_VERDICT_IMPROVED, "source": "judgments", "arms": ARMS, "fusion": BY_QUERY,
        "metrics": [metric("candidate", 0.75), metric("serving", 0.5), metric("difference", 0.25)],
        "folds": [models_pb.RankingFold(queries=50, before=0.5, after=0.75, arms=ARMS, fusion=BY_QUERY)],
    }  # fmt: skip
    return models_pb.Ranking(**values | changes)


class FakeTuning(
    training_service_pb2_grpc.TrainingServiceServicer,
    model_service_pb2_grpc.ModelServiceServicer,
    collection_service_pb2_grpc.CollectionServiceServicer,
    operations_pb2_grpc.OperationsServicer,
):
    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.ranking = ranking()
        self.refusal = ""

    def TuneRanking(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append(request)
        operation = operations_pb2.Operation(name="operations/tune-1", done=True)
        operation.metadata.Pack(pb.TrainingMetadata(stage="lists", progress=0.5))
        operation.response.Pack(self.ranking)
        return operation

    def GetRanking(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append(request)
        return models_pb.GetRankingResponse(ranking=self.ranking)

    def PromoteRanking(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append(request)
        if self.refusal:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, self.refusal)
        self.ranking.state = models_pb.MODEL_STATE_SERVING
        return models_pb.PromoteRankingResponse(ranking=self.ranking)

    def RollbackRanking(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append(request)
        return models_pb.RollbackRankingResponse(serving="faq/ranking@1", previous=NAME)

    def GetCollection(self, request: Any, context: grpc.ServicerContext) -> Any:
        title = collections_pb.SchemaField(
            name="headline",
            type=collections_pb.SCHEMA_FIELD_TYPE_TEXT,
            boost=0.3,
            searchable=True,
            is_title=True,
        )
        schema = collections_pb.Schema(fields=[title])
        collection = collections_pb.Collection(name="faq", schema=schema)
        return collections_pb.GetCollectionResponse(collection=collection)


@pytest.fixture
def fake() -> Iterator[tuple[FakeTuning, str]]:
    service = FakeTuning()
    server = grpc.server(ThreadPoolExecutor(4))
    training_service_pb2_grpc.add_TrainingServiceServicer_to_server(service, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(service, server)
    collection_service_pb2_grpc.add_CollectionServiceServicer_to_server(service, server)
    operations_pb2_grpc.add_OperationsServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield service, f"127.0.0.1:{port}"
    server.stop(None)


@pytest.fixture
def judged(tmp_path: Path) -> list[str]:
    (tmp_path / "queries.jsonl").write_text('{"_id": "1", "text": "one"}\n')
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n1\ta\t1\n1\tb\t0\n")
    return ["--queries", str(tmp_path / "queries.jsonl"), "--qrels", str(tmp_path / "qrels.tsv")]


def call(address: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["tune", "faq", *arguments, "--server", address])


def test_what_is_improved_serves_and_the_json_says_what_it_is(
    fake: tuple[FakeTuning, str], judged: list[str]
) -> None:
    service, address = fake
    ended = call(address, *judged, "--seed", "7", "--json")
    assert ended.exit_code == 0, ended.output
    asked, promoted = service.requests
    assert (asked.collection, asked.seed) == ("faq", 7)
    assert {j.document_id: j.grade for j in asked.judgments[0].judgments} == {"a": 1, "b": 0}
    assert (promoted.name, promoted.if_unchanged) == (NAME, True)
    said = json.loads(ended.stdout)
    assert (said["configuration"], said["verdict"], said["promoted"]) == (NAME, "IMPROVED", True)
    assert said["weights"] == {"bm25": 0.4, "dense": 0.6}
    assert (said["title_weight"], said["depth"], said["per_query"]) == (0.6, 100, True)
    assert said["nDCG@10"]["before"] == {"value": 0.5, "lower": 0.25, "upper": 0.75}
    assert said["nDCG@10"]["after"]["value"] == 0.75
    assert said["nDCG@10"]["difference"]["value"] == 0.25
    (fold,) = said["folds"]
    assert (fold["before"], fold["after"], fold["title_weight"]) == (0.5, 0.75, 0.6)


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        (["--no-promote"], {}),
        ([], {"verdict": models_pb.MODEL_VERDICT_NO_IMPROVEMENT}),
        ([], {"cautions": [models_pb.MODEL_CAUTION_NO_RELEVANCE]}),
    ],
)
def test_what_is_not_proven_or_not_wanted_does_not_serve(
    fake: tuple[FakeTuning, str], judged: list[str], options: list[str], changes: dict[str, Any]
) -> None:
    service, address = fake
    service.ranking = ranking(**changes)
    ended = call(address, *judged, *options)
    assert ended.exit_code == 0, ended.output
    assert len(service.requests) == 1
    proven = "verdict" not in changes
    assert ("quarry model promote faq/ranking@2" in ended.output) is proven
    assert ("is not proven to be better" in ended.output) is not proven


@pytest.mark.parametrize("known", [[], ["it is not promoted: faq/ranking@1 serves now"]])
def test_what_the_server_refuses_to_promote_waits_and_says_why_once(
    fake: tuple[FakeTuning, str], judged: list[str], known: list[str]
) -> None:
    service, address = fake
    service.ranking, service.refusal = ranking(advice=known), "faq/ranking@1 serves now"
    ended = call(address, *judged, "--json")
    assert ended.exit_code == 0, ended.output
    said = json.loads(ended.stdout)
    assert (said["configuration"], said["promoted"]) == (NAME, False)
    assert said["advice"] == ["it is not promoted: faq/ranking@1 serves now"]


def test_cautions_are_told(fake: tuple[FakeTuning, str], judged: list[str]) -> None:
    service, address = fake
    service.ranking = ranking(cautions=[models_pb.MODEL_CAUTION_NO_RELEVANCE])
    assert json.loads(call(address, *judged, "--json").stdout)["cautions"] == ["NO_RELEVANCE"]
    assert "cautions: NO_RELEVANCE" in call(address, *judged).output


def test_nothing_to_fit_ends_with_status_1(fake: tuple[FakeTuning, str]) -> None:
    service, address = fake
    service.ranking = models_pb.Ranking(
        collection="faq", verdict=models_pb.MODEL_VERDICT_BAD_DATA, advice=["collect clicks"]
    )
    ended = call(address, "--from-feedback")
    assert ended.exit_code == 1
    assert "BAD_DATA" in ended.output
    assert "collect clicks" in ended.output
    assert not service.requests[0].judgments


def test_a_rollback_says_what_serves(fake: tuple[FakeTuning, str]) -> None:
    service, address = fake
    ended = call(address, "--rollback", "--json")
    assert json.loads(ended.stdout) == {"serving": "faq/ranking@1", "previous": NAME}
    assert service.requests[0].collection == "faq"


def test_a_version_is_promoted_by_its_name(fake: tuple[FakeTuning, str]) -> None:
    service, address = fake
    ended = CliRunner().invoke(app, ["model", "promote", NAME, "--server", address])
    assert ended.exit_code == 0, ended.output
    assert (service.requests[0].name, service.requests[0].if_unchanged) == (NAME, False)


def test_options_that_contradict_each_other_are_refused(
    fake: tuple[FakeTuning, str], judged: list[str]
) -> None:
    service, address = fake
    for options in ([], [*judged, "--from-feedback"], [*judged, "--rollback"], judged[:2]):
        ended = call(address, *options)
        assert ended.exit_code != 0, options
    assert not service.requests


def test_a_configuration_is_shown_like_any_version(fake: tuple[FakeTuning, str]) -> None:
    service, address = fake
    shown = ["model", "show", NAME, "--server", address]
    ended = CliRunner().invoke(app, shown)
    assert ended.exit_code == 0, ended.output
    for told in (NAME, "IMPROVED", "bm25 0.40", "title 0.60", f"quarry model promote {NAME}"):
        assert told in ended.output
    assert [request.name for request in service.requests] == [NAME]
    assert json.loads(CliRunner().invoke(app, [*shown, "--json"]).stdout)["name"] == NAME
