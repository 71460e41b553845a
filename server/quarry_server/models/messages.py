"""Versions of models, as messages."""

from quarry.documents.store import RequestId
from quarry.errors import OutOfRangeError
from quarry.registry.serving import Note
from quarry.registry.versions import ModelState, ModelVersion
from quarry.training.spec import Caution, KindName, Metric, ModelVerdict, TrainingResult
from quarry.v1 import model_service_pb2 as pb
from quarry_server.common.labels import check_label
from quarry_server.common.request_ids import parse_request_id
from quarry_server.common.values import to_timestamp

Change = (
    pb.PromoteModelRequest | pb.RollbackModelRequest | pb.PromoteRankingRequest | pb.RollbackRankingRequest
)
MAX_PROMOTER_BYTES = 128
MAX_REASON_BYTES = 1_024

KINDS: dict[KindName, pb.ModelKind.ValueType] = {
    "reranker": pb.MODEL_KIND_RERANKER,
    "encoder": pb.MODEL_KIND_ENCODER,
}
CAUTIONS: dict[Caution, pb.ModelCaution.ValueType] = {
    "FEW_UNSEEN": pb.MODEL_CAUTION_FEW_UNSEEN,
    "QUANTIZATION_LOSS": pb.MODEL_CAUTION_QUANTIZATION_LOSS,
    "NO_RELEVANCE": pb.MODEL_CAUTION_NO_RELEVANCE,
}
STATES = {
    ModelState.CANDIDATE: pb.MODEL_STATE_CANDIDATE,
    ModelState.SERVING: pb.MODEL_STATE_SERVING,
    ModelState.RETIRED: pb.MODEL_STATE_RETIRED,
}


def to_model_message(version: ModelVersion, report: bool = True) -> pb.Model:
    """Writes the model; ``report``: with everything that evaluation found."""
    message = pb.Model(
        name=version.name,
        collection=version.collection,
        kind=KINDS[version.kind],
        state=STATES[version.state],
        create_time=to_timestamp(version.create_time_us),
        lineage=_to_lineage(version),
        blend=pb.Blend(rerank=version.blend.rerank, fused=version.blend.fused),
        artefact_hash=version.artefact_hash,
        artefact_bytes=version.artefact_bytes,
        promoted_by=version.promoted_by,
        description=version.description,
    )
    if version.calibration is not None:
        message.calibration.CopyFrom(
            pb.RelevanceCalibration(**version.calibration.model_dump(exclude={"bins"}))
        )
    if version.promote_time_us is not None:
        message.promote_time.CopyFrom(to_timestamp(version.promote_time_us))
    if version.result is not None:
        _add_evaluation(message, version.result, report)
    return message


def to_verdict_value(verdict: ModelVerdict) -> pb.ModelVerdict.ValueType:
    return pb.ModelVerdict.Value(f"MODEL_VERDICT_{verdict}")


def to_metric_message(metric: Metric) -> pb.ModelMetric:
    return pb.ModelMetric(**metric.model_dump())


def _add_evaluation(message: pb.Model, result: TrainingResult, report: bool) -> None:
    found = result.evaluation
    message.verdict = to_verdict_value(found.verdict)
    message.advice.extend(found.advice)
    message.cautions.extend(CAUTIONS[caution] for caution in found.cautions)
    message.metrics.extend(to_metric_message(metric) for metric in found.metrics)
    if report:
        message.report_json = found.model_dump_json()


def _to_lineage(version: ModelVersion) -> pb.Lineage:
    result = version.result
    if result is None:
        return pb.Lineage(base=version.source, quarry_version=version.quarry_version)
    lineage = to_lineage_message(result)
    lineage.joint_layers, lineage.quarry_version = result.joint_layers, version.quarry_version
    if result.feedback_start_us is not None:
        lineage.feedback_start_time.CopyFrom(to_timestamp(result.feedback_start_us))
    if result.feedback_end_us is not None:
        lineage.feedback_end_time.CopyFrom(to_timestamp(result.feedback_end_us))
    return lineage


def to_lineage_message(result: TrainingResult) -> pb.Lineage:
    """Says what a training was made from, whether a version came of it or not."""
    return pb.Lineage(
        base=result.base,
        compared_with=result.evaluation.compared_with,
        examples=result.examples,
        data_hash=result.data_hash,
        simulated=result.simulated,
        loss=result.loss,
        steps=result.steps,
        seed=result.seed,
        max_tokens=result.max_tokens,
        train_seconds=result.train_s,
    )


def parse_change(request: Change, method: str) -> tuple[RequestId, Note]:
    """Parses the request's id, and who changes what serves, and why. Raises InvalidArgumentError."""
    return parse_request_id(request.request_id, method, request), parse_note(
        request.promoted_by, request.reason
    )


def parse_note(by: str, reason: str) -> Note:
    """Parses who changes what serves, and why. Raises InvalidArgumentError."""
    size = len(reason.encode())
    if size > MAX_REASON_BYTES:
        raise OutOfRangeError("reason", f"has {size} bytes, at most {MAX_REASON_BYTES} are allowed")
    return Note(check_label("promoted_by", by, MAX_PROMOTER_BYTES), reason)
