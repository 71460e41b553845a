"""Negatives by their similarity to the query, judged against the positive's.

Source: Moreira et al., NV-Retriever: Improving text embedding models with effective hard-negative mining,
arXiv 2407.15831. There a threshold is ``a * s(q, p)``; that rises above the positive where similarities are
below zero, as logits and some cosines are, so here, as in sentence-transformers, it is ``s(q, p) - |s(q,
p)| (1 - a)``. Each pair is measured by its own positive, as in the paper; sentence-transformers measures all
pairs of a query by the least similar of its positives.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from quarry_miner.examples import Bool, Chosen, Float32, Int32, PairCandidates
from quarry_miner.presets.base import Constants, choose_first, declare_constant, draw_places

LARGEST_TEMPERATURE = 10.0


def is_below_share(s_qd: Float32, s_qp: float, share: float) -> Bool:
    """Tells which similarities are not above ``share`` of the positive's, sign-safe."""
    # float32, as in sentence-transformers: a candidate on the line must fall on the same side.
    positive = np.float32(s_qp)
    kept: Bool = s_qd <= positive - np.abs(positive) * np.float32(1 - share)
    return kept


@dataclass(frozen=True)
class TopK(Constants):
    """Takes the most similar documents, whatever they are: 39 to 47 % of them were relevant when audited."""

    name: ClassVar[str] = "topk"

    def select(
        self, pair: PairCandidates, count: int, corpus_size: int, rng: np.random.Generator
    ) -> list[Chosen]:
        return choose_first(pair, np.ones(len(pair), np.bool_), count, self.name)


@dataclass(frozen=True)
class TopKShifted(Constants):
    """Takes the most similar documents but the first ``shift``."""

    name: ClassVar[str] = "topk-shifted"
    shift: int = declare_constant(10, 0, 1_000, "documents that are skipped")

    def select(
        self, pair: PairCandidates, count: int, corpus_size: int, rng: np.random.Generator
    ) -> list[Chosen]:
        return choose_first(pair, np.arange(len(pair)) >= self.shift, count, self.name)


@dataclass(frozen=True)
class TopKAbs(Constants):
    """Takes the most similar documents under a fixed similarity."""

    name: ClassVar[str] = "topk-abs"
    ceiling: float = declare_constant(0.7, -1, 1, "similarity that a negative stays under")

    def select(
        self, pair: PairCandidates, count: int, corpus_size: int, rng: np.random.Generator
    ) -> list[Chosen]:
        return choose_first(pair, pair.s_qd < self.ceiling, count, self.name)


@dataclass(frozen=True)
class MarginPos(Constants):
    """Takes the most similar documents, at least ``margin`` less similar than the positive."""

    name: ClassVar[str] = "margin-pos"
    margin: float = declare_constant(0.05, 0, 2, "how much less similar than the positive")

    def select(
        self, pair: PairCandidates, count: int, corpus_size: int, rng: np.random.Generator
    ) -> list[Chosen]:
        kept = pair.s_qd + np.float32(self.margin) <= np.float32(pair.s_qp)
        return choose_first(pair, kept, count, self.name)


@dataclass(frozen=True)
class PercPos(Constants):
    """Takes the most similar documents, at most ``share`` as similar as the positive."""

    name: ClassVar[str] = "perc-pos"
    share: float = declare_constant(0.95, 0, 1, "of the positive's similarity, that a negative stays under")

    def select(
        self, pair: PairCandidates, count: int, corpus_size: int, rng: np.random.Generator
    ) -> list[Chosen]:
        return choose_first(pair, is_below_share(pair.s_qd, pair.s_qp, self.share), count, self.name)


@dataclass(frozen=True)
class SampledTopK(Constants):
    """Draws from the first ``among`` that ``perc-pos`` keeps, by softmax of their similarity."""

    name: ClassVar[str] = "sampled-topk"
    share: float = declare_constant(0.95, 0, 1, "of the positive's similarity, that a negative stays under")
    among: int = declare_constant(10, 1, 1_000, "survivors that are drawn from")
    temperature: float = declare_constant(1.0, 0.001, LARGEST_TEMPERATURE, "of the softmax")

    def select(
        self, pair: PairCandidates, count: int, corpus_size: int, rng: np.random.Generator
    ) -> list[Chosen]:
        places = self._list_survivors(pair)
        return _choose_places(pair, _draw_by_softmax(pair, places, self.temperature, count, rng), self.name)

    def _list_survivors(self, pair: PairCandidates) -> Int32:
        kept = np.flatnonzero(is_below_share(pair.s_qd, pair.s_qp, self.share))[: self.among]
        return kept.astype(np.int32)


@dataclass(frozen=True)
class TopOneSampled(SampledTopK):
    """Takes the most similar that ``perc-pos`` keeps, and draws the others as ``sampled-topk`` does."""

    name: ClassVar[str] = "top1-sampled"

    def select(
        self, pair: PairCandidates, count: int, corpus_size: int, rng: np.random.Generator
    ) -> list[Chosen]:
        places = self._list_survivors(pair)
        rest = _draw_by_softmax(pair, places[1:], self.temperature, count - 1, rng)
        return _choose_places(pair, np.concatenate([places[:1], rest]), self.name)


def _draw_by_softmax(
    pair: PairCandidates, places: Int32, temperature: float, count: int, rng: np.random.Generator
) -> Int32:
    if count < 1 or not len(places):
        return places[:0]
    scores = pair.s_qd[places] / np.float32(temperature)
    return draw_places(places, np.exp(scores - scores.max()), count, rng)


def _choose_places(pair: PairCandidates, places: Int32, rule: str) -> list[Chosen]:
    return [Chosen(int(pair.documents[place]), rule, rule) for place in places]
