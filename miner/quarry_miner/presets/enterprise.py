"""The nearest document that is closer to the query than the positive is, and than it is to the positive.

Source: Meghwani, Agarwal, Pattnayak, Patel and Panda, Hard Negative Mining for Domain-Specific Retrieval in
Enterprise Systems, ACL 2025 Industry, arXiv 2505.18366.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from quarry_miner.examples import Bool, Chosen, PairCandidates
from quarry_miner.presets.base import Constants, SpaceKind, choose_first


@dataclass(frozen=True)
class Enterprise2025(Constants):
    """The rule of the paper, not the paper's system: that joins six encoders where this has two members.

    Admissible: dist(q, d) < dist(q, p) and dist(q, d) < dist(p, d), strictly; the nearest to q are taken.

    Distances are cosine distances in the ensemble's space, so both conditions are on cosines. A pair whose
    positive is nearest has no admissible document and yields nothing: coverage is at most the share of pairs
    where the ensemble does not put the positive first. The paper takes one document a pair.
    """

    name: ClassVar[str] = "enterprise-2025"
    space: ClassVar[SpaceKind] = SpaceKind.ENSEMBLE
    members: ClassVar[tuple[str, ...]] = ("dense", "lsa")

    def select(
        self, pair: PairCandidates, count: int, corpus_size: int, rng: np.random.Generator
    ) -> list[Chosen]:
        return choose_first(pair, find_admissible(pair), count, self.name)


def find_admissible(pair: PairCandidates) -> Bool:
    """Finds the candidates for which query and candidate make the strictly shortest side of the triangle."""
    return (pair.s_qd > pair.s_qp) & (pair.s_qd > pair.s_pd)
