"""The answers of training jobs, as messages."""

from collections.abc import Mapping
from typing import TypeVar

from quarry.training.folders import AnySpec
from quarry.training.spec import EvaluationReport, EvaluationSpec, TrainingResult, TrainingSpec
from quarry.v1 import model_service_pb2 as models_pb
from quarry.v1 import training_service_pb2 as pb
from quarry_server.common.values import to_timestamp
from quarry_server.models.messages import (
    CAUTIONS,
    KINDS,
    to_lineage_message,
    to_metric_message,
    to_verdict_value,
)

M = TypeVar("M", models_pb.Model, models_pb.Ranking)
_NANOS = 1_000_000_000


def to_unregistered_message(result: TrainingResult, spec: TrainingSpec) -> models_pb.Model:
    """Writes a training that no model came of: a Model without a name."""
    report = result.evaluation
    return models_pb.Model(
        collection=spec.collection,
        kind=KINDS[result.kind],
        verdict=to_verdict_value(report.verdict),
        advice=report.advice,
        lineage=to_lineage_message(result),
        metrics=[to_metric_message(metric) for metric in report.metrics],
        description=spec.description,
        report_json=report.model_dump_json(),
    )


def add_advice(message: M, advice: str) -> M:
    """Adds ``advice`` to what the evaluation advises, unless it is empty."""
    if advice:
        message.advice.append(advice)
    return message


def to_evaluation_message(report: EvaluationReport, spec: EvaluationSpec) -> pb.Evaluation:
    return pb.Evaluation(
        model=spec.candidate.name,
        compared_with=spec.serving.name if spec.serving else "",
        verdict=to_verdict_value(report.verdict),
        advice=report.advice,
        metrics=[to_metric_message(metric) for metric in report.metrics],
        cautions=[CAUTIONS[caution] for caution in report.cautions],
        off_policy=[pb.OffPolicyEstimate(**estimate.model_dump()) for estimate in report.off_policy],
        report_json=report.model_dump_json(),
        ece=report.ece,
    )


def make_metadata(spec: AnySpec) -> pb.TrainingMetadata:
    start_time = to_timestamp(spec.create_time_us)
    return pb.TrainingMetadata(collection=spec.collection, start_time=start_time)


def set_details(metadata: pb.TrainingMetadata, details: Mapping[str, float]) -> None:
    """Sets what a job says of a stage; what it leaves out stays as it was, but for the time left."""
    for name in ("step", "steps"):
        if name in details:
            setattr(metadata, name, int(details[name]))
    for name in ("loss", "learning_rate", "development_ndcg"):
        if name in details:
            setattr(metadata, name, details[name])
    metadata.ClearField("eta")
    if details.get("eta_s", -1) >= 0:
        nanos = round(details["eta_s"] * _NANOS)
        metadata.eta.seconds, metadata.eta.nanos = divmod(nanos, _NANOS)
