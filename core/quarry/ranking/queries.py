"""The request of a search, checked and with every default filled in."""

import hashlib
from dataclasses import asdict, dataclass, replace

import orjson

from quarry.errors import OutOfRangeError
from quarry.filters import Filter
from quarry.ranking.cascade import DEFAULT_RERANK_DEPTH, Cascade, RerankStage, check_cascade
from quarry.ranking.fusion import DEFAULT_RRF_K
from quarry.ranking.ranges import ARM_DEPTH, ARM_WEIGHT, BOOST_SCALE, MIN_RELEVANCE, RERANK_DEPTH, RRF_K
from quarry.ranking.shaping import Shaping
from quarry.ranking.weighting import QueryWeights
from quarry.retrieval.ordering import OrderBy
from quarry.retrieval.registry import ARMS
from quarry.retrieval.text_query import SearchText, TextQuery

MAX_QUERY_BYTES = 8_192
DEFAULT_DEPTH = 100
MAX_RANKED = 1_000


@dataclass(frozen=True, slots=True)
class ArmPlan:
    """The use of one arm in a search.

    Attributes:
        name: of an arm that the collection has.
        depth: candidates to take, 1 to 1,000.
        weight: share in the fused score, 0 to 1,000.
        boost_scale: what an arm that reads the boosts of the schema's fields multiplies them by, 0 to 100.

    Raises:
        InvalidArgumentError: out of range.
    """

    name: str
    depth: int = DEFAULT_DEPTH
    weight: float = 1.0
    boost_scale: float = 1.0

    def __post_init__(self) -> None:
        ARM_DEPTH.check(self.depth, "depth")
        ARM_WEIGHT.check(self.weight, "weight")
        BOOST_SCALE.check(self.boost_scale, "boost_scale")


@dataclass(frozen=True, slots=True)
class Rrf:
    """Reciprocal rank fusion with this k, 1 to 10,000."""

    k: float = DEFAULT_RRF_K

    def __post_init__(self) -> None:
        RRF_K.check(self.k, "k")


@dataclass(frozen=True, slots=True)
class WeightedSum:
    """Weighted sum of bounded scores.

    Attributes:
        by_query: how the arms' weights depend on the query; None: they do not.
    """

    by_query: QueryWeights | None = None


@dataclass(frozen=True, slots=True)
class RerankPlan:
    """The way a search is re-ranked.

    Attributes:
        model: the cross-encoder's name; of a cascade, the last one's.
        depth: candidates that it reads, 1 to 1,000.
        budget_s: longest time to spend, on all stages; None for what the deadline leaves.
        before: stages that read more candidates, before it does.
        min_relevance: least probability of relevance of what is given out, over 0 to 1; None for no bound.
    """

    model: str
    depth: int = DEFAULT_RERANK_DEPTH
    budget_s: float | None = None
    before: Cascade = ()
    min_relevance: float | None = None

    def __post_init__(self) -> None:
        if self.before:
            check_cascade(self.stages)
        RERANK_DEPTH.check(self.depth, "depth")
        if self.budget_s is not None and self.budget_s <= 0:
            raise OutOfRangeError("budget", "is not over 0")
        if self.min_relevance is not None:
            MIN_RELEVANCE.check(self.min_relevance, "min_relevance")

    @classmethod
    def from_stages(
        cls, stages: Cascade, budget_s: float | None = None, min_relevance: float | None = None
    ) -> "RerankPlan":
        """Makes the plan of one stage at least."""
        *before, last = stages
        return cls(last.model, last.depth, budget_s, tuple(before), min_relevance)

    @property
    def stages(self) -> Cascade:
        """All stages, in the order in which they read; one for a single re-ranker."""
        return *self.before, RerankStage(self.model, self.depth)


@dataclass(frozen=True, slots=True)
class Query:
    """One search.

    Attributes:
        text: what models read: what the user typed, spaces around it cut; empty to browse.
        filter: checked against the schema.
        arms: each arm once.
        tuned: name of the collection's ranking configuration that arms and fusion are from; empty: of none.
        deepens: what BM25 finds beyond its depth follows below what is merged.
        shaping: what is asked of the list beside; None: nothing.
        terms: what is looked for in texts, if that is more than the words of ``text``.
        order_by: fields that what matches by words is ordered by; empty for the order by relevance.
    """

    text: str
    arms: tuple[ArmPlan, ...]
    filter: Filter | None = None
    fusion: Rrf | WeightedSum = WeightedSum()
    rerank: RerankPlan | None = None
    require_complete: bool = False
    tuned: str = ""
    deepens: bool = False
    shaping: Shaping | None = None
    terms: TextQuery | None = None
    order_by: tuple[OrderBy, ...] = ()

    def __post_init__(self) -> None:
        check_query_text(self.text)

    @property
    def search_text(self) -> SearchText:
        """What the arms look for."""
        return self.text if self.terms is None else self.terms

    @property
    def min_relevance(self) -> float | None:
        return None if self.rerank is None else self.rerank.min_relevance

    def hash_configuration(self) -> str:
        """Hashes what decides the order of what is merged, the text and the filter left out."""
        ranking = asdict(replace(self, text="", filter=None, shaping=None, terms=None))
        del ranking["deepens"], ranking["shaping"], ranking["terms"]
        if self.shaping is not None and (shape := self.shaping.describe()):
            ranking["shaping"] = shape
        fusion = asdict(self.fusion)
        ranking["fusion"] = [type(self.fusion).__name__, fusion]
        # The hash is as old as the feedback log: without what came later it stays what it was.
        if fusion.get("by_query", ...) is None:
            del fusion["by_query"]
        for arm in ranking["arms"]:
            if arm["boost_scale"] == 1:
                del arm["boost_scale"]
        if not self.tuned:
            del ranking["tuned"]
        if not self.order_by:
            del ranking["order_by"]
        if self.rerank is not None and not self.rerank.before:
            del ranking["rerank"]["before"]
        if self.rerank is not None and self.rerank.min_relevance is None:
            del ranking["rerank"]["min_relevance"]
        return hashlib.blake2b(orjson.dumps(ranking), digest_size=8).hexdigest()


def check_query_text(text: str) -> None:
    """Raises InvalidArgumentError if ``text`` is too long."""
    size = len(text.encode())
    if size > MAX_QUERY_BYTES:
        raise OutOfRangeError("query", f"has {size} bytes, at most {MAX_QUERY_BYTES} are allowed")


def plan_default_arms(names: tuple[str, ...], fusion: Rrf | WeightedSum) -> tuple[ArmPlan, ...]:
    """Plans every arm that the collection has, with the default depth and weight."""
    return tuple(ArmPlan(name, weight=choose_default_weight(name, fusion)) for name in names)


def choose_default_weight(arm: str, fusion: Rrf | WeightedSum) -> float:
    """Returns what an arm counts where nothing else is said."""
    return 1.0 if isinstance(fusion, Rrf) else ARMS[arm].weight
