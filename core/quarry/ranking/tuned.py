"""A ranking configuration: how a collection's arms are asked and merged, unless a search says otherwise."""

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from quarry.ranking.queries import (
    DEFAULT_DEPTH,
    MAX_BOOST_SCALE,
    MAX_DEPTH,
    MAX_WEIGHT,
    ArmPlan,
    Rrf,
    WeightedSum,
    default_weight,
)
from quarry.ranking.weighting import QueryWeights, Trait

NAME = re.compile(r"([a-z0-9][a-z0-9_-]{0,63})/ranking@([1-9][0-9]{0,8})")


class RankingConfiguration(BaseModel):
    """Numbers that are fitted to a collection; they never change once they have a name.

    Attributes:
        weights: of each arm, 0 to 1,000; one that is not named has its default.
        boost_scale: what the boosts of the schema's fields are multiplied by.
        depth: candidates to take of each arm.
        by_query: how the dense arm's share depends on the query, by trait; empty: it does not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    fusion: Literal["weighted_sum", "rrf"] = "weighted_sum"
    weights: dict[str, float] = Field(default_factory=dict)
    boost_scale: float = Field(1.0, ge=0, le=MAX_BOOST_SCALE)
    depth: int = Field(DEFAULT_DEPTH, ge=1, le=MAX_DEPTH)
    by_query: dict[str, Trait] = Field(default_factory=dict)

    @property
    def method(self) -> Rrf | WeightedSum:
        if self.fusion == "rrf":
            return Rrf()
        return WeightedSum(QueryWeights(self.by_query) if self.by_query else None)

    def arms(self, names: tuple[str, ...]) -> tuple[ArmPlan, ...]:
        """Every arm that the collection has."""
        return tuple(
            ArmPlan(
                name,
                self.depth,
                min(MAX_WEIGHT, self.weights.get(name, default_weight(name, self.method))),
                self.boost_scale if name == "bm25" else 1.0,
            )
            for name in names
        )


class ServedRanking(BaseModel):
    """The configuration that serves a collection, as its row holds it."""

    model_config = ConfigDict(frozen=True)

    number: int
    configuration: RankingConfiguration


def ranking_name(collection: str, number: int) -> str:
    return f"{collection}/ranking@{number}"


def parse_ranking_name(name: str) -> tuple[str, int] | None:
    """Collection and number; None for what is no configuration's name."""
    found = NAME.fullmatch(name)
    return None if found is None else (found[1], int(found[2]))
