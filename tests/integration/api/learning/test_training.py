"""Trainings over the API: a real server and registry, jobs in processes of their own that only pretend."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.integration.api.helpers.corpus import SCHEMA_MESSAGE
from tests.integration.api.helpers.mining import Mining, failure_of, judged
from tests.integration.api.helpers.pretended import DOCUMENTS, JUDGED, ROWS, jobs, pretend
from tests.integration.api.helpers.served import CALL_S, failure, refused, served, tiny_settings
from tests.integration.api.helpers.training import Training, examples_file, until

from quarry.v1 import collection_service_pb2, feedback_service_pb2
from quarry.v1 import mining_service_pb2 as mining_pb
from quarry.v1 import model_service_pb2 as models_pb
from quarry.v1 import training_service_pb2 as pb
from quarry.v1.feedback_service_pb2_grpc import FeedbackServiceStub


@pytest.fixture(autouse=True)
def pretending(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)


@pytest.fixture(scope="module")
def training(
    tmp_path_factory: pytest.TempPathFactory, encoder_folder: Path, cross_encoder_folder: Path
) -> Iterator[Training]:
    """A server whose base re-ranker is tiny, with a collection ``full``."""
    models = {
        "encoder": str(encoder_folder), "base_reranker": str(cross_encoder_folder), "device": "cpu",
    }  # fmt: skip
    with served(tiny_settings(tmp_path_factory.mktemp("training"), encoder_folder, models=models)) as api:
        api.create("full", schema=SCHEMA_MESSAGE)
        api.upsert("full", DOCUMENTS)
        yield Training(api)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return examples_file(tmp_path_factory.mktemp("examples") / "x", ROWS)


@pytest.fixture
def examples(training: Training, data: bytes) -> str:
    return training.upload(data)


def test_a_training_becomes_a_version_with_its_lineage(
    training: Training, examples: str, cross_encoder_folder: Path
) -> None:
    made = training.trained("full", examples=examples, seed=3, max_tokens=32, description="IMPROVED try")
    assert made.name.startswith("full@")
    assert made.kind == models_pb.MODEL_KIND_RERANKER
    assert made.state == models_pb.MODEL_STATE_CANDIDATE
    assert made.verdict == models_pb.MODEL_VERDICT_IMPROVED
    assert list(made.advice) == ["an advice"]
    assert made.metrics[0].measure == "nDCG@10"
    assert (made.blend.rerank, made.blend.fused) == (0.5, 0.5)
    lineage = made.lineage
    assert (lineage.base, lineage.examples, lineage.seed) == (str(cross_encoder_folder), examples, 3)
    assert (lineage.max_tokens, lineage.steps, lineage.train_seconds) == (32, 10, 1.5)
    assert made.description == "IMPROVED try"
    assert training.names("full")[0] == made.name
    got = training.models.GetModel(models_pb.GetModelRequest(name=made.name), timeout=CALL_S).model
    assert got == made
    found = training.api.search("full", "bara", rerank={"model": made.name}, require_complete=True)
    assert found.hits


def test_metadata_say_stage_step_loss_and_the_time_left(training: Training, examples: str) -> None:
    operation = training.start("full", examples=examples, description="stop here")

    def evaluating() -> pb.TrainingMetadata | None:
        found = training.metadata(operation)
        return found if found.stage == "evaluating" else None

    found = until(evaluating, "progress")
    assert (found.collection, found.progress, found.step, found.steps) == ("full", 0.6, 2, 10)
    assert (found.loss, found.learning_rate, found.development_ndcg) == (0.5, 1e-4, 0.25)
    assert (found.eta.seconds, found.eta.nanos) == (2, 500_000_000)
    training.cancel(operation)
    assert failure_of(training.wait(operation)).code is grpc.StatusCode.CANCELLED
    made = training.trained("full", examples=examples, description="stop here")
    assert made.lineage.data_hash == "begun 2"


def test_a_killed_job_is_a_typed_error_and_the_same_request_goes_on(
    training: Training, examples: str
) -> None:
    before = training.names("full")
    operation = training.start("full", examples=examples, seed=5, description="stop")
    (job,) = until(jobs, "job")
    until(lambda: training.metadata(operation).step, "step")
    job.send_signal(signal.SIGKILL)
    ended = failure_of(training.wait(operation))
    assert (ended.code, ended.reason) == (grpc.StatusCode.UNAVAILABLE, "JOB_KILLED")
    assert training.names("full") == before
    assert training.trained("full", examples=examples, seed=6).lineage.data_hash == "begun 1"
    made = training.trained("full", examples=examples, seed=5, description="another description")
    assert made.lineage.data_hash == "begun 2"
    assert training.trained("full", examples=examples, seed=5).lineage.data_hash == "begun 1"


def test_bad_data_is_a_verdict_and_registers_nothing(training: Training, examples: str) -> None:
    before = training.names("full")
    made = training.trained("full", examples=examples, description="bad")
    assert made.name == ""
    assert made.verdict == models_pb.MODEL_VERDICT_BAD_DATA
    assert made.advice
    assert made.collection == "full"
    assert made.lineage.examples == examples
    assert training.names("full") == before


def test_a_full_disk_is_a_typed_error(training: Training, examples: str) -> None:
    ended = training.failed("full", examples=examples, description="full")
    assert (ended.code, ended.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "DISK_FULL")


def test_a_repeated_request_id_returns_the_first_operation(training: Training, examples: str) -> None:
    first = training.start("full", examples=examples, request_id="same")
    assert training.start("full", examples=examples, request_id="same").name == first.name
    other = pb.TrainRerankerRequest(collection="full", examples=examples, seed=1, request_id="same")
    assert refused(training.stub.TrainReranker, other).field == "request_id"
    name = training.made(first).name
    assert training.made(training.start("full", examples=examples, request_id="same")).name == name


def test_a_mining_set_is_trained_on_by_name_and_only_by_its_own_collection(training: Training) -> None:
    mined = Mining(training.api).mined("full", queries=JUDGED, preset="random")
    made = training.trained("full", mining_set=mined.name)
    assert made.lineage.examples == mined.name
    training.api.create("other", schema=SCHEMA_MESSAGE)
    wrong = pb.TrainRerankerRequest(collection="other", mining_set=mined.name)
    assert refused(training.stub.TrainReranker, wrong).field == "mining_set"


def test_an_encoder_is_trained_from_the_collections_own(
    training: Training, examples: str, encoder_folder: Path
) -> None:
    request = pb.TrainEncoderRequest(collection="full", examples=examples, judgments=JUDGED)
    made = training.made(training.stub.TrainEncoder(request, timeout=CALL_S))
    assert made.kind == models_pb.MODEL_KIND_ENCODER
    assert made.lineage.base == made.lineage.compared_with == str(encoder_folder)
    evaluation = pb.EvaluateRerankerRequest(model=made.name, judgments=JUDGED)
    assert refused(training.stub.EvaluateReranker, evaluation).code is grpc.StatusCode.INVALID_ARGUMENT


def test_a_student_learns_from_a_teacher(
    training: Training, examples: str, cross_encoder_folder: Path, encoder_folder: Path
) -> None:
    request = pb.DistillRerankerRequest(collection="full", examples=examples, judgments=JUDGED)
    nobody = refused(training.stub.DistillReranker, request)
    assert nobody.code is grpc.StatusCode.FAILED_PRECONDITION
    assert "name a teacher" in nobody.message
    request.teacher = str(encoder_folder)
    assert refused(training.stub.DistillReranker, request).field == "teacher"
    request.teacher, request.layers = str(cross_encoder_folder), 3
    assert refused(training.stub.DistillReranker, request).field == "layers"
    request.layers = 1
    made = training.made(training.stub.DistillReranker(request, timeout=CALL_S))
    assert (made.lineage.loss, made.lineage.base) == ("margin-mse", str(cross_encoder_folder))


def test_an_evaluation_compares_a_version_with_what_it_is_asked_to(training: Training, examples: str) -> None:
    first, second = (training.trained("full", examples=examples, seed=seed).name for seed in (21, 22))
    for compare_with in ("", second):
        request = pb.EvaluateRerankerRequest(model=first, judgments=JUDGED, compare_with=compare_with)
        operation = training.wait(training.stub.EvaluateReranker(request, timeout=CALL_S))
        found = pb.Evaluation()
        assert operation.response.Unpack(found), operation
        assert (found.model, found.compared_with) == (first, compare_with)
        assert found.verdict == models_pb.MODEL_VERDICT_REGRESSED
        assert found.metrics


BAD: list[tuple[dict[str, Any], str]] = [
    ({"examples": ""}, "examples"),
    ({"mining_set": "", "examples": None}, "examples"),
    ({"joint_layers": 1}, "joint_layers"),  # the base is a plain cross-encoder
    ({"loss": 99}, "loss"),
    ({"steps": -1}, "steps"),
    ({"steps": 1_000_001}, "steps"),
    ({"max_tokens": 15}, "max_tokens"),
    ({"max_tokens": 65}, "max_tokens"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"learning_rate": 0.2}, "learning_rate"),
    ({"learning_rate": -0.1}, "learning_rate"),
    ({"learning_rate": float("nan")}, "learning_rate"),
    ({"judgments": judged({"q": ("", {"a": 1})})}, "judgments[0].text"),
    ({"description": "x" * 1_025}, "description"),
    ({"request_id": "é"}, "request_id"),
    ({"document_pretraining": pb.DocumentPretraining()}, "document_pretraining.collections"),
    (
        {"document_pretraining": pb.DocumentPretraining(collections=["full", "full"])},
        "document_pretraining.collections[1]",
    ),
    (
        {"document_pretraining": pb.DocumentPretraining(collections=["full"], max_queries=-1)},
        "document_pretraining.max_queries",
    ),
    (
        {"document_pretraining": pb.DocumentPretraining(collections=["full"], max_queries=2_000_000)},
        "document_pretraining.max_queries",
    ),
]


@pytest.mark.parametrize(("wrong", "field"), BAD)
def test_a_wrong_field_is_named_before_anything_is_begun(
    training: Training, examples: str, wrong: dict[str, Any], field: str
) -> None:
    settings: dict[str, Any] = ({} if "document_pretraining" in wrong else {"examples": examples}) | wrong
    request = pb.TrainRerankerRequest(collection="full", **settings)
    ended = refused(training.stub.TrainReranker, request)
    assert (ended.code, ended.field) == (grpc.StatusCode.INVALID_ARGUMENT, field)


def test_nothing_but_the_source_being_unset_is_told(training: Training) -> None:
    for call, request in [
        (training.stub.TrainReranker, pb.TrainRerankerRequest(collection="full")),
        (training.stub.TrainEncoder, pb.TrainEncoderRequest(collection="full")),
    ]:
        assert refused(call, request).field == "examples"


def test_what_is_named_and_not_there_is_not_found(training: Training, examples: str) -> None:
    train, evaluate = training.stub.TrainReranker, training.stub.EvaluateReranker
    calls: list[tuple[Any, Any]] = [
        (train, pb.TrainRerankerRequest(collection="no", examples=examples)),
        (train, pb.TrainRerankerRequest(collection="full", examples="0" * 32)),
        (train, pb.TrainRerankerRequest(collection="full", mining_set="no")),
        (train, pb.TrainRerankerRequest(collection="full", examples=examples, base="full@999")),
        (
            train,
            pb.TrainRerankerRequest(
                collection="full", document_pretraining=pb.DocumentPretraining(collections=["no"])
            ),
        ),
        (evaluate, pb.EvaluateRerankerRequest(model="full@999")),
        (evaluate, pb.EvaluateRerankerRequest(model="no@1")),
    ]
    for call, request in calls:
        assert refused(call, request).code is grpc.StatusCode.NOT_FOUND, request
    wrong = pb.EvaluateRerankerRequest(model="just a name")
    assert refused(evaluate, wrong).field == "model"


@pytest.mark.parametrize("base", ["/no/such/folder/here", "\0", "~", "x" * 5_000])
def test_a_base_that_cannot_be_had_is_a_typed_error(training: Training, examples: str, base: str) -> None:
    request = pb.TrainRerankerRequest(collection="full", examples=examples, base=base)
    ended = refused(training.stub.TrainReranker, request)
    assert (ended.code, ended.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_NOT_ALLOWED")


def test_without_encoder_and_base_there_is_nothing_to_start_from(
    tmp_path: Path, encoder_folder: Path, data: bytes
) -> None:
    with served(tiny_settings(tmp_path, encoder_folder)) as api:
        training = Training(api)
        api.create("lexical", encoder="none")
        api.create("dense")
        examples = training.upload(data)
        for call, kind in [
            (training.stub.TrainReranker, pb.TrainRerankerRequest),
            (training.stub.TrainEncoder, pb.TrainEncoderRequest),
        ]:
            ended = refused(call, kind(collection="lexical", examples=examples))
            assert ended.code is grpc.StatusCode.FAILED_PRECONDITION
            assert "name a base" in ended.message
        made = training.trained("dense", examples=examples, description="bad", joint_layers=2)
        assert made.lineage.base == str(encoder_folder)
        request = pb.TrainRerankerRequest(collection="dense", examples=examples, joint_layers=3)
        assert refused(training.stub.TrainReranker, request).field == "joint_layers"


@pytest.mark.parametrize("content", [b"", b"not Parquet at all", b"PAR1PAR1"])
def test_an_upload_that_is_no_file_of_examples_is_refused(training: Training, content: bytes) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        training.upload(content)
    told = failure(raised.value)
    assert (told.code, told.field) == (grpc.StatusCode.INVALID_ARGUMENT, "parquet")


def test_the_same_bytes_have_one_name(training: Training, data: bytes) -> None:
    requests = [pb.UploadExamplesRequest(parquet=data)]
    answer = training.stub.UploadExamples(iter(requests), timeout=CALL_S)
    assert (answer.rows, answer.bytes) == (len(ROWS), len(data))
    assert answer.examples == training.upload(data, piece=77)


def test_without_the_trainer_the_answer_says_what_to_install(
    training: Training, examples: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quarry.training.jobs.NEEDED", ("no_such_module",))
    request = pb.TrainRerankerRequest(collection="full", examples=examples)
    ended = refused(training.stub.TrainReranker, request)
    assert ended.code is grpc.StatusCode.FAILED_PRECONDITION
    assert "pip install quarry-search[trainer]" in ended.message


def test_trainings_wait_for_one_another(training: Training, examples: str) -> None:
    first, second = (
        training.start("full", examples=examples, seed=seed, description="stop") for seed in (31, 32)
    )
    until(lambda: training.metadata(first).step, "step")
    assert len(jobs()) == 1
    assert training.metadata(second).stage in ("", "waiting")
    training.cancel(first)
    until(lambda: training.metadata(second).step, "step")
    training.cancel(second)
    for operation in (first, second):
        assert failure_of(training.wait(operation)).code is grpc.StatusCode.CANCELLED
    until(lambda: not jobs(), "end")


def test_a_deleted_collection_ends_its_training_and_nothing_is_left(
    training: Training, examples: str
) -> None:
    training.api.create("brief", schema=SCHEMA_MESSAGE)
    operation = training.start("brief", examples=examples, description="stop")
    until(lambda: training.metadata(operation).step, "step")
    request = collection_service_pb2.DeleteCollectionRequest(name="brief")
    training.api.collections.DeleteCollection(request, timeout=CALL_S)
    assert failure_of(training.wait(operation)).code is grpc.StatusCode.CANCELLED
    training.api.create("brief", schema=SCHEMA_MESSAGE)
    assert training.trained("brief", examples=examples).lineage.data_hash == "begun 1"


def test_purged_feedback_ends_the_training_on_what_was_mined_from_it(training: Training) -> None:
    api = training.api
    api.create("clicked", schema=SCHEMA_MESSAGE)
    api.upsert("clicked", DOCUMENTS)
    feedback = FeedbackServiceStub(api.channel)
    for visit in range(4):
        found = api.search("clicked", "bara", context={"user_id": f"u{visit}", "simulated": True})
        click = feedback_service_pb2.Event(
            event_id=f"e{visit}",
            type=feedback_service_pb2.EVENT_TYPE_CLICK,
            attribution_token=found.attribution_token,
            document_id=found.hits[0].document.id,
        )
        request = feedback_service_pb2.RecordEventsRequest(collection="clicked", events=[click])
        feedback.RecordEvents(request, timeout=CALL_S)
    positives = mining_pb.FeedbackPositives(floor=0.0)
    mined = Mining(api).mined("clicked", feedback=positives, preset="random")
    operation = training.start("clicked", mining_set=mined.name, description="stop")
    until(lambda: training.metadata(operation).step, "step")
    purge = feedback_service_pb2.PurgeFeedbackRequest(collection="clicked", end_time={"seconds": 2**32})
    training.wait(feedback.PurgeFeedback(purge, timeout=CALL_S))
    assert failure_of(training.wait(operation)).code is grpc.StatusCode.CANCELLED
