"""TrainingService: a job is begun once, says how far it is, and answers with what came of it."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from tests.integration.api.helpers.served import CALL_S, refused
from tests.integration.api.helpers.training import Training
from tests.unit.server.services.conftest import JUDGED

from quarry.v1 import mining_service_pb2 as mining_pb
from quarry.v1 import model_service_pb2 as models_pb
from quarry.v1 import training_service_pb2 as pb


def test_a_repeated_request_finds_its_operation_and_another_one_is_refused(
    training: Training, faq: str, examples: str
) -> None:
    first = training.start(faq, examples=examples, request_id="one")
    assert training.start(faq, examples=examples, request_id="one").name == first.name
    other = pb.TrainRerankerRequest(collection=faq, examples=examples, seed=1, request_id="one")
    found = refused(training.stub.TrainReranker, other)
    assert (found.code, found.field) == (grpc.StatusCode.INVALID_ARGUMENT, "request_id")
    training.made(first)
    assert training.start(faq, examples=examples, request_id="one").name == first.name
    assert len(training.names(faq)) == 1


def test_a_repeated_request_is_not_checked_again(
    training: Training, faq: str, examples: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it names may be gone, and the trainer with it."""
    done = training.start(faq, examples=examples, request_id="one")
    training.made(done)
    monkeypatch.setattr("quarry.training.jobs.NEEDED", ("no_such_module",))
    assert training.start(faq, examples=examples, request_id="one").name == done.name
    new = pb.TrainRerankerRequest(collection=faq, examples=examples, request_id="two")
    assert refused(training.stub.TrainReranker, new).code is grpc.StatusCode.FAILED_PRECONDITION


def test_requests_with_one_id_at_the_same_time_begin_one_job(
    training: Training, faq: str, examples: str
) -> None:
    def start(_number: int) -> str:
        return training.start(faq, examples=examples, request_id="one").name

    with ThreadPoolExecutor(8) as threads:
        (name,) = set(threads.map(start, range(8)))
    training.made(training.start(faq, examples=examples, request_id="one"))
    assert name.startswith("operations/train-reranker")
    assert len(training.names(faq)) == 1


def test_metadata_say_how_far_a_training_is(training: Training, faq: str, examples: str) -> None:
    started = training.start(faq, examples=examples)
    first = training.metadata(started)
    assert (first.collection, first.HasField("start_time")) == (faq, True)
    training.made(started)
    last = training.metadata(started)
    assert (last.stage, last.progress, last.step, last.steps) == ("done", 1.0, 2, 10)
    assert (last.loss, last.learning_rate, last.development_ndcg) == (0.5, 1e-4, 0.25)
    assert last.start_time == first.start_time
    assert not last.HasField("eta"), "nothing is left to wait for"


def test_what_is_uploaded_is_counted_and_what_is_no_file_of_examples_is_refused(training: Training) -> None:
    def upload(pieces: list[bytes], timeout: float) -> Any:
        requests = [pb.UploadExamplesRequest(parquet=piece) for piece in pieces]
        return training.stub.UploadExamples(iter(requests), timeout=timeout)

    for pieces in ([b"no parquet"], [b""], []):
        found = refused(upload, pieces)
        assert (found.code, found.field) == (grpc.StatusCode.INVALID_ARGUMENT, "parquet")


def test_a_training_of_bad_data_registers_nothing_and_says_so(
    training: Training, faq: str, examples: str
) -> None:
    found = training.trained(faq, examples=examples, description="bad")
    assert (found.name, found.verdict) == ("", models_pb.MODEL_VERDICT_BAD_DATA)
    assert training.names(faq) == []
    assert training.failed(faq, examples=examples, description="full").code is (
        grpc.StatusCode.RESOURCE_EXHAUSTED
    )


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"loss": 99}, "loss"),
        ({"loss": pb.TRAINING_LOSS_MARGIN_MSE}, "loss"),
        ({"form": 99}, "form"),
        ({"steps": -1}, "steps"),
        ({"max_tokens": 15}, "max_tokens"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"description": "x" * 10_000}, "description"),
        ({"examples": ""}, "examples"),
        ({"document_pretraining": {}}, "document_pretraining.collections"),
        ({"document_pretraining": {"collections": ["a", "a"]}}, "document_pretraining.collections[0]"),
    ],
)
def test_a_wrong_training_is_named(
    training: Training, faq: str, examples: str, changes: Any, field: str
) -> None:
    values = (
        {"collection": faq} | ({} if "document_pretraining" in changes else {"examples": examples}) | changes
    )
    found = refused(training.stub.TrainReranker, pb.TrainRerankerRequest(**values))
    if changes == {"document_pretraining": {"collections": ["a", "a"]}}:
        assert found.code in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT)
        return
    assert (found.code, found.field) == (grpc.StatusCode.INVALID_ARGUMENT, field)


def test_a_version_is_compared_with_what_serves_or_with_another(
    training: Training, faq: str, examples: str
) -> None:
    made = training.trained(faq, examples=examples)
    request = pb.EvaluateRerankerRequest(model=made.name, judgments=JUDGED)
    done = training.wait(training.stub.EvaluateReranker(request, timeout=CALL_S))
    found = pb.Evaluation()
    assert done.response.Unpack(found)
    assert (found.model, found.compared_with) == (made.name, "")
    assert found.verdict == models_pb.MODEL_VERDICT_REGRESSED
    assert [(one.measure, one.value) for one in found.metrics] == [("nDCG@10", 0.1)]
    for changes, field in (({"model": "no version"}, "model"), ({"compare_with": made.name}, "compare_with")):
        wrong = pb.EvaluateRerankerRequest(**{"model": made.name, "judgments": JUDGED, **changes})
        assert refused(training.stub.EvaluateReranker, wrong).field == field


def test_a_turn_of_the_loop_leaves_a_report(training: Training, faq: str) -> None:
    request = pb.RunLoopRequest(collection=faq, min_new_choices=1, force=True)
    done = training.wait(training.stub.RunLoop(request, timeout=CALL_S))
    made, metadata = pb.LoopReport(), pb.RunLoopMetadata()
    assert done.response.Unpack(made), done
    assert done.metadata.Unpack(metadata)
    assert (metadata.collection, metadata.stage, metadata.progress) == (faq, "done", 1.0)
    assert (made.collection, made.outcome, made.new_choices) == (faq, pb.LOOP_OUTCOME_PROMOTED, 1_234)
    assert (made.mining_set, made.mining_verdict) == ("faq-set", mining_pb.MINING_VERDICT_GOOD)
    assert [(one.query, one.times_asked) for one in made.changes] == [("lost password", 7)]
    get_report = pb.GetLoopReportRequest(name=made.name)
    assert training.stub.GetLoopReport(get_report, timeout=CALL_S).report == made
    listed = pb.ListLoopReportsRequest(collection=faq)
    assert [one.name for one in training.stub.ListLoopReports(listed, timeout=CALL_S).reports] == [made.name]
    for changes, field in (({"min_new_choices": 0}, "min_new_choices"), ({"max_tokens": 3}, "max_tokens")):
        wrong = pb.RunLoopRequest(collection=faq, **changes)
        assert refused(training.stub.RunLoop, wrong).field == field
