"""What a preset is: a rule that looks at one (query, positive) pair and its candidates."""

from enum import StrEnum
from typing import Protocol

import numpy as np

from quarry_miner.examples import Chosen, PairCandidates


class Need(StrEnum):
    """Input that a preset cannot do without."""

    CLICKS = "clicks"
    RERANKER = "reranker"


class SpaceKind(StrEnum):
    """Where similarities are measured.

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

    name: str
    needs: frozenset[Need]
    space: SpaceKind
    members: tuple[str, ...]

    def select(
        self, pair: PairCandidates, count: int, corpus_size: int, rng: np.random.Generator
    ) -> list[Chosen]:
        """At most ``count`` documents, hardest first; fewer, or none, where the rule has no more.

        Args:
            corpus_size: documents there are: random draws are from all numbers below it.
            rng: seeded by the task's seed, the query's id and the positive's id: nothing else may be random.
        """
        ...
