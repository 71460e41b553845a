"""A mining job as it is written down for the process that does it, and its summary when it is done."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from quarry.feedback.reading.guards import GuardPolicy

Verdict = Literal["GOOD", "LOW_COVERAGE", "FALSE_NEGATIVES", "TOO_NEAR_POSITIVE", "TOO_EASY", "NO_DATA"]
ClickModelName = Literal["ctr", "coec", "sdbn", "pbm", "ubm", "affine"]
DEFAULT_PRESET = "quarry"
DEFAULT_CLICK_MODEL: ClickModelName = "pbm"
"""It is among the best at predicting held-out clicks and at agreeing with judges.

docs/explanation/benchmarks.md has the figures.
"""
DEFAULT_NEGATIVES = 7
DEFAULT_DEPTH = 100
CLICK_ID_PREFIX = "click:"
"""Of the id of a query whose positives were clicked; its text follows."""


class JsonModel(BaseModel):
    """A strict model of a JSON file.

    Attributes:
        FORMER_NAMES: today's name of a field, by the one that older files have.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    FORMER_NAMES: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _read_former_names(cls, values: Any) -> Any:
        if not cls.FORMER_NAMES or not isinstance(values, dict):
            return values
        return {cls.FORMER_NAMES.get(name, name): value for name, value in values.items()}


class JudgedQuery(JsonModel):
    """A query and its judgments: grade by document id, over 0 is relevant."""

    id: str
    text: str
    judgments: dict[str, int]


class FeedbackPositives(JsonModel):
    """The clicked documents that become positives.

    Attributes:
        floor: least lower bound of a positive's relevance. None: the noise of the clicks is estimated, and a
            positive stands out from it.
    """

    model: ClickModelName = DEFAULT_CLICK_MODEL
    floor: float | None = Field(None, ge=0, le=1)
    start_us: int | None = None
    end_us: int | None = None


class ThresholdCalibration(JsonModel):
    """Thresholds are chosen so that an audited sample has at most this share of false negatives."""

    target: float = Field(0.1, gt=0, le=0.5)
    judgments: tuple[JudgedQuery, ...] = ()


class MiningSpec(JsonModel):
    """The request of a mining job.

    Attributes:
        name: of the mining set, ``[a-z0-9-]+``; also its folder's.
        collection: name, and ``collection_key`` its number in the log.
        server: ``host:port`` of the server whose live arms are asked.
        guards: which events of feedback count, as the server has it.
        negatives: for each (query, positive) pair.
        members: empty: the preset's.
        parameters: the preset's constants in place of the defaults.
    """

    name: str
    collection: str
    collection_key: int
    server: str
    preset: str = DEFAULT_PRESET
    queries: tuple[JudgedQuery, ...] = ()
    feedback: FeedbackPositives | None = None
    guards: GuardPolicy = GuardPolicy()
    negatives: int = Field(DEFAULT_NEGATIVES, ge=1, le=100)
    seed: int = Field(0, ge=0, lt=2**64)
    members: tuple[str, ...] = ()
    depth: int = Field(DEFAULT_DEPTH, ge=10, le=1_000)
    parameters: dict[str, float] = {}
    calibration: ThresholdCalibration | None = None
    create_time_us: int = 0


class MiningSummary(JsonModel):
    """A finished mining set, in short. The whole report is beside it."""

    name: str
    collection: str
    collection_key: int
    preset: str
    create_time_us: int
    verdict: Verdict
    advice: tuple[str, ...]
    pairs: int
    coverage: float
    rows: int
    false_negatives: float | None
    false_negatives_lower: float | None
    false_negatives_upper: float | None
    rungs: dict[str, int]
    members: tuple[str, ...]
    simulated: bool
    data_hash: str
    feedback_start_us: int | None = None
    feedback_end_us: int | None = None

    @property
    def began_us(self) -> int:
        return self.create_time_us
