"""Negatives by behaviour: documents that are clicked near the positive, but not too near.

Source: Fan, Pu, Zhang and Wu, Neighborhood-based Hard Negative Mining for Sequential Recommendation (GNNO),
SIGIR 2023, arXiv 2306.10047. Draws there are by softmax of J in [0, 1], which is close to uniform; here
chances are proportional to J.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from quarry_miner.examples import Chosen, PairCandidates
from quarry_miner.presets.base import Constants, Need, declare_constant, draw_places


@dataclass(frozen=True)
class Neighborhood(Constants):
    """Draws, in proportion to the overlap J, from candidates with 0 < J up to a ceiling; what is above it is
    taken for a false negative, as is what was clicked for the query.

    The ceiling is 0 until epoch ``first_epoch``, then rises by ``pace`` an epoch up to ``highest``.
    """

    name: ClassVar[str] = "neighborhood"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.CLICKS})
    members: ClassVar[tuple[str, ...]] = ("dense", "bm25")
    epoch: float = declare_constant(100.0, 0, 10_000, "of training, that negatives are drawn for")
    first_epoch: float = declare_constant(5.0, 0, 10_000, "epoch up to which the ceiling is 0")
    pace: float = declare_constant(0.01, 0, 1, "rise of the ceiling an epoch")
    highest: float = declare_constant(0.7, 0, 1, "highest ceiling")

    @property
    def ceiling(self) -> float:
        return min(self.highest, max(0.0, self.epoch - self.first_epoch) * self.pace)

    def select(
        self, pair: PairCandidates, count: int, corpus_size: int, rng: np.random.Generator
    ) -> list[Chosen]:
        # The ceiling is a product of decimals: 0.7 must not be cut off as 0.7000000001.
        kept = (pair.coclick > 0) & (pair.coclick <= self.ceiling + 1e-6) & ~pair.clicked
        places = np.flatnonzero(kept).astype(np.int32)
        chosen = draw_places(places, pair.coclick[places], count, rng)
        return [Chosen(int(pair.documents[place]), self.name, self.name) for place in chosen]
