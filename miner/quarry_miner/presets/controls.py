"""The controls of every rule: negatives at random, from the lexical arm, from other queries."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from quarry_miner.examples import Chosen, PairCandidates
from quarry_miner.presets.base import Constants, draw_documents


@dataclass(frozen=True)
class Random(Constants):
    """Takes any documents but the query's positives."""

    name: ClassVar[str] = "random"
    members: ClassVar[tuple[str, ...]] = ()

    def select(
        self, pair: PairCandidates, count: int, corpus_size: int, rng: np.random.Generator
    ) -> list[Chosen]:
        found = draw_documents(pair.excluded, count, corpus_size, rng)
        return [Chosen(number, self.name, self.name) for number in found]


@dataclass(frozen=True)
class Bm25(Constants):
    """Takes the documents that the lexical arm ranks first."""

    name: ClassVar[str] = "bm25"
    members: ClassVar[tuple[str, ...]] = ("bm25",)

    def select(
        self, pair: PairCandidates, count: int, corpus_size: int, rng: np.random.Generator
    ) -> list[Chosen]:
        return [Chosen(number, self.name, self.name) for number in rank_by_bm25(pair)[:count]]


@dataclass(frozen=True)
class InBatch(Constants):
    """Takes positives of other queries of the task, as a batch of training would bring them together."""

    name: ClassVar[str] = "in-batch"
    members: ClassVar[tuple[str, ...]] = ()

    def select(
        self, pair: PairCandidates, count: int, corpus_size: int, rng: np.random.Generator
    ) -> list[Chosen]:
        others = np.setdiff1d(pair.batch, pair.excluded)
        found = rng.choice(others, size=min(count, len(others)), replace=False)
        return [Chosen(int(number), self.name, self.name) for number in found]


def rank_by_bm25(pair: PairCandidates) -> list[int]:
    """Ranks documents in the lexical arm's order; none if it was not asked."""
    if "bm25" not in pair.members:
        return []
    ranks = pair.ranks[pair.members.index("bm25")]
    places = np.flatnonzero(ranks > 0)
    return [int(pair.documents[place]) for place in places[np.argsort(ranks[places])]]
