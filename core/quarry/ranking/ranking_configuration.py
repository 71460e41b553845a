"""A ranking configuration: how a collection's arms are asked and merged, unless a search says otherwise."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from quarry.ranking.queries import (
    DEFAULT_DEPTH,
    ArmPlan,
    Rrf,
    WeightedSum,
    choose_default_weight,
)
from quarry.ranking.ranges import ARM_DEPTH, ARM_WEIGHT, BOOST_SCALE
from quarry.ranking.weighting import QueryWeights, Trait
from quarry.retrieval.registry import ARMS


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
    boost_scale: float = Field(1.0, ge=BOOST_SCALE.least, le=BOOST_SCALE.most)
    depth: int = Field(DEFAULT_DEPTH, ge=ARM_DEPTH.least, le=ARM_DEPTH.most)
    by_query: dict[str, Trait] = Field(default_factory=dict)

    @property
    def method(self) -> Rrf | WeightedSum:
        if self.fusion == "rrf":
            return Rrf()
        return WeightedSum(QueryWeights(self.by_query) if self.by_query else None)

    def plan_arms(self, names: tuple[str, ...]) -> tuple[ArmPlan, ...]:
        """Plans every arm that the collection has."""
        return tuple(
            ArmPlan(
                name,
                self.depth,
                min(ARM_WEIGHT.most, self.weights.get(name, choose_default_weight(name, self.method))),
                self.boost_scale if ARMS[name].boosts else 1.0,
            )
            for name in names
        )


class ServedRanking(BaseModel):
    """The configuration that serves a collection, as its row holds it."""

    model_config = ConfigDict(frozen=True)

    number: int
    configuration: RankingConfiguration
