"""How much the dense arm counts for one query, by what its lists tell before they are merged."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from quarry.errors import OutOfRangeError, UnknownValueError
from quarry.ranking.fusion import ArmRun

TRAITS = ("words", "rarity", "bm25_best", "dense_best", "agreement")
"""What is known of a query: the logarithm of its number of words; what a word of it can add to a BM25 score
at most, on average, which is the more the rarer it is; the best bounded score of each arm; and how many of
the arms' ten best documents are the same ones, 0 to 1."""
MAX_LOGIT = 6.0
"""Of a share: no query leaves an arm with less than a four hundredth."""
_TOP = 10


@dataclass(frozen=True, slots=True)
class Trait:
    """What one trait does to the logit of the share.

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
    """How the share of the dense arm depends on the query.

    Attributes:
        traits: by name, of ``TRAITS``; those that are left out do nothing.

    Raises:
        InvalidArgumentError: there is no trait of this name.
    """

    traits: Mapping[str, Trait] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.traits:
            check_trait(name)

    def share(self, usual: float, values: Mapping[str, float]) -> float:
        """The share for a query with these traits, over 0 and under 1.

        Args:
            usual: share for a query of which every trait is the mean, 0 to 1. At 0 and 1 it stays that.
        """
        if not 0 < usual < 1:
            return usual
        moved = logit(usual) + math.fsum(
            trait.slope * (values[name] - trait.mean) / trait.deviation for name, trait in self.traits.items()
        )
        return sigmoid(min(MAX_LOGIT, max(-MAX_LOGIT, moved)))


def check_trait(name: str) -> None:
    """Raises InvalidArgumentError if there is no trait of this name."""
    if name not in TRAITS:
        raise UnknownValueError("name", f"{name[:80]!r} is not one of {', '.join(TRAITS)}")


def traits_of(text: str, runs: Sequence[ArmRun]) -> dict[str, float]:
    """The traits of a query by its arms' own candidates; an arm that is not there counts as one without any.

    Nothing depends on how deep an arm was asked, as long as that is ten documents.
    """
    own = {run.arm: run for run in runs}
    words = max(1, len(text.split()))
    best = {
        name: run.bounded(run.candidates[0].score) if run.candidates else 0.0 for name, run in own.items()
    }
    tops = [{c.docno for c in run.candidates[:_TOP]} for run in own.values()]
    shared = len(set.intersection(*tops)) if len(tops) > 1 else 0
    return {
        "words": math.log1p(words),
        "rarity": own["bm25"].high / words if "bm25" in own else 0.0,
        "bm25_best": best.get("bm25", 0.0),
        "dense_best": best.get("dense", 0.0),
        "agreement": shared / _TOP,
    }


def weighted_by_query(runs: Sequence[ArmRun], values: Mapping[str, float], by: QueryWeights) -> list[float]:
    """Weights of the runs for a query with these traits, in their order.

    Only where both arms answered is there anything to divide; otherwise they are what they were.
    """
    weights = [run.weight for run in runs]
    places = {run.arm: place for place, run in enumerate(runs)}
    total = math.fsum(weights)
    if places.keys() != {"bm25", "dense"} or total <= 0:
        return weights
    share = by.share(weights[places["dense"]] / total, values)
    weights[places["dense"]], weights[places["bm25"]] = share, 1 - share
    return weights


def logit(share: float) -> float:
    return math.log(share / (1 - share))


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))
