"""The real trainer over the API, on models of few weights: trained, registered, served, resumed."""

import io
import math
import signal
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import orjson
import psutil
import pyarrow.parquet as pq
import pytest
from tests.integration.api.helpers.corpus import SCHEMA_MESSAGE, WORDS, seeded_documents
from tests.integration.api.helpers.mining import Mining, failure_of, judged
from tests.integration.api.helpers.models import Models
from tests.integration.api.helpers.served import CALL_S, refused, served, tiny_settings
from tests.integration.api.helpers.training import Training, examples_file, until
from typer.testing import CliRunner

from quarry.training.provenance import TrainingProvenance, read_provenance
from quarry.v1 import model_service_pb2 as models_pb
from quarry.v1 import training_service_pb2 as pb
from quarry_cli.main import app
from quarry_trainer.trainings.reranker import LATE_STEPS

DOCUMENTS = seeded_documents()
IDS = sorted(DOCUMENTS)
QUERIES = {f"q{n}": str(DOCUMENTS[id]["text"])[:40] for n, id in enumerate(IDS[:40])}
JUDGED = judged({id: (text, {IDS[n]: 1}) for n, (id, text) in enumerate(QUERIES.items())})
FRESH = judged({f"f{n}": (str(DOCUMENTS[id]["text"])[:60], {id: 1}) for n, id in enumerate(IDS[60:110])})
"""Whose queries and documents are not among what is trained on."""
MODULE = "quarry_trainer.job"


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory, encoder_folder: Path) -> Iterator[Training]:
    with served(tiny_settings(tmp_path_factory.mktemp("real"), encoder_folder)) as api:
        api.create("full", schema=SCHEMA_MESSAGE)
        api.upsert("full", DOCUMENTS)
        yield Training(api)


@pytest.fixture(scope="module")
def mining_set(training: Training) -> str:
    return Mining(training.api).mined("full", queries=JUDGED, preset="random", negatives=4).name


def jobs() -> list[psutil.Process]:
    """Trainings that this process has started and that run."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if MODULE in child.cmdline():
                found.append(child)
        except psutil.Error:
            continue
    return found


def test_a_model_is_trained_registered_promoted_and_answers(training: Training, mining_set: str) -> None:
    made = training.trained("full", mining_set=mining_set, steps=6, joint_layers=1, max_tokens=32, seed=1)
    assert made.name == training.names("full")[0]
    assert made.verdict != models_pb.MODEL_VERDICT_BAD_DATA
    assert (made.lineage.joint_layers, made.lineage.max_tokens) == (1, 32)
    assert 0 < made.lineage.steps <= 6  # it may stop early
    assert {metric.subject for metric in made.metrics} >= {"candidate", "difference"}
    assert all(math.isfinite(metric.value) for metric in made.metrics)
    details = orjson.loads(made.report_json)["details"]
    assert "quantization" not in details
    assert details["negatives"]["usable"] == details["negatives"]["drawn"] > 0, (
        "nothing that was drawn is spared"
    )
    assert details["negatives"]["file"] >= details["negatives"]["drawn"] + details["negatives"]["held_out"]
    assert details["groups"]["drawn"] >= details["groups"]["usable"] > 0
    assert orjson.loads(made.report_json)["verdict"] in models_pb.ModelVerdict.Name(made.verdict)
    before = training.api.search(
        "full", WORDS[0], page_size=50, rerank={"disabled": True}, require_complete=True
    )
    promote = models_pb.PromoteModelRequest(name=made.name)
    training.models.PromoteModel(promote, timeout=CALL_S)
    after = training.api.search("full", WORDS[0], page_size=50, require_complete=True, explain=True)
    assert {hit.document.id for hit in after.hits} == {hit.document.id for hit in before.hits}
    again = training.trained("full", mining_set=mining_set, steps=2, max_tokens=32)
    assert again.lineage.base == again.lineage.compared_with == made.name
    training.models.RollbackModel(models_pb.RollbackModelRequest(collection="full"), timeout=CALL_S)


def test_a_late_one_is_trained_and_learns_on_from_what_serves(training: Training, mining_set: str) -> None:
    made = training.trained(
        "full", mining_set=mining_set, form=pb.RERANKER_FORM_LATE, steps=6, max_tokens=32, seed=1
    )
    assert made.verdict != models_pb.MODEL_VERDICT_BAD_DATA
    assert made.lineage.joint_layers == 0
    training.models.PromoteModel(models_pb.PromoteModelRequest(name=made.name), timeout=CALL_S)
    found = training.api.search("full", WORDS[0], page_size=50, require_complete=True, explain=True)
    assert found.reranker == made.name
    again = training.trained("full", mining_set=mining_set, steps=2, max_tokens=32)
    assert again.lineage.base == again.lineage.compared_with == made.name
    assert (
        refused(
            training.stub.DistillReranker, pb.DistillRerankerRequest(collection="full", mining_set=mining_set)
        ).field
        == "base"
    )
    training.models.RollbackModel(models_pb.RollbackModelRequest(collection="full"), timeout=CALL_S)


@pytest.mark.parametrize("form", [pb.RERANKER_FORM_SPLIT, pb.RERANKER_FORM_LATE])
def test_the_same_request_trains_the_same_weights(
    training: Training, mining_set: str, form: pb.RerankerForm.ValueType
) -> None:
    asked: dict[str, Any] = {"mining_set": mining_set, "steps": 3, "max_tokens": 32, "seed": 7, "form": form}
    first, second = (training.trained("full", **asked) for _ in range(2))
    assert first.name != second.name
    assert first.artefact_hash == second.artefact_hash


def test_a_killed_training_goes_on_from_its_checkpoint_to_the_same_end(
    training: Training, mining_set: str
) -> None:
    asked: dict[str, Any] = {"mining_set": mining_set, "steps": 600, "max_tokens": 32, "seed": 9}
    operation = training.start("full", **asked)
    until(lambda: training.metadata(operation).step >= 55 or training.wait(operation, 0).done, "step")
    (job,) = jobs()
    job.send_signal(signal.SIGKILL)
    ended = failure_of(training.wait(operation))
    assert (ended.code, ended.reason) == (grpc.StatusCode.UNAVAILABLE, "JOB_KILLED")
    operation = training.start("full", **asked)
    first = until(lambda: training.metadata(operation).step, "step")
    assert first > 50
    resumed = training.made(operation)
    whole = training.trained("full", **asked)
    assert resumed.artefact_hash == whole.artefact_hash


def test_a_cancelled_training_leaves_no_process_and_no_version(training: Training, mining_set: str) -> None:
    before = training.names("full")
    operation = training.start("full", mining_set=mining_set, steps=5_000, max_tokens=32)
    until(lambda: training.metadata(operation).step, "step")
    training.cancel(operation)
    assert failure_of(training.wait(operation)).code is grpc.StatusCode.CANCELLED
    until(lambda: not jobs(), "end")
    assert training.names("full") == before


BAD: dict[str, tuple[list[tuple[str, str, str, str]], float]] = {
    "empty": ([], 1.0),
    "unknown documents": ([(f"q{n}", f"word {n}", f"no{n}", f"none{n}") for n in range(30)], 1.0),
    "weights that are no numbers": ([(f"q{n}", "x", IDS[n], IDS[n + 40]) for n in range(30)], math.nan),
    "a positive that is its own negative": ([(f"q{n}", "x", IDS[n], IDS[n]) for n in range(30)], 1.0),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_examples_are_a_verdict_and_register_nothing(
    training: Training, tmp_path: Path, what: str
) -> None:
    before = training.names("full")
    rows, weight = BAD[what]
    examples = training.upload(examples_file(tmp_path / "x", rows, weight))
    made = training.trained("full", examples=examples, steps=2, max_tokens=32)
    assert (made.name, made.verdict) == ("", models_pb.MODEL_VERDICT_BAD_DATA)
    assert made.advice
    assert training.names("full") == before


def test_damaged_pages_of_a_sound_file_are_a_typed_error(training: Training, tmp_path: Path) -> None:
    rows = [(f"q{n}", f"word {n}" * 20, IDS[n], IDS[n + 40]) for n in range(40)]
    data = bytearray(examples_file(tmp_path / "x", rows))
    data[8:200] = bytes(192)
    examples = training.upload(bytes(data))
    ended = training.failed("full", examples=examples, steps=2)
    assert ended.code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.DATA_LOSS), ended


def test_a_version_is_evaluated_on_judgments(training: Training, mining_set: str) -> None:
    made = training.trained("full", mining_set=mining_set, steps=2, max_tokens=32, seed=30)
    request = pb.EvaluateRerankerRequest(model=made.name, judgments=JUDGED)
    operation = training.wait(training.stub.EvaluateReranker(request, timeout=CALL_S))
    found = pb.Evaluation()
    assert operation.response.Unpack(found), operation
    assert found.model == made.name
    assert {metric.subject for metric in found.metrics} >= {"candidate", "difference"}


def test_a_training_with_judged_queries_says_what_its_scores_mean(
    training: Training, mining_set: str
) -> None:
    made = training.trained("full", mining_set=mining_set, judgments=FRESH, steps=2, max_tokens=32, seed=31)
    told = orjson.loads(made.report_json)["details"]["calibration"]
    assert made.HasField("calibration"), told
    assert made.calibration.ece == told["ece"]
    # Some judged queries of the mining set are held out, too: they choose beside the fresh ones.
    assert made.calibration.queries == told["queries"] >= len(FRESH)
    answer = training.api.search("full", WORDS[0], rerank={"model": made.name}, require_complete=True)
    assert answer.hits and all(0 <= hit.relevance <= 1 for hit in answer.hits)
    assert [hit.relevance for hit in answer.hits] == sorted((h.relevance for h in answer.hits), reverse=True)
    request = pb.EvaluateRerankerRequest(model=made.name, judgments=FRESH)
    operation = training.wait(training.stub.EvaluateReranker(request, timeout=CALL_S))
    found = pb.Evaluation()
    assert operation.response.Unpack(found), operation
    assert (
        found.HasField("ece")
        and orjson.loads(found.report_json)["details"]["calibration"]["ece"] == found.ece
    )


def test_where_int8_serves_it_is_what_is_judged_and_held_to_float32(
    tmp_path: Path, encoder_folder: Path
) -> None:
    models = {"encoder": str(encoder_folder), "device": "cpu", "reranker_precision": "int8"}
    with served(tiny_settings(tmp_path, encoder_folder, models=models)) as api:
        api.create("full", schema=SCHEMA_MESSAGE)
        api.upsert("full", DOCUMENTS)
        training = Training(api)
        mined = Mining(api).mined("full", queries=JUDGED, preset="random", negatives=4).name
        split = pb.RERANKER_FORM_SPLIT  # late interaction has no graph of pairs to round
        made = training.trained("full", mining_set=mined, steps=2, max_tokens=32, form=split)
        rounded = orjson.loads(made.report_json)["details"]["quantization"]
        assert rounded["lower"] <= rounded["value"] <= rounded["upper"]
        assert list(tmp_path.rglob("*.int8.onnx"))
        request = pb.EvaluateRerankerRequest(model=made.name, judgments=JUDGED)
        operation = training.wait(training.stub.EvaluateReranker(request, timeout=CALL_S))
        found = pb.Evaluation()
        assert operation.response.Unpack(found), operation
        assert "quantization" in orjson.loads(found.report_json)["details"]


def decides(report_json: str) -> tuple[int, float]:
    """How often the evidence had decided, and the level that this gives."""
    found = orjson.loads(report_json)["details"]["decides"]
    return found["earlier_decisions"], found["level"]


def test_judgments_that_decide_again_count_for_less_after_a_restart_too(
    tmp_path: Path, encoder_folder: Path
) -> None:
    deciding, grown = FRESH[:48], FRESH[:49]
    own = tiny_settings(tmp_path, encoder_folder)
    asked: dict[str, Any] = {"steps": 1, "max_tokens": 32, "judgments": deciding}
    with served(own) as api:
        training = Training(api)
        api.create("full", schema=SCHEMA_MESSAGE)
        api.upsert("full", DOCUMENTS)
        asked["mining_set"] = Mining(api).mined("full", queries=JUDGED, preset="random", negatives=4).name
        few = training.trained("full", **asked | {"judgments": deciding[:39]})
        assert few.verdict == models_pb.MODEL_VERDICT_INSUFFICIENT_DATA
        first = training.start("full", **asked, request_id="once")
        made = training.made(first)
        assert decides(made.report_json) == (0, 0.95)  # too few decided nothing
        assert training.start("full", **asked, request_id="once").name == first.name
        waiting = [training.start("full", **asked | {"seed": seed, "judgments": grown}) for seed in (1, 2)]
        later = [training.made(operation) for operation in waiting]
        assert [decides(one.report_json)[0] for one in later] == [1, 2]
        assert any("has decided 1 time before" in one for one in later[0].advice)
    with served(own) as api:
        training = Training(api)
        assert decides(training.trained("full", **asked, seed=3).report_json) == (3, 1 - 0.05 / 16)
        for _ in range(2):  # evaluating spends nothing, and leaves out what decided on the same version
            request = pb.EvaluateRerankerRequest(model=made.name, judgments=deciding)
            operation = training.wait(training.stub.EvaluateReranker(request, timeout=CALL_S))
            found = pb.Evaluation()
            assert operation.response.Unpack(found), operation
            assert decides(found.report_json)[0] == 3
        others = judged(
            {f"o{n}": (f"{WORDS[n % 24]} {WORDS[(7 * n + n // 24) % 24]}", {IDS[n]: 1}) for n in range(40)}
        )
        assert decides(training.trained("full", **asked | {"judgments": others}).report_json)[0] == 0


def reading_in(training: Training, name: str, folder: Path) -> TrainingProvenance:
    """Of a version as it is exported."""
    pieces = training.models.ExportModel(models_pb.ExportModelRequest(name=name), timeout=CALL_S)
    with tarfile.open(fileobj=io.BytesIO(b"".join(piece.archive for piece in pieces))) as archive:
        archive.extractall(folder, filter="data")
    return read_provenance(folder / "model", name)


def test_what_a_version_was_trained_on_decides_on_none_that_starts_from_it(
    training: Training, mining_set: str, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {"mining_set": mining_set, "steps": 8, "max_tokens": 32, "seed": 50}
    made = training.trained("full", **asked)
    first = reading_in(training, made.name, tmp_path / "first")
    read = {text for text in QUERIES.values() if first.has_query(text)}
    assert (len(read), len(first.queries), len(first.documents)) == (20, 20, 20)
    again = training.trained("full", **asked, base=made.name)
    found = orjson.loads(again.report_json)
    assert found["details"]["provenance"] | {"unknown_lineage": 0} == {
        "queries": 20, "documents": 20, "kept_out": 20, "unknown_lineage": 0,
    }  # fmt: skip
    assert found["queries"] == 10
    assert reading_in(training, again.name, tmp_path / "second").queries == first.queries

    request = pb.EvaluateRerankerRequest(model=made.name, judgments=JUDGED)
    evaluation = pb.Evaluation()
    assert training.wait(training.stub.EvaluateReranker(request, timeout=CALL_S)).response.Unpack(evaluation)
    assert orjson.loads(evaluation.report_json)["queries"] == 20
    assert "20 queries do not decide, for the model learned from them before" in evaluation.advice


def test_a_base_that_was_made_elsewhere_is_named(
    training: Training, mining_set: str, cross_encoder_folder: Path
) -> None:
    foreign = Models(training.api).imported("full", source=cross_encoder_folder)
    made = training.trained("full", mining_set=mining_set, base=foreign.name, steps=1)
    assert any(f"{foreign.name} was made elsewhere" in one for one in made.advice)
    child = training.trained("full", mining_set=mining_set, base=made.name, steps=1)
    assert any(f"{foreign.name} was made elsewhere" in one for one in child.advice)
    own = training.trained("full", mining_set=mining_set, steps=1)
    assert not any("made elsewhere" in one for one in own.advice)


def test_a_plain_cross_encoder_is_trained_too(
    training: Training, mining_set: str, cross_encoder_folder: Path
) -> None:
    made = training.trained(
        "full", mining_set=mining_set, base=str(cross_encoder_folder), steps=3, loss=pb.TRAINING_LOSS_LAMBDA
    )
    assert made.name
    assert (made.lineage.joint_layers, made.lineage.loss) == (0, "lambda")
    wrong = pb.TrainRerankerRequest(
        collection="full", mining_set=mining_set, base=str(cross_encoder_folder), joint_layers=1
    )
    assert refused(training.stub.TrainReranker, wrong).field == "joint_layers"


def test_an_encoder_is_trained_and_registered(training: Training, mining_set: str) -> None:
    request = pb.TrainEncoderRequest(collection="full", mining_set=mining_set, steps=2, max_tokens=32)
    made = training.made(training.stub.TrainEncoder(request, timeout=CALL_S))
    assert made.kind == models_pb.MODEL_KIND_ENCODER
    assert made.name == training.names("full")[0]
    promote = models_pb.PromoteModelRequest(name=made.name)
    told = refused(training.models.PromoteModel, promote)
    assert "quarry collection reindex full --encoder" in told.message


def test_documents_alone_make_a_base_in_as_many_steps_as_any_training(training: Training) -> None:
    documents = pb.DocumentPretraining(collections=["full"], max_queries=40)
    operation = training.wait(training.start("full", document_pretraining=documents, max_tokens=32))
    assert operation.done
    made = training.made(operation)
    assert made.verdict != models_pb.MODEL_VERDICT_UNSPECIFIED
    assert made.lineage.steps == LATE_STEPS


def test_the_commands_train_a_version_and_measure_it(
    training: Training, mining_set: str, tmp_path: Path
) -> None:
    def call(*arguments: str) -> Any:
        ended = CliRunner().invoke(app, [*arguments, "--server", training.api.address, "--json"])
        assert ended.exit_code == 0, ended.output
        return orjson.loads(ended.stdout)

    mined = tmp_path / "x.parquet"
    pq.write_table(Mining(training.api).examples(mining_set), mined)
    found = call("train", "full", "--examples", str(mined), "--steps", "2", "--max-tokens", "32")
    assert found["model_version"] == training.names("full")[0]
    assert found["verdict"] in ("INSUFFICIENT_DATA", "REGRESSED", "NO_IMPROVEMENT", "IMPROVED")
    assert found["metrics"]
    queries, qrels = tmp_path / "queries.jsonl", tmp_path / "qrels.tsv"
    texts = [orjson.dumps({"_id": id, "text": text}).decode() for id, text in list(QUERIES.items())[:5]]
    queries.write_text("\n".join(texts))
    qrels.write_text("\n".join(f"q{n} 0 {IDS[n]} 1" for n in range(5)))
    judged = ["--queries", str(queries), "--qrels", str(qrels)]
    runs = call("evaluate", "full", *judged, "--model", found["model_version"])
    assert list(runs)[:4] == ["bm25", "dense", "fused", "reranked"]
