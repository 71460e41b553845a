"""The blend of a re-ranker's score and the fused one into the score that orders."""

import math
from pathlib import Path

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from quarry.errors import ModelError
from quarry.quoting import describe_first_problem

BLEND_FILE = "blend.json"
"""In a model's folder. A model without one orders alone."""


class Blend(BaseModel):
    """``rerank * score + fused * fused score``. Both weights are constants of the model, so a document's
    score still depends on nothing else in the list.

    Attributes:
        rerank: at least 0; 0 leaves the fused order as it is.
        fused: at least 0, not both 0. Fitted to the default fusion, whose scores are in [0, 1].
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rerank: float = Field(1.0, ge=0, allow_inf_nan=False)
    fused: float = Field(0.0, ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _make_order(self) -> "Blend":
        if not self.rerank and not self.fused:
            raise ValueError("rerank and fused are both 0: nothing would order")
        return self

    def score(self, rerank: float, fused: float) -> float:
        """Computes the score of one document from its two scores."""
        return math.fsum((self.rerank * rerank, self.fused * fused))


RERANKER_ALONE = Blend()


def read_blend(folder: Path) -> Blend:
    """Reads the blend of the model in ``folder``. Raises ModelError if its file is broken."""
    try:
        return Blend.model_validate_json((folder / BLEND_FILE).read_bytes())
    except FileNotFoundError:
        return RERANKER_ALONE
    except (OSError, ValidationError) as error:
        problem = describe_first_problem(error) if isinstance(error, ValidationError) else error.strerror
        raise ModelError(f"{folder / BLEND_FILE} cannot be read: {problem}", path=str(folder)) from error


def write_blend(folder: Path, blend: Blend) -> None:
    (folder / BLEND_FILE).write_bytes(orjson.dumps(blend.model_dump()))
