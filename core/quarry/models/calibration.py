"""The calibration of a re-ranker's blended score into a probability of relevance."""

from pathlib import Path
from typing import Literal

import numpy as np
import orjson
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from quarry.errors import ModelError
from quarry.quoting import describe_first_problem

CALIBRATION_FILE = "calibration.json"
"""In a model's folder. What a model without one says of relevance is not known."""
ECE_BINS = 10
"""Bins of equal width that ``measure_calibration_error`` compares probabilities and relevance in."""

Float64 = NDArray[np.float64]
Source = Literal["judgments"]


class Calibration(BaseModel):
    """``1 / (1 + exp(-(slope * score + intercept)))`` of the score that orders, which is the blended one.

    Source: Platt, *Probabilistic Outputs for Support Vector Machines*, 1999.

    Attributes:
        slope: over 0, so that the probability never orders otherwise than the score does.
        source: what said which documents are relevant.
        queries: that it was fitted on; the model did not learn from them.
        pairs: best candidates of these queries, which it was fitted on; ``relevant``: how many of them are.
        ece: expected calibration error, 0 to 1, over the ten best candidates of each query, by
            cross-validation: of questions that the fit did not see.
        ece_all: the same over all candidates.
        ece_unseen: as ``ece``, of queries whose documents training did not see; None if too few are.
        bins: that these errors were measured in.
        ranking: name of the ranking configuration that merged the arms' scores; empty: the default.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    formula: Literal["platt"] = "platt"
    slope: float = Field(gt=0, allow_inf_nan=False)
    intercept: float = Field(allow_inf_nan=False)
    source: Source
    queries: int = Field(ge=1)
    pairs: int = Field(ge=1)
    relevant: int = Field(ge=1)
    ece: float = Field(ge=0, le=1)
    ece_all: float = Field(ge=0, le=1)
    ece_unseen: float | None = Field(None, ge=0, le=1)
    bins: int = Field(ECE_BINS, ge=1)
    ranking: str = ""

    @model_validator(mode="after")
    def _has_both_classes(self) -> "Calibration":
        if self.relevant >= self.pairs:
            raise ValueError("all pairs are relevant: nothing was fitted")
        return self

    def estimate_probability(self, scores: ArrayLike) -> Float64:
        """Estimates P(relevant) of each blended score, float64 of the same shape, 0 to 1."""
        logits = self.slope * np.asarray(scores, np.float64) + self.intercept
        return np.exp(-np.logaddexp(0.0, -logits))


def measure_calibration_error(probabilities: Float64, relevant: NDArray[np.bool_], bins: int) -> float:
    """Measures how far probabilities are from the shares that are relevant, 0 to 1.

    The mean over bins of equal width, each weighed by its pairs, of the distance between mean probability and
    share of relevant pairs (Guo et al., ICML 2017).

    Args:
        probabilities: shape ``(n,)``, 0 to 1, ``n`` over 0.
        relevant: shape ``(n,)``.
    """
    places = np.minimum((probabilities * bins).astype(np.int64), bins - 1)
    off = np.bincount(places, weights=probabilities - relevant, minlength=bins)
    return float(np.abs(off).sum() / len(probabilities))


def read_calibration(folder: Path) -> Calibration | None:
    """Reads the calibration of the model in ``folder``.

    None if it has none. Raises ModelError if it is broken.
    """
    try:
        return Calibration.model_validate_json((folder / CALIBRATION_FILE).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        problem = describe_first_problem(error) if isinstance(error, ValidationError) else error.strerror
        raise ModelError(
            f"{folder / CALIBRATION_FILE} cannot be read: {problem}", path=str(folder)
        ) from error


def write_calibration(folder: Path, calibration: Calibration | None) -> None:
    """Writes the model's calibration; None takes away one that lies there."""
    if calibration is None:
        (folder / CALIBRATION_FILE).unlink(missing_ok=True)
    else:
        (folder / CALIBRATION_FILE).write_bytes(orjson.dumps(calibration.model_dump()))
