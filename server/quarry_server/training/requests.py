"""Training requests: messages to what is asked of the job, every field checked."""

import math
from pathlib import Path
from typing import Any

from quarry.documents.catalog import MAX_DESCRIPTION_BYTES
from quarry.errors import (
    ConflictingFieldsError,
    DuplicateError,
    FailedPreconditionError,
    InvalidArgumentError,
    OutOfRangeError,
    RequiredError,
    UnknownValueError,
)
from quarry.mining.sets import EXAMPLES
from quarry.models.run_settings import ModelKind
from quarry.training.examples_limits import LEAST_DECIDING
from quarry.training.forms import FormName, ModelForm, read_model_form
from quarry.training.spec import (
    DEFAULT_FORM,
    DEFAULT_JOINT_LAYERS,
    DEFAULT_LOSS,
    DEFAULT_MAX_TOKENS,
    DEFAULT_PRETRAINING_QUERIES,
    EvaluationSpec,
    LossName,
    ModelRef,
    TrainingSpec,
    TuningSpec,
)
from quarry.v1 import training_service_pb2 as pb
from quarry_server.mining.requests import check_values, parse_judged
from quarry_server.training.request_context import RequestContext

DEFAULT_STUDENT_LAYERS = 3

LOSSES: dict[int, LossName] = {
    pb.TRAINING_LOSS_UNSPECIFIED: DEFAULT_LOSS,
    pb.TRAINING_LOSS_LCE: "lce",
    pb.TRAINING_LOSS_BCE: "bce",
    pb.TRAINING_LOSS_RANKNET: "ranknet",
    pb.TRAINING_LOSS_LAMBDA: "lambda",
    pb.TRAINING_LOSS_MARGIN_TRIPLET: "margin-triplet",
    pb.TRAINING_LOSS_MARGIN_MSE: "margin-mse",
}

FORMS: dict[int, FormName | None] = {
    pb.RERANKER_FORM_UNSPECIFIED: None,
    pb.RERANKER_FORM_SPLIT: "split",
    pb.RERANKER_FORM_LATE: "late",
    pb.RERANKER_FORM_CROSS: "cross",
}

Request = pb.TrainRerankerRequest | pb.TrainEncoderRequest | pb.DistillRerankerRequest


def parse_training(request: pb.TrainRerankerRequest, context: RequestContext) -> TrainingSpec:
    """Parses a re-ranker's training, under a name of its own.

    Raises:
        InvalidArgumentError: a field is wrong.
        NotFoundError: what a field names is not there.
        FailedPreconditionError: there is nothing to start from.
        ModelError: the model to start from cannot be used.
    """
    if request.loss not in LOSSES:
        raise UnknownValueError("loss", f"{request.loss} is not a TrainingLoss")
    if request.loss == pb.TRAINING_LOSS_MARGIN_MSE:
        raise InvalidArgumentError("loss", "learns a teacher's scores: that is DistillReranker's")
    values = _parse_common(request, context) | {
        "description": _check_description(request.description),
        "learning_rate": _check_learning_rate(request.learning_rate),
        "loss": LOSSES[request.loss],
        "serving": context.serving,
    }
    base, name = _start(request, context)
    form = read_model_form(Path(base.folder))
    if name != "split" and request.joint_layers:
        raise ConflictingFieldsError("joint_layers", f"is for the form split, and {name} is asked for")
    more: dict[str, object] = {
        "form": name,
        "joint_layers": _choose_joint_layers(request.joint_layers, form)
        if name == "split"
        else DEFAULT_JOINT_LAYERS,
        "max_tokens": _choose_max_tokens(request.max_tokens, form),
    }
    return _make_spec(values, base, more)


def _start(request: pb.TrainRerankerRequest, context: RequestContext) -> tuple[ModelRef, FormName]:
    """Chooses the model to start from, and the form of what is made of it."""
    if request.form not in FORMS:
        raise UnknownValueError("form", f"{request.form} is not a RerankerForm")
    wanted = FORMS[request.form]
    usual = request.base or context.collection.settings.reranker or context.base_reranker or context.encoder
    base = _parse_base(usual, context)
    form = read_model_form(Path(base.folder))
    if form.kind is ModelKind.ENCODER:
        return base, wanted or ("split" if request.joint_layers else DEFAULT_FORM)  # no other has such layers
    if wanted in (None, form.name):
        return base, form.name
    if request.base:
        raise ConflictingFieldsError("form", f"{base.name[:80]} has the form {form.name}, not {wanted}")
    return _parse_base(context.encoder, context), wanted


def parse_encoder_training(request: pb.TrainEncoderRequest, context: RequestContext) -> TrainingSpec:
    """Parses an encoder's training. Raises as ``parse_training``."""
    values = _parse_common(request, context) | {
        "kind": "encoder",
        "description": _check_description(request.description),
        "learning_rate": _check_learning_rate(request.learning_rate),
        "serving": context.resolve(context.encoder) if context.encoder else None,
    }
    base = _parse_base(request.base or context.encoder, context)
    form = read_model_form(Path(base.folder))
    if form.kind is not ModelKind.ENCODER:
        raise InvalidArgumentError(
            "base", f"{base.name[:80]} is a re-ranker, and an encoder is to be trained"
        )
    return _make_spec(values, base, {"max_tokens": _choose_max_tokens(request.max_tokens, form)})


def parse_distillation(request: pb.DistillRerankerRequest, context: RequestContext) -> TrainingSpec:
    """Parses a student's training. Raises as ``parse_training``.

    Without a teacher, FailedPreconditionError.
    """
    teacher = context.resolve(request.teacher) if request.teacher else context.serving
    if teacher is None:
        raise FailedPreconditionError(
            f"no re-ranker serves {context.collection.settings.name!r}: name a teacher",
            collection=context.collection.settings.name,
        )
    _check_reranker(teacher, "teacher")
    base = context.resolve(request.base) if request.base else teacher
    form = read_model_form(Path(base.folder))
    if form.late:
        raise InvalidArgumentError(
            "base",
            f"{base.name[:80]} has no layers that learn, and a student is cut from layers: name another",
        )
    layers = request.layers or min(DEFAULT_STUDENT_LAYERS, form.layers)
    if not 1 <= layers <= form.layers:
        raise OutOfRangeError("layers", f"is {layers}, and {base.name[:80]} has {form.layers}")
    values = _parse_common(request, context) | {
        "loss": "margin-mse",
        "teacher": teacher,
        "layers": layers,
        "serving": context.serving,
    }
    joint_layers = min(_choose_joint_layers(0, form), layers)
    return _make_spec(
        values,
        base,
        {"joint_layers": joint_layers, "max_tokens": _choose_max_tokens(request.max_tokens, form)},
    )


def parse_evaluation(request: pb.EvaluateRerankerRequest, context: RequestContext) -> EvaluationSpec:
    """Parses a comparison. A version that serves itself is compared with the fused order. Raises as
    ``parse_training``."""
    if request.compare_with == request.model:
        raise InvalidArgumentError("compare_with", "is the model itself")
    candidate = _check_reranker(context.resolve(request.model), "model")
    other = request.compare_with or context.collection.settings.reranker
    serving = context.resolve(other) if other and other != request.model else None
    values = context.common | {
        "candidate": candidate,
        "serving": serving and _check_reranker(serving, "compare_with"),
        "judgments": parse_judged(request.judgments, "judgments"),
    }
    return check_values(EvaluationSpec, values)


def parse_tuning(
    request: pb.TuneRankingRequest, context: RequestContext, arms: tuple[str, ...]
) -> TuningSpec:
    """Parses what is to be fitted, for a collection with these ``arms``.

    Raises:
        InvalidArgumentError: a judgment is none, or too few queries have a relevant document.
        FailedPreconditionError: there is nothing to fit.
        ModelError: a re-ranker that serves cannot be read.
    """
    collection = context.collection
    judgments = parse_judged(request.judgments, "judgments")
    relevant = sum(max(query.judgments.values()) > 0 for query in judgments)
    if judgments and relevant < LEAST_DECIDING:
        few = f"hold {relevant:,} queries with a relevant document, at least {LEAST_DECIDING} are needed"
        raise OutOfRangeError("judgments", few)
    boosts = {field.name: field.boost for field in collection.settings.schema.searchable if field.boost}
    if len(arms) < 2 and not boosts:
        name = collection.settings.name
        raise FailedPreconditionError(
            f"{name!r} has one arm and no boosted field: there is nothing to tune", collection=name
        )
    values = context.common | {
        "judgments": judgments,
        "arms": arms,
        "boosts": boosts,
        "serving": collection.ranking_name,
        "reranker": collection.settings.reranker,
        "calibrated": tuple(filter(context.can_give_relevance, sorted(collection.settings.rerankers))),
        "seed": request.seed,
    }
    del values["precision"]
    return check_values(TuningSpec, values)


def _parse_common(request: Request, context: RequestContext) -> dict[str, Any]:
    """Parses what all trainings have."""
    if request.steps < 0:
        raise OutOfRangeError("steps", f"is {request.steps}, not 0 to 1,000,000")
    return {
        **context.common,
        **_parse_source(request, context),
        "ranking": context.collection.ranking_name,
        "steps": request.steps,
        "seed": request.seed,
        "judgments": parse_judged(request.judgments, "judgments"),
    }


def _parse_source(request: Request, context: RequestContext) -> dict[str, object]:
    match request.WhichOneof("source"):
        case "mining_set" if request.mining_set:
            return _parse_mining_set(request.mining_set, context)
        case "examples" if request.examples:
            path = context.uploads.locate(request.examples)
            most = context.uploads.limits.text_bytes
            return {"examples": str(path), "examples_name": request.examples, "max_text_bytes": most}
        case "document_pretraining" if isinstance(request, pb.TrainRerankerRequest):
            return {"document_pretraining": _parse_pretraining(request.document_pretraining, context)}
    raise RequiredError("examples", "is missing: say what to train on")


def _parse_mining_set(name: str, context: RequestContext) -> dict[str, object]:
    made = context.mining_sets.get(name)
    if made.collection_key != context.collection.key:
        raise InvalidArgumentError("mining_set", f"was mined from another collection, {made.collection}")
    return {"examples": str(context.mining_sets.locate(name) / EXAMPLES), "examples_name": name}


def _parse_pretraining(message: pb.DocumentPretraining, context: RequestContext) -> dict[str, object]:
    names = list(message.collections)
    if not names:
        raise RequiredError("document_pretraining.collections", "are none")
    keys: dict[str, int] = {}
    for place, name in enumerate(names):
        field = f"document_pretraining.collections[{place}]"
        if not name:
            raise RequiredError(field, "is empty")
        found = context.find_collection(name)
        if found.settings.name in keys:
            raise DuplicateError(field, f"{found.settings.name!r} is there twice")
        keys[found.settings.name] = found.key
    if message.max_queries < 0:
        raise OutOfRangeError(
            "document_pretraining.max_queries", f"is {message.max_queries}, not 1 to 1,000,000"
        )
    return {
        "collections": tuple(keys.items()),
        "max_queries": message.max_queries or DEFAULT_PRETRAINING_QUERIES,
    }


def _parse_base(name: str, context: RequestContext) -> ModelRef:
    if not name:
        raise FailedPreconditionError(
            f"the collection {context.collection.settings.name!r} has neither re-ranker nor encoder to start "
            "from, and the server's models.base_reranker is empty: name a base",
            collection=context.collection.settings.name,
        )
    return context.resolve(name)


def _check_reranker(model: ModelRef, path: str) -> ModelRef:
    if read_model_form(Path(model.folder)).kind is ModelKind.ENCODER:
        raise InvalidArgumentError(path, f"{model.name[:80]} is an encoder, and a re-ranker is needed")
    return model


def _choose_joint_layers(asked: int, form: ModelForm) -> int:
    """Chooses the layers that read both texts; of a base that is a re-ranker already, its own."""
    if form.kind is ModelKind.ENCODER:
        if not 0 <= asked <= form.layers:
            raise OutOfRangeError("joint_layers", f"is {asked}, and the encoder has {form.layers} layers")
        return asked or min(DEFAULT_JOINT_LAYERS, form.layers)
    if asked and asked != form.joint_layers:
        own = f"has {form.joint_layers} already" if form.joint_layers else "is no split cross-encoder"
        raise ConflictingFieldsError("joint_layers", f"is for a base that is an encoder; this one {own}")
    return form.joint_layers or DEFAULT_JOINT_LAYERS


def _choose_max_tokens(asked: int, form: ModelForm) -> int:
    limit = form.max_tokens
    if asked and not 16 <= asked <= limit:
        raise OutOfRangeError("max_tokens", f"is {asked}, not 16 to {limit}, the model's limit")
    return asked or min(DEFAULT_MAX_TOKENS, limit)


def _check_learning_rate(value: float) -> float:
    if not math.isfinite(value):
        raise OutOfRangeError("learning_rate", f"is {value}")
    return value


def _check_description(text: str) -> str:
    if len(text.encode()) > MAX_DESCRIPTION_BYTES:
        raise OutOfRangeError("description", f"is longer than {MAX_DESCRIPTION_BYTES:,} bytes")
    return text


def _make_spec(values: dict[str, Any], base: ModelRef, more: dict[str, object]) -> TrainingSpec:
    return check_values(TrainingSpec, values | {"base": base} | more)
