"""`quarry train` against a service that answers from memory."""

import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import any_pb2, duration_pb2, empty_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from typer.main import get_command
from typer.testing import CliRunner, Result

from quarry.v1 import model_service_pb2 as models_pb
from quarry.v1 import model_service_pb2_grpc, training_service_pb2_grpc
from quarry.v1 import training_service_pb2 as pb
from quarry_cli.calls.training import describe_progress, format_duration
from quarry_cli.main import app
from quarry_trainer.evaluation import training_gate


def metric(subject: str, value: float, slice: str = "all", width: float = 0.02) -> models_pb.ModelMetric:
    return models_pb.ModelMetric(
        measure="nDCG@10", slice=slice, subject=subject, value=value, lower=value - width,
        upper=value + width, queries=1_200,
    )  # fmt: skip


def model(**changes: Any) -> models_pb.Model:
    values: dict[str, Any] = {
        "name": "faq@3",
        "collection": "faq",
        "kind": models_pb.MODEL_KIND_RERANKER,
        "state": models_pb.MODEL_STATE_CANDIDATE,
        "verdict": models_pb.MODEL_VERDICT_IMPROVED,
        "metrics": [
            metric("candidate", 0.5, "unseen"), metric("fused", 0.45, "unseen"),
            metric("candidate", 0.625), metric("serving", 0.5), metric("difference", 0.125),
            metric("fused", 0.375), metric("candidate", 0.75, "query: 1 to 3 words"),
        ],
        "blend": models_pb.Blend(rerank=0.75, fused=0.25),
        "lineage": models_pb.Lineage(base="base", steps=400, seed=2**40, simulated=True),
    }  # fmt: skip
    return models_pb.Model(**values | changes)


class FakeTraining(
    training_service_pb2_grpc.TrainingServiceServicer,
    model_service_pb2_grpc.ModelServiceServicer,
    operations_pb2_grpc.OperationsServicer,
):
    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.uploaded = b""
        self.promoted: list[Any] = []
        self.refusal = ""
        self.cancelled = self.endless = False
        self.error: status_pb2.Status | None = None
        self.model = model()
        self.waits = 0
        self.waiting = threading.Event()

    def UploadExamples(self, request_iterator: Any, context: grpc.ServicerContext) -> Any:
        self.uploaded = b"".join(request.parquet for request in request_iterator)
        return pb.UploadExamplesResponse(examples="hash", rows=1, bytes=len(self.uploaded))

    def TrainReranker(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append(request)
        return operations_pb2.Operation(name="operations/train-1")

    def TrainEncoder(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append(request)
        return operations_pb2.Operation(name="operations/train-2")

    def WaitOperation(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.waits += 1
        self.waiting.set()
        done = self.waits > 1 and not self.endless
        operation = operations_pb2.Operation(name=request.name, done=done)
        operation.metadata.Pack(pb.TrainingMetadata(stage="training", progress=0.5, step=1, steps=2))
        if done and self.error:
            operation.error.CopyFrom(self.error)
        elif done:
            operation.response.Pack(self.model)
        return operation

    def CancelOperation(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.cancelled = True
        return empty_pb2.Empty()

    def PromoteModel(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.promoted.append(request)
        if self.refusal:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, self.refusal)
        self.model.state = models_pb.MODEL_STATE_SERVING
        return models_pb.PromoteModelResponse(model=self.model)


@pytest.fixture
def fake() -> Iterator[tuple[FakeTraining, str]]:
    service = FakeTraining()
    server = grpc.server(ThreadPoolExecutor(4))
    training_service_pb2_grpc.add_TrainingServiceServicer_to_server(service, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(service, server)
    operations_pb2_grpc.add_OperationsServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield service, f"127.0.0.1:{port}"
    server.stop(None)


@pytest.fixture
def examples(tmp_path: Path) -> list[str]:
    path = tmp_path / "faq.parquet"
    path.write_bytes(b"PAR1" * 2**19)
    return ["--examples", str(path)]


@pytest.fixture
def judged(tmp_path: Path) -> list[str]:
    (tmp_path / "queries.jsonl").write_text('{"_id": "1", "text": "one"}\n')
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n1\ta\t1\n1\tb\t0\n")
    return ["--queries", str(tmp_path / "queries.jsonl"), "--qrels", str(tmp_path / "qrels.tsv")]


def call(address: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["train", "faq", *arguments, "--server", address])


def test_the_file_and_every_option_reach_the_server(
    fake: tuple[FakeTraining, str], examples: list[str], judged: list[str]
) -> None:
    service, address = fake
    options = ["--base", "some/model", "--joint-layers", "3", "--loss", "margin-triplet", "--steps", "40"]
    options += ["--max-tokens", "64", "--seed", "7", "--learning-rate", "0.001", "--description", "try"]
    ended = call(address, *examples, *judged, *options)
    assert ended.exit_code == 0, ended.output
    assert service.uploaded == Path(examples[1]).read_bytes()
    (request,) = service.requests
    assert request.examples == "hash"
    assert (request.collection, request.base, request.joint_layers) == ("faq", "some/model", 3)
    assert (request.loss, request.steps, request.max_tokens) == (pb.TRAINING_LOSS_MARGIN_TRIPLET, 40, 64)
    assert (request.seed, request.learning_rate, request.description) == (7, 0.001, "try")
    (query,) = request.judgments
    assert {j.document_id: j.grade for j in query.judgments} == {"a": 1, "b": 0}


def test_defaults_are_left_to_the_server(fake: tuple[FakeTraining, str], examples: list[str]) -> None:
    call(fake[1], *examples)
    assert fake[0].requests == [
        pb.TrainRerankerRequest(collection="faq", examples="hash", loss=pb.TRAINING_LOSS_LCE)
    ]


def test_a_mining_set_or_documents_alone_are_named_instead_of_a_file(fake: tuple[FakeTraining, str]) -> None:
    service, address = fake
    assert call(address, "--mining-set", "faq-1").exit_code == 0
    service.waits = 0
    documents = ["--pretrain-on", "faq", "--pretrain-on", "web", "--max-queries", "50"]
    assert call(address, *documents).exit_code == 0
    by_set, by_documents = service.requests
    assert by_set.mining_set == "faq-1"
    assert list(by_documents.document_pretraining.collections) == ["faq", "web"]
    assert by_documents.document_pretraining.max_queries == 50
    assert not service.uploaded


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "what to train on"),
        (["--mining-set", "a", "--pretrain-on", "b"], "what to train on"),
        (["--kind", "encoder", "--pretrain-on", "b"], "are for re-rankers"),
        (["--kind", "encoder", "--mining-set", "a", "--promote"], "are for re-rankers"),
        (["--mining-set", "a", "--max-queries", "5"], "--max-queries is for --pretrain-on"),
    ],
)
def test_what_makes_no_sense_is_refused_before_the_server_is_asked(
    fake: tuple[FakeTraining, str], options: list[str], told: str
) -> None:
    ended = call(fake[1], *options)
    assert ended.exit_code == 1
    assert told in ended.output
    assert not fake[0].requests


def test_json_holds_version_verdict_and_metrics_as_numbers(
    fake: tuple[FakeTraining, str], examples: list[str]
) -> None:
    found = json.loads(call(fake[1], *examples, "--json").stdout)
    assert (found["model_version"], found["verdict"], found["promoted"]) == ("faq@3", "IMPROVED", False)
    assert found["blend"] == {"rerank": 0.75, "fused": 0.25}
    assert (found["lineage"]["steps"], found["lineage"]["seed"]) == (400, 2**40)
    assert found["metrics"][4] == {
        "measure": "nDCG@10", "slice": "all", "subject": "difference", "value": 0.125,
        "lower": 0.105, "upper": 0.145, "queries": 1_200,
    }  # fmt: skip


def test_the_table_shows_candidate_fused_order_and_difference_all_queries_first(
    fake: tuple[FakeTraining, str], examples: list[str]
) -> None:
    ended = call(fake[1], *examples)
    lines = [line.split() for line in ended.stdout.splitlines()]
    assert lines[0] == ["IMPROVED", "faq@3"]
    rows = [line for line in lines if "nDCG@10" in line]
    assert rows == [
        ["all", "nDCG@10", "0.625", "0.500", "0.375", "+0.125", "+0.105", "to", "+0.145", "1,200"],
        ["unseen", "nDCG@10", "0.500", "0.450", "1,200"],
    ]
    assert max(map(len, ended.stdout.splitlines())) <= 80
    assert "`quarry model promote faq@3`" in ended.output
    assert "made by a program" in ended.output


def test_an_encoder_is_made_to_serve_by_a_reindex(
    fake: tuple[FakeTraining, str], examples: list[str]
) -> None:
    fake[0].model = model(name="faq@4", kind=models_pb.MODEL_KIND_ENCODER)
    ended = call(fake[1], *examples, "--kind", "encoder", "--steps", "3")
    assert fake[0].requests == [pb.TrainEncoderRequest(collection="faq", examples="hash", steps=3)]
    assert "`quarry collection reindex faq --encoder faq@4`" in ended.output


def test_bad_data_ends_with_status_1_and_its_advice(
    fake: tuple[FakeTraining, str], examples: list[str]
) -> None:
    fake[0].model = models_pb.Model(
        collection="faq", verdict=models_pb.MODEL_VERDICT_BAD_DATA, advice=["the loss is not finite \x1b[31m"]
    )
    ended = call(fake[1], *examples)
    assert ended.exit_code == 1
    assert ended.stdout.splitlines()[0] == "BAD_DATA"
    assert "the loss is not finite" in ended.output
    assert "\x1b[31m" not in ended.output
    assert "promote" not in ended.output
    fake[0].waits = 0
    ended = call(fake[1], *examples, "--json")
    assert ended.exit_code == 1
    assert json.loads(ended.stdout)["model_version"] == ""


@pytest.mark.parametrize(
    ("verdict", "promoted"), [("IMPROVED", True), ("NO_IMPROVEMENT", False), ("INSUFFICIENT_DATA", False)]
)
def test_only_what_is_improved_is_promoted_at_once(
    fake: tuple[FakeTraining, str], examples: list[str], verdict: str, promoted: bool
) -> None:
    fake[0].model = model(verdict=models_pb.ModelVerdict.Value(f"MODEL_VERDICT_{verdict}"))
    ended = call(fake[1], *examples, "--promote")
    assert ended.exit_code == 0
    assert [r.name for r in fake[0].promoted if r.if_unchanged] == (["faq@3"] if promoted else [])
    assert ("faq@3 serves" in ended.output) is promoted
    assert ("not proven to be better" in ended.output) is not promoted
    assert "model promote" not in ended.output, "nobody is told to promote what is not proven"


def test_what_has_cautions_is_left_to_a_person(fake: tuple[FakeTraining, str], examples: list[str]) -> None:
    fake[0].model = model(cautions=[models_pb.MODEL_CAUTION_FEW_UNSEEN])
    ended = call(fake[1], *examples, "--promote")
    assert ended.exit_code == 0
    assert "cautions: FEW_UNSEEN" in ended.stdout
    assert "for a person to say; `quarry model promote faq@3`" in " ".join(ended.output.split())
    fake[0].waits = 0
    found = json.loads(call(fake[1], *examples, "--promote", "--json").stdout)
    assert (found["verdict"], found["cautions"], found["promoted"]) == ("IMPROVED", ["FEW_UNSEEN"], False)
    assert not fake[0].promoted


def test_what_the_server_refuses_to_promote_waits_and_says_why(
    fake: tuple[FakeTraining, str], examples: list[str]
) -> None:
    fake[0].refusal = "it was compared with the fused order, and faq@2 serves now"
    found = json.loads(call(fake[1], *examples, "--promote", "--json").stdout)
    assert (found["verdict"], found["promoted"]) == ("IMPROVED", False)
    assert found["advice"][-1] == f"it is not promoted: {fake[0].refusal}"


def test_what_the_servers_policy_has_promoted_is_not_promoted_again(
    fake: tuple[FakeTraining, str], examples: list[str]
) -> None:
    fake[0].model = model(state=models_pb.MODEL_STATE_SERVING)
    found = json.loads(call(fake[1], *examples, "--promote", "--json").stdout)
    assert found["promoted"]
    assert not fake[0].promoted


def test_a_failed_training_ends_with_its_message(fake: tuple[FakeTraining, str], examples: list[str]) -> None:
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason="JOB_KILLED", domain="quarry"))
    message = "the job's process ended with SIGKILL: make the same request again to go on"
    fake[0].error = status_pb2.Status(code=code_pb2.UNAVAILABLE, message=message, details=[detail])
    ended = call(fake[1], *examples)
    assert ended.exit_code == 1
    assert "training failed: UNAVAILABLE (JOB_KILLED): the job's process ended with SIGKILL" in ended.output


def test_ctrl_c_cancels_and_says_that_the_command_goes_on(
    fake: tuple[FakeTraining, str], examples: list[str]
) -> None:
    service, address = fake
    service.endless = True

    def interrupt() -> None:
        service.waiting.wait(30)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    ended = call(address, *examples)
    thread.join()
    assert ended.exit_code == 130
    assert service.cancelled
    assert "the same command goes on where it was" in ended.output


def test_the_bar_says_step_loss_and_time_left() -> None:
    operation = operations_pb2.Operation()
    metadata = pb.TrainingMetadata(
        stage="training", progress=0.25, step=1_000, steps=4_000, loss=0.12345, development_ndcg=0.5,
        eta=duration_pb2.Duration(seconds=75),
    )  # fmt: skip
    operation.metadata.Pack(metadata)
    assert describe_progress(operation) == (
        0.25,
        "training  step 1,000/4,000  loss 0.1235  nDCG@10 0.500  1:15 left",
    )
    operation.metadata.Pack(pb.TrainingMetadata(stage="waiting"))
    assert describe_progress(operation) == (0.0, "waiting")
    assert [format_duration(seconds) for seconds in (-1, 5, 3_725)] == ["0:00", "0:05", "1:02:05"]


def test_advice_names_options_that_there_are() -> None:
    advice = [value for value in vars(training_gate).values() if isinstance(value, str)]
    named = {option for text in advice for option in re.findall(r"--[a-z-]+", text)}
    command = get_command(app).get_command(None, "train")  # type: ignore[attr-defined]
    assert named
    assert named <= {option for parameter in command.params for option in parameter.opts}
