"""Mining requests: messages to what is asked of the job, every field checked."""

import math
import re
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from google.protobuf import timestamp_pb2
from pydantic import BaseModel, ValidationError

from quarry.documents.catalog import Collection
from quarry.errors import (
    DuplicateError,
    InvalidArgumentError,
    OutOfRangeError,
    RequiredError,
    UnknownValueError,
)
from quarry.feedback.reading.guards import GuardPolicy
from quarry.mining.estimate import DEFAULT_HELD_OUT, EstimateSpec
from quarry.mining.members import check_members
from quarry.mining.presets import check_parameters, check_preset
from quarry.mining.spec import (
    DEFAULT_CLICK_MODEL,
    DEFAULT_DEPTH,
    DEFAULT_NEGATIVES,
    DEFAULT_PRESET,
    ClickModelName,
    FeedbackPositives,
    JudgedQuery,
    MiningSpec,
    ThresholdCalibration,
)
from quarry.questions import has_words
from quarry.ranking.queries import MAX_QUERY_BYTES
from quarry.schema import MAX_ID_BYTES
from quarry.v1 import mining_service_pb2 as pb
from quarry_server.common.values import parse_timestamp

M = TypeVar("M", bound=BaseModel)
MAX_QUERIES = 500_000
MAX_QUERY_ID_BYTES = 512
DEFAULT_TARGET = 0.1

CLICK_MODELS: dict[int, ClickModelName] = {
    pb.CLICK_MODEL_UNSPECIFIED: DEFAULT_CLICK_MODEL,
    pb.CLICK_MODEL_CTR: "ctr",
    pb.CLICK_MODEL_COEC: "coec",
    pb.CLICK_MODEL_SDBN: "sdbn",
    pb.CLICK_MODEL_PBM: "pbm",
    pb.CLICK_MODEL_UBM: "ubm",
    pb.CLICK_MODEL_AFFINE: "affine",
}


def parse_mining(
    request: pb.MineHardNegativesRequest,
    collection: Collection,
    guards: GuardPolicy,
    server: str,
    now_us: int,
) -> MiningSpec:
    """Parses what the job is asked to do, under a name of its own.

    Raises:
        InvalidArgumentError: a field is wrong, or nothing says what the positives are.
    """
    preset = check_preset(request.preset or DEFAULT_PRESET)
    check_parameters(preset, request.parameters)
    check_members(request.members)
    for name, value in request.parameters.items():
        if not math.isfinite(value):
            raise OutOfRangeError(f"parameters[{name}]", f"is {value}")
    queries = parse_judged(request.queries, "queries")
    feedback = _parse_feedback(request.feedback) if request.HasField("feedback") else None
    if not queries and feedback is None:
        raise RequiredError("queries", "are none, and feedback is unset: nothing is a positive")
    calibration = _parse_calibration(request.calibration) if request.HasField("calibration") else None
    return check_values(
        MiningSpec,
        {
            "name": make_unique_name(collection.settings.name, now_us),
            "collection": collection.settings.name,
            "collection_key": collection.key,
            "server": server,
            "preset": preset,
            "queries": queries,
            "feedback": feedback,
            "guards": guards,
            "negatives": request.negatives or DEFAULT_NEGATIVES,
            "seed": request.seed,
            "members": tuple(request.members),
            "depth": request.depth or DEFAULT_DEPTH,
            "parameters": dict(request.parameters),
            "calibration": calibration,
            "create_time_us": now_us,
        },
    )


def parse_estimate(
    request: pb.EstimateRelevanceRequest, collection: Collection, guards: GuardPolicy
) -> EstimateSpec:
    """Raises InvalidArgumentError."""
    return check_values(
        EstimateSpec,
        {
            "collection": collection.settings.name,
            "collection_key": collection.key,
            "guards": guards,
            "model": _parse_model(request.model, "model"),
            "held_out": request.held_out if request.HasField("held_out") else DEFAULT_HELD_OUT,
            "judgments": parse_judged(request.judgments, "judgments"),
            "max_estimates": request.max_estimates,
            "seed": request.seed,
        },
    )


def parse_judged(messages: Sequence[pb.JudgedQuery], path: str) -> tuple[JudgedQuery, ...]:
    """Parses judged queries, each id once, each with a text that has a word, and at least one judgment."""
    if len(messages) > MAX_QUERIES:
        raise OutOfRangeError(path, f"are {len(messages):,}, at most {MAX_QUERIES:,} are allowed")
    seen: set[str] = set()
    found: list[JudgedQuery] = []
    for index, message in enumerate(messages):
        here = f"{path}[{index}]"
        _check_size(message.query_id, MAX_QUERY_ID_BYTES, f"{here}.query_id")
        _check_size(message.text.strip(), MAX_QUERY_BYTES, f"{here}.text")
        if not has_words(message.text):
            raise InvalidArgumentError(f"{here}.text", f"{message.text[:80]!r} has no word")
        if message.query_id in seen:
            raise DuplicateError(f"{here}.query_id", f"{message.query_id[:80]!r} is there twice")
        seen.add(message.query_id)
        found.append(
            JudgedQuery.model_construct(
                id=message.query_id, text=message.text, judgments=_parse_judgments(message.judgments, here)
            )
        )
    return tuple(found)


def _parse_judgments(messages: Sequence[pb.Judgment], here: str) -> dict[str, int]:
    judgments: dict[str, int] = {}
    for place, message in enumerate(messages):
        path = f"{here}.judgments[{place}].document_id"
        _check_size(message.document_id, MAX_ID_BYTES, path)
        if message.document_id in judgments:
            raise DuplicateError(path, f"{message.document_id[:80]!r} is there twice")
        judgments[message.document_id] = message.grade
    if not judgments:
        raise RequiredError(f"{here}.judgments", "are none")
    return judgments


def _parse_feedback(message: pb.FeedbackPositives) -> FeedbackPositives:
    start = _parse_time(message.start_time, "feedback.start_time") if message.HasField("start_time") else None
    end = _parse_time(message.end_time, "feedback.end_time") if message.HasField("end_time") else None
    if start is not None and end is not None and end <= start:
        raise OutOfRangeError("feedback.end_time", "is not after start_time")
    values = {
        "model": _parse_model(message.model, "feedback.model"),
        "floor": message.floor if message.HasField("floor") else None,
        "start_us": start,
        "end_us": end,
    }
    return check_values(FeedbackPositives, values, "feedback")


def _parse_calibration(message: pb.Calibration) -> ThresholdCalibration:
    names = {"target": message.target_false_negatives or DEFAULT_TARGET}
    judged = parse_judged(message.judgments, "calibration.judgments")
    if not judged:
        raise RequiredError("calibration.judgments", "are none: thresholds need an audited sample")
    return check_values(ThresholdCalibration, {**names, "judgments": judged}, "calibration")


def _parse_model(value: int, path: str) -> ClickModelName:
    if value not in CLICK_MODELS:
        raise UnknownValueError(path, f"{value} is not a ClickModel")
    return CLICK_MODELS[value]


def _parse_time(message: timestamp_pb2.Timestamp, path: str) -> int:
    try:
        return parse_timestamp(message)
    except InvalidArgumentError as error:
        raise error.move_under(path) from None


def _check_size(text: str, limit: int, path: str) -> None:
    if not text:
        raise RequiredError(path, "is empty")
    if len(text.encode()) > limit:
        raise OutOfRangeError(path, f"is longer than {limit} bytes")


_NAMES = {"target": "target_false_negatives"}
_PROBLEMS: Mapping[str, type[InvalidArgumentError]] = {
    "missing": RequiredError,
    "literal_error": UnknownValueError,
    "finite_number": OutOfRangeError,
    "greater_than": OutOfRangeError,
    "greater_than_equal": OutOfRangeError,
    "less_than": OutOfRangeError,
    "less_than_equal": OutOfRangeError,
    "too_long": OutOfRangeError,
    "too_short": OutOfRangeError,
    "string_too_long": OutOfRangeError,
    "string_too_short": OutOfRangeError,
}
"""What pydantic calls a problem, and the error that it is here."""


def check_values(kind: type[M], values: Mapping[str, object], prefix: str = "") -> M:
    """Makes the model of ``values``; what its ranges exclude is named as the request names it."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(_NAMES.get(str(part), str(part)) for part in first["loc"])
        problem = f"{first['msg']}, not {str(first['input'])[:80]}"
        wrong = _PROBLEMS.get(first["type"], InvalidArgumentError)
        raise wrong(f"{prefix}.{field}" if prefix else field, problem) from None


def make_unique_name(collection: str, now_us: int) -> str:
    """Makes a name that is unique, and telling: collection, time, and a few random characters."""
    time = datetime.fromtimestamp(now_us / 1e6, UTC).strftime("%Y%m%d-%H%M%S")
    plain = re.sub(r"[^a-z0-9]+", "-", collection).strip("-") or "job"
    return f"{plain}-{time}-{uuid.uuid4().hex[:6]}"
