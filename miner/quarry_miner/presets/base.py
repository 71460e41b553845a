"""A preset is a rule that looks at one (query, positive) pair and its candidates."""

from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, ClassVar, Protocol

import numpy as np

from quarry.errors import OutOfRangeError
from quarry_miner.examples import Bool, Chosen, Float32, Int32, PairCandidates


class Need(StrEnum):
    """Input that a preset cannot do without. CALIBRATION: a re-ranker whose scores tell probabilities."""

    CLICKS = "clicks"
    RERANKER = "reranker"
    CALIBRATION = "calibration"


class SpaceKind(StrEnum):
    """The space in which similarities are measured.

    DENSE: the collection's encoder, best passage. ENSEMBLE: PCA of all members' unit vectors, concatenated.
    """

    DENSE = "dense"
    ENSEMBLE = "ensemble"


class Preset(Protocol):
    """A frozen dataclass whose fields are the rule's constants, with their published or calibrated defaults.

    Attributes:
        name: as users give it.
        needs: FAILED_PRECONDITION without them.
        space: in which ``s_qd``, ``s_qp`` and ``s_pd`` are.
        members: asked by default.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[Need]]
    space: ClassVar[SpaceKind]
    members: ClassVar[tuple[str, ...]]

    def select(
        self, pair: PairCandidates, count: int, corpus_size: int, rng: np.random.Generator
    ) -> list[Chosen]:
        """Selects at most ``count`` documents, hardest first; fewer, or none, where the rule has no more.

        Args:
            corpus_size: documents there are: random draws are from all numbers below it.
            rng: seeded by the task's seed, the query's id and the positive's id: nothing else may be random.
        """
        ...


def declare_constant(default: float, low: float, high: float, meaning: str) -> Any:
    """Makes a field of a preset: a number from ``low`` to ``high``, whose ``meaning`` the docs list."""
    return field(default=default, metadata={"low": low, "high": high, "meaning": meaning})


@dataclass(frozen=True)
class Constants:
    """Base of presets: refuses constants that are out of range, and has the commonest class attributes.

    Raises:
        InvalidArgumentError: names the constant.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    space: ClassVar[SpaceKind] = SpaceKind.DENSE
    members: ClassVar[tuple[str, ...]] = ("dense",)

    def __post_init__(self) -> None:
        for one in fields(self):
            value, low, high = getattr(self, one.name), one.metadata["low"], one.metadata["high"]
            if not low <= value <= high:
                raise OutOfRangeError(one.name, f"is {value:g}, not {low:g} to {high:g}")


def choose_first(pair: PairCandidates, kept: Bool, count: int, rule: str) -> list[Chosen]:
    """Chooses the ``count`` candidates nearest to the query among ``kept``."""
    return [Chosen(int(n), rule, rule) for n in pair.documents[np.flatnonzero(kept)[:count]]]


def draw_places(places: Int32, weights: Float32, count: int, rng: np.random.Generator) -> Int32:
    """Draws at most ``count`` of ``places``, without replacement, with chances as ``weights``, nearest
    first."""
    possible = weights > 0
    places, weights = places[possible], weights[possible].astype(np.float64)
    if len(places) <= count:
        return places
    chosen = rng.choice(places, size=count, replace=False, p=weights / weights.sum())
    return np.sort(chosen)


def draw_documents(taken: Int32, count: int, corpus_size: int, rng: np.random.Generator) -> list[int]:
    """Draws documents from the whole corpus, each once, none of ``taken``; fewer if there are not enough."""
    left = corpus_size - len(np.unique(taken))
    if left <= count * 2:
        free = np.setdiff1d(np.arange(corpus_size, dtype=np.int32), taken)
        return [int(n) for n in rng.permutation(free)[:count]]
    known = set(taken.tolist())
    found: list[int] = []
    while len(found) < count:
        number = int(rng.integers(corpus_size))
        if number not in known:
            known.add(number)
            found.append(number)
    return found
