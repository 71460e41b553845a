"""Rules that let a re-ranker decide which candidates are negatives.

Sources: Qu et al., RocketQA, NAACL 2021 (``denoised``); Thakur et al., Fixing Data That Hurts Performance:
Cascading LLMs to Relabel Hard Negatives (RLHN), EMNLP 2025 Findings, arXiv 2505.16967, with a re-ranker in
place of the LLM (``relabelled``); Xiong et al., ANCE, ICLR 2021 (``refresh``).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from quarry_miner.examples import Chosen, PairCandidates
from quarry_miner.presets.base import Constants, Need, choose_first, declare_constant


@dataclass(frozen=True)
class Denoised(Constants):
    """Takes the most similar documents that the re-ranker is sure are no answer."""

    name: ClassVar[str] = "denoised"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.RERANKER, Need.CALIBRATION})
    members: ClassVar[tuple[str, ...]] = ("fused", "dense", "bm25")
    ceiling: float = declare_constant(0.1, 0, 1, "re-ranker's probability that a negative stays under")

    def select(
        self, pair: PairCandidates, count: int, corpus_size: int, rng: np.random.Generator
    ) -> list[Chosen]:
        return choose_first(pair, pair.rerank < self.ceiling, count, self.name)


@dataclass(frozen=True)
class Relabelled(Constants):
    """Looks at the most similar documents.

    Those that the re-ranker puts above the positive become positives, those that are too close below it
    are dropped, the others are negatives.

    Positives are given beside the ``count`` negatives, at most as many.
    """

    name: ClassVar[str] = "relabelled"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.RERANKER, Need.CALIBRATION})
    members: ClassVar[tuple[str, ...]] = ("fused", "dense", "bm25")
    gap: float = declare_constant(
        0.3, 0, 1, "of probability, below the positive, in which candidates are dropped"
    )

    def select(
        self, pair: PairCandidates, count: int, corpus_size: int, rng: np.random.Generator
    ) -> list[Chosen]:
        above = pair.rerank > pair.rerank_positive
        below = pair.rerank < pair.rerank_positive - self.gap
        negatives = choose_first(pair, below, count, self.name)
        places = np.flatnonzero(above)[:count]
        relabelled = [
            Chosen(int(pair.documents[place]), "relabelled:above-positive", self.name, label=1)
            for place in places
        ]
        return [*negatives, *relabelled]


@dataclass(frozen=True)
class Refresh(Constants):
    """Draws from what the model in training now ranks first, as ANCE refreshes its negatives."""

    name: ClassVar[str] = "refresh"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.RERANKER})
    members: ClassVar[tuple[str, ...]] = ("dense", "bm25")
    among: int = declare_constant(200, 1, 1_000, "candidates by the model's score that are drawn from")

    def select(
        self, pair: PairCandidates, count: int, corpus_size: int, rng: np.random.Generator
    ) -> list[Chosen]:
        places = np.argsort(-pair.judged, kind="stable")[: self.among]
        chosen = rng.choice(places, size=min(count, len(places)), replace=False)
        ordered = chosen[np.argsort(-pair.judged[chosen], kind="stable")]
        return [Chosen(int(pair.documents[place]), self.name, self.name) for place in ordered]
