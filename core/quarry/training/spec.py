"""A training job as it is written down for the process that does it, and what it leaves when it is done."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from quarry.feedback.reading.guards import GuardPolicy
from quarry.mining.spec import JsonModel, JudgedQuery
from quarry.models.blend import RERANKER_ALONE, Blend
from quarry.ranking.ranking_configuration import RankingConfiguration
from quarry.training.examples_limits import MAX_TEXT_BYTES
from quarry.training.forms import FormName
from quarry.training.hashes import check_marks

LossName = Literal["lce", "bce", "ranknet", "lambda", "margin-triplet", "margin-mse"]
ModelVerdict = Literal["INSUFFICIENT_DATA", "BAD_DATA", "REGRESSED", "NO_IMPROVEMENT", "IMPROVED"]
Caution = Literal["FEW_UNSEEN", "QUANTIZATION_LOSS", "NO_RELEVANCE"]
PrecisionName = Literal["fp32", "int8"]
KindName = Literal["reranker", "encoder"]
Subject = Literal["candidate", "serving", "fused", "difference"]

DEFAULT_LOSS: LossName = "lce"
DEFAULT_FORM: FormName = "late"
DEFAULT_JOINT_LAYERS = 1
DEFAULT_MAX_TOKENS = 128
DEFAULT_PRETRAINING_QUERIES = 20_000
MAX_EPOCH_STEPS = 1_000
"""Steps of a training that is not told how many, at most."""


class ModelRef(JsonModel):
    """A model that a job reads: its name for people, and the folder that it lies in."""

    name: str
    folder: str


class DocumentPretraining(JsonModel):
    """Train on documents alone: the collections, by name and number in the log."""

    collections: tuple[tuple[str, int], ...]
    max_queries: int = Field(DEFAULT_PRETRAINING_QUERIES, ge=1, le=1_000_000)


class TrainingSpec(JsonModel):
    """The request of a training job.

    Attributes:
        name: of the job, ``[a-z0-9-]+``; also its folder's.
        collection: name, and ``collection_key`` its number in the log.
        server: ``host:port`` of the server that is asked for candidates.
        examples: Parquet file with the columns of docs/reference/file-formats.md; None with
            ``document_pretraining``.
        examples_name: mining set, or name of the uploaded file.
        max_text_bytes: of the texts in all rows of the examples.
        base: model to start from; a re-ranker of ``form`` is made of it if it is an encoder.
        serving: re-ranker (encoder) to compare with; None: the fused order.
        precision: that the server serves re-rankers in, on the CPU.
        teacher: model whose scores are learned; only with ``layers``, of the student.
        steps: 0: what the form takes: a fixed number for late interaction, else one epoch within bounds, at
            most ``MAX_EPOCH_STEPS``.
        learning_rate: 0: the default of the model's form.
        judgments: to evaluate on; empty: the examples' queries are divided.
        guards: which events of feedback count, as the server has it.
        ranking: name of the ranking configuration that serves; empty: the default.
    """

    name: str
    collection: str
    collection_key: int
    server: str
    ranking: str = ""
    kind: KindName = "reranker"
    examples: str | None = None
    examples_name: str = ""
    max_text_bytes: int = Field(MAX_TEXT_BYTES, ge=1)
    document_pretraining: DocumentPretraining | None = None
    base: ModelRef
    serving: ModelRef | None = None
    precision: PrecisionName = "fp32"
    teacher: ModelRef | None = None
    layers: int = Field(0, ge=0, le=64)
    form: FormName = DEFAULT_FORM
    joint_layers: int = Field(DEFAULT_JOINT_LAYERS, ge=1, le=64)
    loss: LossName = DEFAULT_LOSS
    steps: int = Field(0, ge=0, le=1_000_000)
    max_tokens: int = Field(DEFAULT_MAX_TOKENS, ge=16, le=8_192)
    seed: int = Field(0, ge=0, lt=2**64)
    learning_rate: float = Field(0.0, ge=0, le=0.1)
    judgments: tuple[JudgedQuery, ...] = ()
    guards: GuardPolicy = GuardPolicy()
    description: str = ""
    create_time_us: int = 0


class Metric(JsonModel):
    """A measure on held-out queries, with its 95 % interval by paired bootstrap over queries.

    Attributes:
        measure: as ir-measures writes it: ``nDCG@10``, ``RR@3``, ``RR@10``, ``R@50``.
        slice: ``all``, ``known``, ``unseen``, or another group of queries.
        subject: what was measured; ``difference`` is candidate less serving (fused, if nothing serves).
    """

    measure: str
    slice: str
    subject: Subject
    value: float
    lower: float
    upper: float
    queries: int


class OffPolicyEstimate(JsonModel):
    """A value estimated from clicks on another ranking; see ``quarry_trainer.evaluation.off_policy``."""

    estimator: Literal["snips", "doubly_robust"]
    subject: Subject
    value: float
    lower: float
    upper: float
    effective_sample_size: float
    support: float


class EvaluationReport(JsonModel):
    """The findings of an evaluation.

    Attributes:
        source: ``judgments``, ``examples`` (held-out queries of them) or ``clicks``.
        cautions: what IMPROVED leaves open. FEW_UNSEEN: whether documents that training did not see lose.
            QUANTIZATION_LOSS: the model is better, and would be better still in float32. NO_RELEVANCE: the
            ranking configuration is better, and ends the relevance that hits have now.
        ece: expected calibration error of the candidate's relevance, 0 to 1, on judged queries that it did
            not learn from; None: not measured.
        details: for people and plots, beyond what is typed here.
    """

    verdict: ModelVerdict
    advice: tuple[str, ...] = ()
    cautions: tuple[Caution, ...] = ()
    metrics: tuple[Metric, ...] = ()
    off_policy: tuple[OffPolicyEstimate, ...] = ()
    source: str = ""
    queries: int = 0
    compared_with: str = ""
    ece: float | None = None
    details: dict[str, object] = Field(default_factory=dict)


class TrainingResult(JsonModel):
    """The content of ``result.json``, beside the folder ``model`` if a model came of a job.

    Attributes:
        teacher: model whose scores were learned; empty: none.
        steps: that were made; early stopping may make them fewer than asked.
        feedback_start_us: of the feedback that the examples rest on; None if none.
        attempt: made with the job's work: the same however often the job goes on.
        decided_by: marks of the judged queries that the verdict rests on (``quarry.training.hashes``); empty:
            there are none.
    """

    FORMER_NAMES: ClassVar[Mapping[str, str]] = {"what": "kind"}

    evaluation: EvaluationReport
    kind: KindName
    base: str
    examples: str
    data_hash: str
    loss: str
    steps: int
    seed: int
    joint_layers: int
    max_tokens: int
    train_s: float
    simulated: bool
    blend: Blend = RERANKER_ALONE
    feedback_start_us: int | None = None
    feedback_end_us: int | None = None
    teacher: str = ""
    attempt: str = ""
    decided_by: Annotated[str, AfterValidator(check_marks)] = ""
    has_model: bool = True


class TuningSpec(JsonModel):
    """The request of a tuning, as it is written down for the process that merges a collection's arms better.

    Attributes:
        judgments: empty: what people chose, of the collection's feedback.
        arms: that the collection has.
        boosts: of the schema's fields, those over 0; without one there is no title weight to fit.
        serving: name of the ranking configuration that serves; empty: the defaults do.
        reranker: that serves; empty: none.
        calibrated: names of the re-rankers that serve, and whose relevance holds while ``serving`` does.
    """

    name: str
    collection: str
    collection_key: int
    server: str
    judgments: tuple[JudgedQuery, ...] = ()
    arms: tuple[str, ...]
    boosts: dict[str, float] = Field(default_factory=dict)
    serving: str = ""
    reranker: str = ""
    calibrated: tuple[str, ...] = ()
    guards: GuardPolicy = GuardPolicy()
    seed: int = Field(0, ge=0, lt=2**64)
    description: str = ""
    create_time_us: int = 0


class Fold(JsonModel):
    """The configuration fitted to all but one part of the queries, and its measures on that part.

    Attributes:
        before: nDCG@10 by what serves; ``after``: by what was fitted.
    """

    queries: int
    before: float
    after: float
    configuration: RankingConfiguration


class TuningResult(JsonModel):
    """The content of a tuning's ``result.json``.

    Attributes:
        configuration: fitted to all queries; None with BAD_DATA.
        queries: that it was fitted to; ``source``: where their relevant documents are from.
        decided_by: marks of the judged queries that the verdict rests on.
    """

    evaluation: EvaluationReport
    configuration: RankingConfiguration | None
    queries: int
    source: Literal["judgments", "clicks"]
    folds: tuple[Fold, ...] = ()
    data_hash: str = ""
    reranker: str = ""
    simulated: bool = False
    feedback_start_us: int | None = None
    feedback_end_us: int | None = None
    attempt: str = ""
    decided_by: Annotated[str, AfterValidator(check_marks)] = ""
    tune_s: float = 0.0


class EvaluationSpec(JsonModel):
    """A comparison of two models that exist.

    Attributes:
        candidate: the model in question; ``serving``: what it is compared with, None for the fused order.
        judgments: empty: held-out clicks of the collection.
        precision: that the server serves re-rankers in, on the CPU.
    """

    name: str
    collection: str
    collection_key: int
    server: str
    candidate: ModelRef
    serving: ModelRef | None = None
    precision: PrecisionName = "fp32"
    judgments: tuple[JudgedQuery, ...] = ()
    guards: GuardPolicy = GuardPolicy()
    seed: int = 0
    create_time_us: int = 0
