"""Training requests: messages to what is asked of the job, every field checked."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quarry.documents.catalog import MAX_DESCRIPTION_BYTES, NO_ENCODER, Collection
from quarry.errors import (
    ConflictingFieldsError,
    DuplicateError,
    FailedPreconditionError,
    InvalidArgumentError,
    OutOfRangeError,
    RequiredError,
    UnknownValueError,
)
from quarry.feedback.reading.guards import GuardPolicy
from quarry.mining.sets import EXAMPLES, MiningSets
from quarry.models.blend import read_blend
from quarry.models.calibration import read_calibration
from quarry.models.runtime.runner import Precision
from quarry.models.settings import ModelKind
from quarry.training.forms import FormName, ModelForm, model_form
from quarry.training.limits import LEAST_DECIDING
from quarry.training.spec import (
    DEFAULT_BOOTSTRAP_QUERIES,
    DEFAULT_FORM,
    DEFAULT_JOINT_LAYERS,
    DEFAULT_LOSS,
    DEFAULT_MAX_TOKENS,
    EvaluationSpec,
    LossName,
    ModelRef,
    TrainingSpec,
    TuningSpec,
)
from quarry.training.uploads import Uploads
from quarry.v1 import training_service_pb2 as pb
from quarry_server.mining.requests import checked, parse_judged, unique_name

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


@dataclass(frozen=True, slots=True)
class Ground:
    """What a request is read against. All of it blocks.

    Attributes:
        base_reranker: the server's, or empty.
        precision: of the re-rankers that it serves.
        server: ``host:port`` where the job reaches it.
        resolve: finds a version, a fetched model, a folder or a package; raises ModelError or NotFoundError.
        key_of: of another collection, by name; raises CollectionNotFoundError.
    """

    collection: Collection
    base_reranker: str
    precision: Precision
    guards: GuardPolicy
    server: str
    now_us: int
    resolve: Callable[[str], ModelRef]
    key_of: Callable[[str], int]
    mining_sets: MiningSets
    uploads: Uploads

    @property
    def encoder(self) -> str:
        """The collection's; empty if it has none."""
        name = self.collection.settings.encoder
        return "" if name == NO_ENCODER else name

    @property
    def serving(self) -> ModelRef | None:
        """The re-ranker that serves."""
        name = self.collection.settings.reranker
        return self.resolve(name) if name else None

    def gives_relevance(self, reranker: str) -> bool:
        """Whether it says how relevant a hit is, and only while the present ranking configuration serves."""
        folder = Path(self.resolve(reranker).folder)
        calibration = read_calibration(folder)
        return (
            calibration is not None
            and calibration.ranking == self.collection.ranking_name
            and read_blend(folder).fused > 0
        )

    @property
    def common(self) -> dict[str, object]:
        """What every job is told."""
        return {
            "name": unique_name(self.collection.settings.name, self.now_us),
            "collection": self.collection.settings.name,
            "collection_key": self.collection.key,
            "server": self.server,
            "precision": self.precision,
            "guards": self.guards,
            "create_time_us": self.now_us,
        }


def parse_training(request: pb.TrainRerankerRequest, ground: Ground) -> TrainingSpec:
    """A re-ranker's training, under a name of its own.

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
    values = _asked(request, ground) | {
        "description": _description(request.description),
        "learning_rate": _learning_rate(request.learning_rate),
        "loss": LOSSES[request.loss],
        "serving": ground.serving,
    }
    base, name = _start(request, ground)
    form = model_form(Path(base.folder))
    if name != "split" and request.joint_layers:
        raise ConflictingFieldsError("joint_layers", f"is for the form split, and {name} is asked for")
    more: dict[str, object] = {
        "form": name,
        "joint_layers": _joint_layers(request.joint_layers, form)
        if name == "split"
        else DEFAULT_JOINT_LAYERS,
        "max_tokens": _max_tokens(request.max_tokens, form),
    }
    return _spec(values, base, more)


def _start(request: pb.TrainRerankerRequest, ground: Ground) -> tuple[ModelRef, FormName]:
    """The model to start from, and the form of what is made of it."""
    if request.form not in FORMS:
        raise UnknownValueError("form", f"{request.form} is not a RerankerForm")
    wanted = FORMS[request.form]
    usual = request.base or ground.collection.settings.reranker or ground.base_reranker or ground.encoder
    base = _base(usual, ground)
    form = model_form(Path(base.folder))
    if form.kind is ModelKind.ENCODER:
        return base, wanted or ("split" if request.joint_layers else DEFAULT_FORM)  # no other has such layers
    if wanted in (None, form.name):
        return base, form.name
    if request.base:
        raise ConflictingFieldsError("form", f"{base.name[:80]} has the form {form.name}, not {wanted}")
    return _base(ground.encoder, ground), wanted


def parse_encoder_training(request: pb.TrainEncoderRequest, ground: Ground) -> TrainingSpec:
    """An encoder's training. Raises as ``parse_training``."""
    values = _asked(request, ground) | {
        "what": "encoder",
        "description": _description(request.description),
        "learning_rate": _learning_rate(request.learning_rate),
        "serving": ground.resolve(ground.encoder) if ground.encoder else None,
    }
    base = _base(request.base or ground.encoder, ground)
    form = model_form(Path(base.folder))
    if form.kind is not ModelKind.ENCODER:
        raise InvalidArgumentError(
            "base", f"{base.name[:80]} is a re-ranker, and an encoder is to be trained"
        )
    return _spec(values, base, {"max_tokens": _max_tokens(request.max_tokens, form)})


def parse_distillation(request: pb.DistillRerankerRequest, ground: Ground) -> TrainingSpec:
    """A student's training. Raises as ``parse_training``; without a teacher, FailedPreconditionError."""
    teacher = ground.resolve(request.teacher) if request.teacher else ground.serving
    if teacher is None:
        raise FailedPreconditionError(
            f"no re-ranker serves {ground.collection.settings.name!r}: name a teacher",
            collection=ground.collection.settings.name,
        )
    _check_reranker(teacher, "teacher")
    base = ground.resolve(request.base) if request.base else teacher
    form = model_form(Path(base.folder))
    if form.late:
        raise InvalidArgumentError(
            "base",
            f"{base.name[:80]} has no layers that learn, and a student is cut from layers: name another",
        )
    layers = request.layers or min(DEFAULT_STUDENT_LAYERS, form.layers)
    if not 1 <= layers <= form.layers:
        raise OutOfRangeError("layers", f"is {layers}, and {base.name[:80]} has {form.layers}")
    values = _asked(request, ground) | {
        "loss": "margin-mse",
        "teacher": teacher,
        "layers": layers,
        "serving": ground.serving,
    }
    joint_layers = min(_joint_layers(0, form), layers)
    return _spec(
        values, base, {"joint_layers": joint_layers, "max_tokens": _max_tokens(request.max_tokens, form)}
    )


def parse_evaluation(request: pb.EvaluateRerankerRequest, ground: Ground) -> EvaluationSpec:
    """A comparison. A version that serves itself is compared with the fused order. Raises as
    ``parse_training``."""
    if request.compare_with == request.model:
        raise InvalidArgumentError("compare_with", "is the model itself")
    candidate = _check_reranker(ground.resolve(request.model), "model")
    other = request.compare_with or ground.collection.settings.reranker
    serving = ground.resolve(other) if other and other != request.model else None
    values = ground.common | {
        "candidate": candidate,
        "serving": serving and _check_reranker(serving, "compare_with"),
        "judgments": parse_judged(request.judgments, "judgments"),
    }
    return checked(EvaluationSpec, values)


def parse_tuning(request: pb.TuneRankingRequest, ground: Ground, arms: tuple[str, ...]) -> TuningSpec:
    """What is to be fitted, for a collection with these ``arms``.

    Raises:
        InvalidArgumentError: a judgment is none, or too few queries have a relevant document.
        FailedPreconditionError: there is nothing to fit.
        ModelError: a re-ranker that serves cannot be read.
    """
    collection = ground.collection
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
    values = ground.common | {
        "judgments": judgments,
        "arms": arms,
        "boosts": boosts,
        "serving": collection.ranking_name,
        "reranker": collection.settings.reranker,
        "calibrated": tuple(filter(ground.gives_relevance, sorted(collection.settings.rerankers))),
        "seed": request.seed,
    }
    del values["precision"]
    return checked(TuningSpec, values)


def _asked(request: Request, ground: Ground) -> dict[str, Any]:
    """What all trainings have."""
    if request.steps < 0:
        raise OutOfRangeError("steps", f"is {request.steps}, not 0 to 1,000,000")
    return {
        **ground.common,
        **_source(request, ground),
        "ranking": ground.collection.ranking_name,
        "steps": request.steps,
        "seed": request.seed,
        "judgments": parse_judged(request.judgments, "judgments"),
    }


def _source(request: Request, ground: Ground) -> dict[str, object]:
    match request.WhichOneof("source"):
        case "mining_set" if request.mining_set:
            return _mining_set(request.mining_set, ground)
        case "examples" if request.examples:
            path = ground.uploads.path(request.examples)
            most = ground.uploads.limits.text_bytes
            return {"examples": str(path), "examples_name": request.examples, "max_text_bytes": most}
        case "bootstrap" if isinstance(request, pb.TrainRerankerRequest):
            return {"bootstrap": _bootstrap(request.bootstrap, ground)}
    raise RequiredError("examples", "is missing: say what to train on")


def _mining_set(name: str, ground: Ground) -> dict[str, object]:
    made = ground.mining_sets.get(name)
    if made.collection_key != ground.collection.key:
        raise InvalidArgumentError("mining_set", f"was mined from another collection, {made.collection}")
    return {"examples": str(ground.mining_sets.folder(name) / EXAMPLES), "examples_name": name}


def _bootstrap(message: pb.Bootstrap, ground: Ground) -> dict[str, object]:
    names = list(message.collections)
    if not names:
        raise RequiredError("bootstrap.collections", "are none")
    for place, name in enumerate(names):
        if not name:
            raise RequiredError(f"bootstrap.collections[{place}]", "is empty")
        if name in names[:place]:
            raise DuplicateError(f"bootstrap.collections[{place}]", f"{name[:80]!r} is there twice")
    if message.max_queries < 0:
        raise OutOfRangeError("bootstrap.max_queries", f"is {message.max_queries}, not 1 to 1,000,000")
    return {
        "collections": tuple((name, ground.key_of(name)) for name in names),
        "max_queries": message.max_queries or DEFAULT_BOOTSTRAP_QUERIES,
    }


def _base(name: str, ground: Ground) -> ModelRef:
    if not name:
        raise FailedPreconditionError(
            f"the collection {ground.collection.settings.name!r} has neither re-ranker nor encoder to start "
            "from, and the server's models.base_reranker is empty: name a base",
            collection=ground.collection.settings.name,
        )
    return ground.resolve(name)


def _check_reranker(model: ModelRef, path: str) -> ModelRef:
    if model_form(Path(model.folder)).kind is ModelKind.ENCODER:
        raise InvalidArgumentError(path, f"{model.name[:80]} is an encoder, and a re-ranker is needed")
    return model


def _joint_layers(asked: int, form: ModelForm) -> int:
    """Layers that read both texts; of a base that is a re-ranker already, its own."""
    if form.kind is ModelKind.ENCODER:
        if not 0 <= asked <= form.layers:
            raise OutOfRangeError("joint_layers", f"is {asked}, and the encoder has {form.layers} layers")
        return asked or min(DEFAULT_JOINT_LAYERS, form.layers)
    if asked and asked != form.joint_layers:
        own = f"has {form.joint_layers} already" if form.joint_layers else "is no split cross-encoder"
        raise ConflictingFieldsError("joint_layers", f"is for a base that is an encoder; this one {own}")
    return form.joint_layers or DEFAULT_JOINT_LAYERS


def _max_tokens(asked: int, form: ModelForm) -> int:
    limit = form.max_tokens
    if asked and not 16 <= asked <= limit:
        raise OutOfRangeError("max_tokens", f"is {asked}, not 16 to {limit}, the model's limit")
    return asked or min(DEFAULT_MAX_TOKENS, limit)


def _learning_rate(value: float) -> float:
    if not math.isfinite(value):
        raise OutOfRangeError("learning_rate", f"is {value}")
    return value


def _description(text: str) -> str:
    if len(text.encode()) > MAX_DESCRIPTION_BYTES:
        raise OutOfRangeError("description", f"is longer than {MAX_DESCRIPTION_BYTES:,} bytes")
    return text


def _spec(values: dict[str, Any], base: ModelRef, more: dict[str, object]) -> TrainingSpec:
    return checked(TrainingSpec, values | {"base": base} | more)
