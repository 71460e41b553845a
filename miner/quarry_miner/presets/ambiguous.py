"""Negatives that are about as similar to the query as the positive.

Source: Zhou et al., SimANS: Simple Ambiguous Negatives Sampling for Dense Text Retrieval, EMNLP 2022.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from quarry_miner.examples import Chosen, Float32, PairCandidates
from quarry_miner.presets.base import Constants, declare_constant, draw_places


@dataclass(frozen=True)
class SimAns(Constants):
    """Draws with chances as exp(-a (scale (s(q,d) - s(q,p)) - b)^2).

    ``a`` and ``b`` are for inner products, whose differences are of the order of 10; cosines differ by some
    tenths, on which a = 0.5 hardly tells candidates apart, so differences are multiplied by ``scale``.
    """

    name: ClassVar[str] = "simans"
    a: float = declare_constant(0.5, 0, 1_000, "how quickly chances fall off")
    b: float = declare_constant(0.0, -10, 10, "difference, scaled, at which chances are best")
    scale: float = declare_constant(
        20.0, 0.001, 1_000, "what differences of cosines are multiplied by; 1 for none"
    )

    def select(
        self, pair: PairCandidates, count: int, corpus_size: int, rng: np.random.Generator
    ) -> list[Chosen]:
        places = np.arange(len(pair), dtype=np.int32)
        chosen = draw_places(places, self.weigh_candidates(pair), count, rng)
        return [Chosen(int(pair.documents[place]), self.name, self.name) for place in chosen]

    def weigh_candidates(self, pair: PairCandidates) -> Float32:
        """Weighs each candidate relative to the best one."""
        apart = self.scale * (pair.s_qd.astype(np.float64) - pair.s_qp) - self.b
        exponent = -self.a * apart**2
        # Far from the positive all chances underflow to zero; only their ratios matter.
        chances: Float32 = np.exp(exponent - exponent.max(initial=-np.inf)).astype(np.float32)
        return chances
