"""What jobs say and leave, as messages."""

from tests.unit.training.samples import evaluation_spec, metric, report, result, spec

from quarry.models.calibration import Calibration
from quarry.training.spec import ModelRef, OffPolicyEstimate
from quarry.v1 import model_service_pb2 as models_pb
from quarry_server.training.messages import (
    make_metadata,
    set_details,
    to_evaluation_message,
    to_unregistered_message,
)


def test_a_training_without_a_model_has_a_verdict_and_no_name() -> None:
    made = to_unregistered_message(result("BAD_DATA", has_model=False), spec(description="d"))
    assert (made.name, made.collection, made.description) == ("", "faq", "d")
    assert made.verdict == models_pb.MODEL_VERDICT_BAD_DATA
    assert made.kind == models_pb.MODEL_KIND_RERANKER
    assert list(made.advice) == ["do this"]
    assert (made.lineage.base, made.lineage.examples, made.lineage.steps) == ("base", "set", 3)
    assert made.report_json.startswith("{")


def test_an_evaluation_names_both_models() -> None:
    estimate = OffPolicyEstimate(
        estimator="snips", subject="difference", value=0.1, lower=0.0, upper=0.2,
        effective_sample_size=40.5, support=0.75,
    )  # fmt: skip
    found = to_evaluation_message(
        report("REGRESSED", off_policy=(estimate,), metrics=(metric("fused"),)),
        evaluation_spec(serving=ModelRef(name="faq@1", folder="/x")),
    )
    assert (found.model, found.compared_with) == ("base", "faq@1")
    assert found.verdict == models_pb.MODEL_VERDICT_REGRESSED
    assert (found.metrics[0].subject, found.metrics[0].queries) == ("fused", 40)
    assert (found.off_policy[0].effective_sample_size, found.off_policy[0].support) == (40.5, 0.75)
    assert to_evaluation_message(report(), evaluation_spec()).compared_with == ""


def test_details_stay_until_they_are_said_anew_but_for_the_time_left() -> None:
    metadata = make_metadata(spec(create_time_us=1_500_000))
    assert (metadata.start_time.seconds, metadata.start_time.nanos) == (1, 500_000_000)
    set_details(metadata, {"step": 2.0, "steps": 9.0, "loss": 0.5, "eta_s": 61.25})
    assert (metadata.step, metadata.steps, metadata.loss) == (2, 9, 0.5)
    assert (metadata.eta.seconds, metadata.eta.nanos) == (61, 250_000_000)
    assert not metadata.HasField("development_ndcg")
    set_details(metadata, {"step": 3.0, "development_ndcg": 0.0, "something_new": 1.0})
    assert (metadata.step, metadata.steps, metadata.loss) == (3, 9, 0.5)
    assert metadata.HasField("development_ndcg")
    assert not metadata.HasField("eta")
    set_details(metadata, {"eta_s": -5.0})
    assert not metadata.HasField("eta")


def test_a_calibration_is_told_whole() -> None:
    """All that is kept with a version, but for the bins that its errors were measured in."""
    told = {field.name for field in models_pb.RelevanceCalibration.DESCRIPTOR.fields}
    assert told == set(Calibration.model_fields) - {"bins"}
