"""Neither the nearest nor any: documents in a band of similarity to the query and to the positive.

Source: Le, Nguyen, Nguyen and Nguyen, Optimizing Legal Document Retrieval in Vietnamese with Semi-Hard
Negative Mining, ICCCI 2025, arXiv 2507.14619. Their window is not public. What is: half of the nearest
documents had a cosine of 0.9 or more to the positive, and training on two of them a query halved the
re-ranker's MRR, while four fifths of their semi-hard ones were under 0.5; ten a query did best. The band
here is this project's: by rank in s(p, d), which carries over between corpora as cosines do not, under a
ceiling on the cosine itself.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from quarry_miner.examples import Bool, Chosen, PairCandidates
from quarry_miner.presets.base import Constants, choose_first, declare_constant
from quarry_miner.presets.positive_aware import is_below_share

NEGATIVES = 10
"""What the paper found best; the count that is asked for decides."""


@dataclass(frozen=True)
class SemiHard(Constants):
    """Takes documents under ``share`` of s(q, p) that lie, in s(p, d), from ``floor`` to ``top``.

    These two are quantiles of the pair's candidates. ``ceiling`` bounds s(p, d) besides.
    """

    name: ClassVar[str] = "semi-hard"
    share: float = declare_constant(
        0.95, 0, 1, "of the positive's similarity to the query, that a negative stays under"
    )
    floor: float = declare_constant(
        0.1, 0, 1, "share of the candidates, farthest from the positive, that are too easy"
    )
    top: float = declare_constant(
        0.8, 0, 1, "share of the candidates beyond which they are too near the positive"
    )
    ceiling: float = declare_constant(0.9, -1, 1, "similarity to the positive that a negative stays under")

    def select(
        self, pair: PairCandidates, count: int, corpus_size: int, rng: np.random.Generator
    ) -> list[Chosen]:
        return choose_first(pair, self.find_band(pair), count, self.name)

    def find_band(self, pair: PairCandidates) -> Bool:
        """Finds the candidates that are semi-hard."""
        if not len(pair):
            return np.zeros(0, np.bool_)
        low, high = np.quantile(pair.s_pd, [self.floor, max(self.floor, self.top)])
        far = (pair.s_pd >= low) & (pair.s_pd <= high) & (pair.s_pd < self.ceiling)
        kept: Bool = far & is_below_share(pair.s_qd, pair.s_qp, self.share)
        return kept
