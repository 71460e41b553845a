"""The share of the dense arm for one query, by what the lists of the arms tell before they are merged."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from quarry.errors import OutOfRangeError, UnknownValueError
from quarry.ranking.fusion import ArmRun
from quarry.retrieval.bm25_arm import BM25
from quarry.retrieval.dense_arm import DENSE
from quarry.retrieval.registry import ARMS

SHARED = DENSE.name
"""The arm whose share depends on the query; the others divide what is left by their weights."""
MAX_LOGIT = 6.0
"""Of a share: no query leaves an arm with less than a four hundredth."""
_TOP = 10


@dataclass(frozen=True, slots=True)
class Trait:
    """The effect of one trait on the logit of the share.

    Attributes:
        slope: added for each deviation above the mean.
        mean: of the queries that it was fitted to; ``deviation``: their standard deviation, over 0.

    Raises:
        InvalidArgumentError: a number is not finite, or the deviation not over 0.
    """

    slope: float
    mean: float
    deviation: float

    def __post_init__(self) -> None:
        for name in ("slope", "mean", "deviation"):
            if not math.isfinite(getattr(self, name)):
                raise OutOfRangeError(name, "is not finite")
        if self.deviation <= 0:
            raise OutOfRangeError("deviation", f"{self.deviation} is not over 0")


@dataclass(frozen=True, slots=True)
class QueryWeights:
    """The share of the dense arm as a function of the query.

    Attributes:
        traits: by name, of ``list_traits``; those that are left out do nothing.

    Raises:
        InvalidArgumentError: there is no trait of this name.
    """

    traits: Mapping[str, Trait] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.traits:
            check_trait(name)

    def compute_share(self, usual: float, values: Mapping[str, float]) -> float:
        """Computes the share for a query with these traits, over 0 and under 1.

        Args:
            usual: share for a query of which every trait is the mean, 0 to 1. At 0 and 1 it stays that.
        """
        if not 0 < usual < 1:
            return usual
        moved = compute_logit(usual) + math.fsum(
            trait.slope * (values[name] - trait.mean) / trait.deviation for name, trait in self.traits.items()
        )
        return compute_sigmoid(min(MAX_LOGIT, max(-MAX_LOGIT, moved)))


def list_traits() -> tuple[str, ...]:
    """Lists what is known of a query, in a fixed order.

    They are the logarithm of its number of words; what a word of it can add to a BM25 score at most, on
    average, which is the more the rarer it is; the best bounded score of each arm; and how many of the arms'
    ten best documents are the same ones, 0 to 1.
    """
    return "words", "rarity", *(f"{arm}_best" for arm in ARMS), "agreement"


def check_trait(name: str) -> None:
    """Raises InvalidArgumentError if there is no trait of this name."""
    if name not in (known := list_traits()):
        raise UnknownValueError("name", f"{name[:80]!r} is not one of {', '.join(known)}")


def measure_traits(text: str, runs: Sequence[ArmRun]) -> dict[str, float]:
    """Measures the traits of a query by its arms' own candidates; an arm that is not there counts as one
    without any.

    Nothing depends on how deep an arm was asked, as long as that is ten documents.
    """
    own = {run.arm: run for run in runs}
    words = max(1, len(text.split()))
    best = {
        name: run.bound_score(run.candidates[0].score) if run.candidates else 0.0 for name, run in own.items()
    }
    tops = [{c.docno for c in run.candidates[:_TOP]} for run in own.values()]
    shared = len(set.intersection(*tops)) if len(tops) > 1 else 0
    return {
        "words": math.log1p(words),
        "rarity": own[BM25.name].high / words if BM25.name in own else 0.0,
        **{f"{arm}_best": best.get(arm, 0.0) for arm in ARMS},
        "agreement": shared / _TOP,
    }


def weigh_by_query(runs: Sequence[ArmRun], values: Mapping[str, float], by: QueryWeights) -> list[float]:
    """Weighs the runs for a query with these traits, in their order.

    Only where BM25 and the dense arm answered are the traits known; otherwise they are what they were.
    """
    weights = {run.arm: run.weight for run in runs}
    total = math.fsum(weights.values())
    if not {BM25.name, SHARED} <= weights.keys() or total <= 0:
        return list(weights.values())
    share = by.compute_share(weights[SHARED] / total, values)
    rest = math.fsum(weight for arm, weight in weights.items() if arm != SHARED)
    parts = {arm: (1 - share) * (weight / rest) if rest else 0.0 for arm, weight in weights.items()}
    return list((parts | {SHARED: share}).values())


def compute_logit(share: float) -> float:
    return math.log(share / (1 - share))


def compute_sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))
