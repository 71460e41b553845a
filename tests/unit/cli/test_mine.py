"""`quarry mine` and `quarry feedback evaluate` against a service that answers from memory."""

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
from google.protobuf import any_pb2, empty_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from typer.testing import CliRunner, Result

from quarry.v1 import mining_service_pb2 as pb
from quarry.v1 import mining_service_pb2_grpc
from quarry_cli.main import app

REPORT: dict[str, Any] = {
    "verdict": "GOOD", "advice": [], "name": "set-1", "preset": "quarry", "pairs": 2, "coverage": 1.0,
    "rows": 4, "false_negatives": {"share": 0.1, "lower": 0.05, "upper": 0.2, "source": "audit"},
    "rungs": {"hard": 4}, "near_positive": {"share": 0.0}, "reuse": {"queries": 2, "reused": 1},
    "calibration": {"chosen": {"share": 0.9}},
    "members": [{"name": "dense", "negatives": 4, "lost_share": 1.0, "pairs_changed_share": 1.0}],
    "histograms": {name: {"edges": [0, 1, 2], "counts": [1, 3]} for name in ("s_qd_minus_s_qp", "s_pd")},
    "hardest": [{"query": "q\x1b[31m", "positive_id": "p", "positive": "yes", "negative_id": "n",
                 "negative": "no"}],
    "suspicious": [{"query": "s", "positive_id": "p", "positive": "yes", "negative_id": "n", "negative": "no",
                    "advice": "read it"}],
    "simulated": True, "warnings": ["how many negatives are false is not known"],
    "positives": {"unknown_documents": 1, "unknown_examples": ["gone"]}, "notes": ["a note"],
}  # fmt: skip


class FakeMining(
    mining_service_pb2_grpc.MiningServiceServicer,
    operations_pb2_grpc.OperationsServicer,
):
    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.cancelled = False
        self.error: status_pb2.Status | None = None
        self.report = dict(REPORT)
        self.waits = 0
        self.endless = False
        self.waiting = threading.Event()

    def MineHardNegatives(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append(request)
        return operations_pb2.Operation(name="operations/mine-1")

    def WaitOperation(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.waits += 1
        self.waiting.set()
        done = self.waits > 1 and not self.endless
        operation = operations_pb2.Operation(name=request.name, done=done)
        operation.metadata.Pack(pb.MineHardNegativesMetadata(stage="mining", progress=0.5))
        if done and self.error:
            operation.error.CopyFrom(self.error)
        elif done:
            verdict = pb.MiningVerdict.Value(f"MINING_VERDICT_{self.report['verdict']}")
            made = pb.MiningSet(name="set-1", verdict=verdict, report_json=json.dumps(self.report))
            operation.response.Pack(made)
        return operation

    def CancelOperation(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.cancelled = True
        return empty_pb2.Empty()

    def ReadExamples(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        yield pb.ReadExamplesResponse(parquet=b"PAR")
        yield pb.ReadExamplesResponse(parquet=b"QUET")

    def GetMiningSet(self, request: Any, context: grpc.ServicerContext) -> Any:
        return pb.GetMiningSetResponse(html="<p>page</p>" if request.include_html else "")

    def EstimateRelevance(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append(request)
        return pb.EstimateRelevanceResponse(
            impressions=10, clicks=3, log_likelihood=-0.5, agreement=0.75, agreement_pairs=4,
            perplexity=[pb.RankPerplexity(rank=1, perplexity=1.5)], notes=["rough"],
        )  # fmt: skip


@pytest.fixture
def fake() -> Iterator[tuple[FakeMining, str]]:
    service = FakeMining()
    server = grpc.server(ThreadPoolExecutor(4))
    mining_service_pb2_grpc.add_MiningServiceServicer_to_server(service, server)
    operations_pb2_grpc.add_OperationsServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield service, f"127.0.0.1:{port}"
    server.stop(None)


def call(address: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--server", address])


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    (tmp_path / "queries.jsonl").write_text('{"_id": "1", "text": "one"}\n{"_id": "2", "text": "two"}\n')
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n1\ta\t1\n1\tb\t0\n2\tc\t2\n")
    return ["--queries", str(tmp_path / "queries.jsonl"), "--qrels", str(tmp_path / "qrels.tsv")]


def test_judgments_and_options_reach_the_server_and_the_files_come_back(
    fake: tuple[FakeMining, str], files: list[str], tmp_path: Path
) -> None:
    service, address = fake
    out, page = tmp_path / "set.parquet", tmp_path / "report.html"
    options = ["--preset", "perc-pos", "--set", "share=0.9", "--members", "bm25, dense", "--depth", "20"]
    options += ["--negatives", "3", "--seed", "5", "--report", str(page), "--calibrate", "--target", "0.2"]
    ended = call(address, "mine", "faq", *files, "--out", str(out), *options)
    assert ended.exit_code == 0, ended.output
    assert out.read_bytes() == b"PARQUET"
    assert page.read_text() == "<p>page</p>"
    (request,) = service.requests
    assert (request.preset, request.parameters["share"], list(request.members)) == (
        "perc-pos",
        0.9,
        ["bm25", "dense"],
    )
    assert (request.negatives, request.seed, request.depth) == (3, 5, 20)
    assert {q.query_id: {j.document_id: j.grade for j in q.judgments} for q in request.queries} == {
        "1": {"a": 1, "b": 0},
        "2": {"c": 2},
    }
    assert request.calibration.target_false_negatives == 0.2
    assert list(request.calibration.judgments) == list(request.queries)
    assert not request.HasField("feedback")
    lines = [line.strip() for line in ended.stdout.splitlines()]
    assert lines[:3] == [
        "GOOD",
        "Nothing that was measured speaks against training on it.",
        "warning: how many negatives are false is not known",
    ]
    assert "read it" in lines, "a suspicious row says what to do with it"
    assert "\x1b[31m" not in ended.output


def test_json_is_the_report(fake: tuple[FakeMining, str], files: list[str], tmp_path: Path) -> None:
    ended = call(fake[1], "mine", "faq", *files, "--out", str(tmp_path / "x"), "--json")
    found = json.loads(ended.stdout)
    assert found["out"] == str(tmp_path / "x")
    assert {"verdict", "coverage", "rows", "false_negatives", "rungs", "members"} <= found.keys()


def test_a_bad_verdict_still_ends_well(
    fake: tuple[FakeMining, str], files: list[str], tmp_path: Path
) -> None:
    fake[0].report |= {
        "verdict": "TOO_EASY",
        "advice": ["do this"],
        "false_negatives": None,
        "calibration": None,
    }
    ended = call(fake[1], "mine", "faq", *files, "--out", str(tmp_path / "x"))
    assert ended.exit_code == 0
    assert "TOO_EASY" in ended.output
    assert "do this" in ended.output


def test_nothing_to_train_on_is_a_failure_to_a_script(
    fake: tuple[FakeMining, str], files: list[str], tmp_path: Path
) -> None:
    fake[0].report |= {"verdict": "NO_DATA", "advice": ["give judgments"], "rows": 0}
    for options in ([], ["--json"]):
        fake[0].waits = 0
        ended = call(fake[1], "mine", "faq", *files, "--out", str(tmp_path / "x"), *options)
        assert ended.exit_code == 1
        assert "NO_DATA" in ended.stdout
    assert (tmp_path / "x").exists()


def test_feedback_alone_and_beside_judgments(
    fake: tuple[FakeMining, str], files: list[str], tmp_path: Path
) -> None:
    out = ["--out", str(tmp_path / "x"), "--from-feedback", "--floor", "0.3", "--model", "ubm"]
    assert call(fake[1], "mine", "faq", *out).exit_code == 0
    fake[0].waits = 0
    assert call(fake[1], "mine", "faq", *out, *files).exit_code == 0
    alone, both = fake[0].requests
    assert (alone.feedback.floor, alone.feedback.model) == (0.3, pb.CLICK_MODEL_UBM)
    assert not alone.queries
    assert both.HasField("feedback")
    assert len(both.queries) == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "nothing to mine for"),
        (["--from-feedback", "--set", "share"], "NAME=NUMBER"),
        (["--from-feedback", "--set", "share=x"], "NAME=NUMBER"),
    ],
)
def test_what_makes_no_sense_is_refused_before_the_server_is_asked(
    fake: tuple[FakeMining, str], tmp_path: Path, options: list[str], told: str
) -> None:
    ended = call(fake[1], "mine", "faq", "--out", str(tmp_path / "x"), *options)
    assert ended.exit_code == 1
    assert told in ended.output
    assert not fake[0].requests


def test_queries_without_judgments_are_refused(
    fake: tuple[FakeMining, str], files: list[str], tmp_path: Path
) -> None:
    ended = call(fake[1], "mine", "faq", *files[:2], "--out", str(tmp_path / "x"))
    assert ended.exit_code == 1
    assert "go together" in ended.output


def test_a_failed_job_ends_with_its_message_and_writes_nothing(
    fake: tuple[FakeMining, str], files: list[str], tmp_path: Path
) -> None:
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason="MODEL_UNUSABLE", domain="quarry"))
    fake[0].error = status_pb2.Status(code=code_pb2.FAILED_PRECONDITION, message="no model", details=[detail])
    ended = call(fake[1], "mine", "faq", *files, "--out", str(tmp_path / "x"))
    assert ended.exit_code == 1
    assert "no model" in ended.output
    assert "quarry doctor" in ended.output
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("option", ["--out", "--report"])
def test_a_folder_that_is_not_there_is_told_before_anything_is_mined(
    fake: tuple[FakeMining, str], files: list[str], tmp_path: Path, option: str
) -> None:
    service, address = fake
    paths = {"--out": tmp_path / "x", "--report": tmp_path / "y"} | {option: tmp_path / "no" / "x"}
    options = [word for name, path in paths.items() for word in (name, str(path))]
    ended = call(address, "mine", "faq", *files, *options)
    assert ended.exit_code == 1
    assert "there is no folder" in ended.output
    assert not service.requests


def test_ctrl_c_cancels_the_operation(fake: tuple[FakeMining, str], files: list[str], tmp_path: Path) -> None:
    service, address = fake
    service.endless = True

    def interrupt() -> None:
        service.waiting.wait(30)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    ended = call(address, "mine", "faq", *files, "--out", str(tmp_path / "x"))
    thread.join()
    assert ended.exit_code == 130
    assert service.cancelled


def test_presets_are_listed_with_a_line_each() -> None:
    ended = CliRunner().invoke(app, ["mine", "--list-presets"])
    assert ended.exit_code == 0
    assert "enterprise-2025, ensemble-2024" in ended.output
    assert "perc-pos" in ended.output


def test_click_models_are_measured_one_by_one(fake: tuple[FakeMining, str], files: list[str]) -> None:
    ended = call(fake[1], "feedback", "evaluate", "faq", *files, "--json")
    assert ended.exit_code == 0, ended.output
    found = json.loads(ended.stdout)
    assert list(found) == ["ctr", "coec", "sdbn", "pbm", "ubm", "affine"]
    assert found["pbm"]["log_likelihood"] == -0.5
    assert found["pbm"]["perplexity"] == {"1": 1.5}
    assert (found["pbm"]["agreement"], found["pbm"]["agreement_pairs"]) == (0.75, 4)
    assert len(fake[0].requests[0].judgments) == 2
    ended = call(fake[1], "feedback", "evaluate", "faq", "--model", "ubm")
    assert "75.0%" in ended.output
    assert fake[0].requests[-1].model == pb.CLICK_MODEL_UBM
