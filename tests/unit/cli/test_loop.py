"""`quarry loop` against a service that answers from memory."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import empty_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from typer.testing import CliRunner, Result

from quarry.v1 import (
    collection_service_pb2,
    collection_service_pb2_grpc,
    training_service_pb2_grpc,
)
from quarry.v1 import mining_service_pb2 as mining_pb
from quarry.v1 import model_service_pb2 as models_pb
from quarry.v1 import training_service_pb2 as pb
from quarry_cli.commands import loop as loop_command
from quarry_cli.main import app


def report(**changes: Any) -> pb.LoopReport:
    moved = [
        pb.RankChange(document_id="d1", title="One", rank_before=0, rank_after=1),
        pb.RankChange(document_id="d2", title="Two", rank_before=1, rank_after=2),
    ]
    values: dict[str, Any] = {
        "name": "faq-1",
        "collection": "faq",
        "outcome": pb.LOOP_OUTCOME_IMPROVED_NOT_PROMOTED,
        "new_choices": 250,
        "min_new_choices": 200,
        "mining_set": "faq-set",
        "mining_verdict": mining_pb.MINING_VERDICT_GOOD,
        "model": "faq@2",
        "model_verdict": models_pb.MODEL_VERDICT_IMPROVED,
        "metrics": [
            models_pb.ModelMetric(
                measure="nDCG@10",
                slice="all",
                subject=subject,
                value=value,
                lower=value,
                upper=value,
                queries=9,
            )
            for subject, value in (("candidate", 0.625), ("serving", 0.5), ("difference", 0.125))
        ],
        "changes": [pb.QueryChange(query="lost [red]password", times_asked=7, documents=moved)],
        "queries_compared": 20,
        "advice": ["`quarry model promote faq@2` makes it serve"],
        "simulated": True,
    }
    return pb.LoopReport(**values | changes)


FEW = report(
    name="", outcome=pb.LOOP_OUTCOME_NOT_ENOUGH_FEEDBACK, model="", mining_set="", metrics=[], changes=[],
    queries_compared=0, new_choices=3, advice=["3 choices are new, under 200"], simulated=False,
)  # fmt: skip


class FakeLoop(
    collection_service_pb2_grpc.CollectionServiceServicer,
    training_service_pb2_grpc.TrainingServiceServicer,
    operations_pb2_grpc.OperationsServicer,
):
    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.reports: list[pb.LoopReport] = []
        self.error: status_pb2.Status | None = None
        self.endless = self.cancelled = False
        self.waiting = threading.Event()

    def GetCollection(self, request: Any, context: grpc.ServicerContext) -> Any:
        if request.name != "faq":
            context.abort(grpc.StatusCode.NOT_FOUND, "no collection is called so")
        return collection_service_pb2.GetCollectionResponse()

    def RunLoop(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append(request)
        return operations_pb2.Operation(name="operations/run-loop-1")

    def WaitOperation(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.waiting.set()
        operation = operations_pb2.Operation(name=request.name, done=not self.endless)
        operation.metadata.Pack(pb.RunLoopMetadata(stage="training: training", progress=0.5))
        if self.endless:
            return operation
        if self.error:
            operation.error.CopyFrom(self.error)
        else:
            operation.response.Pack(self.reports.pop(0))
        return operation

    def CancelOperation(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.cancelled = True
        return empty_pb2.Empty()

    def GetLoopReport(self, request: Any, context: grpc.ServicerContext) -> Any:
        html = f"<html>{request.name}</html>" if request.include_html else ""
        return pb.GetLoopReportResponse(report=report(), html=html)


@pytest.fixture
def fake() -> Iterator[tuple[FakeLoop, str]]:
    service = FakeLoop()
    server = grpc.server(ThreadPoolExecutor(4))
    collection_service_pb2_grpc.add_CollectionServiceServicer_to_server(service, server)
    training_service_pb2_grpc.add_TrainingServiceServicer_to_server(service, server)
    operations_pb2_grpc.add_OperationsServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield service, f"127.0.0.1:{port}"
    server.stop(None)


def call(address: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["loop", "faq", *arguments, "--server", address])


def failing() -> status_pb2.Status:
    status = status_pb2.Status(code=code_pb2.UNAVAILABLE, message="the job's process ended with SIGKILL")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="JOB_KILLED", domain="quarry"))
    return status


def test_one_turn_tells_the_outcome_the_figures_and_what_to_type(fake: tuple[FakeLoop, str]) -> None:
    service, address = fake
    service.reports = [report()]
    ended = call(address, "--once")
    assert ended.exit_code == 0, ended.output
    for told in (
        "IMPROVED_NOT_PROMOTED  faq@2",
        "faq@2 is better than the order without a re-ranker, and waits to be promoted.",
        "quarry model promote faq@2",
        "+0.125",
        "lost [red]password",
    ):
        assert told in ended.output
    assert "1 of the 20 queries" in ended.stderr and "made by a program" in ended.stderr
    assert service.requests == [pb.RunLoopRequest(collection="faq")]


def test_every_option_reaches_the_server(fake: tuple[FakeLoop, str], tmp_path: Path) -> None:
    service, address = fake
    service.reports = [report()]
    (tmp_path / "queries.jsonl").write_text('{"_id": "1", "text": "one"}\n')
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n1\ta\t1\n")
    page = tmp_path / "report.html"
    options = [
        "--once",
        "--force",
        "--min-new-choices",
        "5",
        "--steps",
        "7",
        "--max-tokens",
        "64",
        "--seed",
        "3",
    ]
    options += ["--queries", str(tmp_path / "queries.jsonl"), "--qrels", str(tmp_path / "qrels.tsv")]
    assert call(address, *options, "--report", str(page)).exit_code == 0
    (request,) = service.requests
    assert (request.force, request.min_new_choices, request.steps) == (True, 5, 7)
    assert (request.max_tokens, request.seed, request.judgments[0].text) == (64, 3, "one")
    assert page.read_text() == "<html>faq-1</html>"


def test_json_is_one_object_with_numbers(fake: tuple[FakeLoop, str]) -> None:
    service, address = fake
    service.reports = [report()]
    found = json.loads(call(address, "--once", "--json").stdout)
    assert (found["outcome"], found["model"], found["model_verdict"]) == (
        "IMPROVED_NOT_PROMOTED", "faq@2", "IMPROVED",
    )  # fmt: skip
    assert (found["mining_verdict"], found["new_choices"], found["simulated"]) == ("GOOD", 250, True)
    assert found["metrics"][2]["value"] == 0.125
    first = found["changes"][0]
    assert (first["times_asked"], first["documents"][0]["rank_before"]) == (7, 0)


def test_too_little_feedback_is_no_failure_and_writes_no_page(
    fake: tuple[FakeLoop, str], tmp_path: Path
) -> None:
    service, address = fake
    service.reports = [FEW]
    page = tmp_path / "report.html"
    ended = call(address, "--once", "--report", str(page))
    assert ended.exit_code == 0
    assert "NOT_ENOUGH_FEEDBACK" in ended.stdout and "3 choices are new" in ended.stdout
    assert not page.exists()


def test_a_turn_that_fails_ends_with_status_1(fake: tuple[FakeLoop, str]) -> None:
    service, address = fake
    service.error = failing()
    ended = call(address, "--once")
    assert ended.exit_code == 1
    assert "SIGKILL" in ended.stderr


def test_it_goes_on_until_it_is_interrupted_whatever_fails(
    fake: tuple[FakeLoop, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, address = fake
    service.reports = [FEW, report()]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        service.error = failing() if len(slept) == 1 else None
        if len(slept) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop_command.time, "sleep", sleep)
    ended = call(address, "--every", "2", "--force")
    assert ended.exit_code == 130
    assert slept == [120.0] * 3
    assert [request.force for request in service.requests] == [True, False, False]
    assert "SIGKILL" in ended.stderr and "faq@2" in ended.stdout


def test_a_collection_that_is_not_there_ends_it_at_once(fake: tuple[FakeLoop, str]) -> None:
    ended = CliRunner().invoke(app, ["loop", "gone", "--server", fake[1]])
    assert ended.exit_code == 1
    assert not fake[0].requests


def test_ctrl_c_cancels_the_turn(fake: tuple[FakeLoop, str]) -> None:
    service, address = fake
    service.endless = True

    def interrupt() -> None:
        service.waiting.wait(20)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    assert call(address, "--once").exit_code == 130
    assert service.cancelled


def test_a_page_that_cannot_be_written_is_refused_before_the_turn(
    fake: tuple[FakeLoop, str], tmp_path: Path
) -> None:
    assert call(fake[1], "--once", "--report", str(tmp_path / "no" / "r.html")).exit_code == 1
    assert not fake[0].requests
