"""Clicks of simulated users on an explored ranking, whose truth is known."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quarry.clicks.log import ClickLog

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """Users see rank k with probability ``1 / k``, and click what they see with its attraction.

    Attributes:
        attraction: shape ``(queries, documents)``.
        logging: documents of each query in the order that was shown, before exploration.
    """

    attraction: Float64
    logging: NDArray[np.int64]

    @classmethod
    def observe(cls, queries: int = 60, documents: int = 14, noise: float = 0.3, seed: int = 0) -> "World":
        random = np.random.default_rng(seed)
        attraction = random.beta(0.6, 1.8, (queries, documents))
        noisy = attraction + noise * random.standard_normal(attraction.shape)
        return cls(attraction, np.argsort(-noisy, axis=1))

    def orders(self, scores: Float64) -> dict[str, list[str]]:
        """Document ids by query, best first by ``scores``, shape as ``attraction``."""
        ranked = np.argsort(-scores, axis=1)
        return {f"q{q}": [f"q{q}-d{d}" for d in row] for q, row in enumerate(ranked.tolist())}

    def logged(self) -> dict[str, list[str]]:
        return {f"q{q}": [f"q{q}-d{d}" for d in row] for q, row in enumerate(self.logging.tolist())}

    def worth(self, orders: dict[str, list[str]], searches: NDArray[np.int64]) -> float:
        """What a search of these would bring, by the truth."""
        gains = 1 / np.log2(np.arange(2, 12))
        worth = [
            sum(
                g * self.attraction[q, int(id.split("-d")[1])]
                for g, id in zip(gains, orders[f"q{q}"], strict=False)
            )
            for q in range(len(self.attraction))
        ]
        return float(np.average(worth, weights=np.bincount(searches, minlength=len(worth))))

    def log(self, searches: int, seed: int, ranks: int = 10, swap: float = 0.5, owners: int = 50) -> ClickLog:
        """Pages of ``ranks`` hits, neighbours swapped as FairPairs does; 0: nothing is explored."""
        random = np.random.default_rng(seed)
        queries, documents = self.attraction.shape
        query = random.integers(queries, size=searches)
        order = np.tile(np.arange(ranks), (searches, 1))
        first = random.integers(2, size=searches)
        for place in range(ranks - 1):
            row = np.flatnonzero((place % 2 == first) & (random.random(searches) < swap))
            order[row, place], order[row, place + 1] = place + 1, place
        document = np.take_along_axis(self.logging[query][:, :ranks], order, axis=1)
        rank = np.tile(np.arange(1, ranks + 1), (searches, 1))
        neighbours = (order > 0).astype(np.float64) + (order < ranks - 1)
        probability = np.where(order + 1 == rank, 1 - neighbours * swap / 2, swap / 2)
        chance = self.attraction[query[:, None], document] / rank
        return ClickLog(
            queries=[f"q{q}" for q in range(queries)],
            texts=[f"Q{q}" for q in range(queries)],
            documents=[f"q{q}-d{d}" for q in range(queries) for d in range(documents)],
            query=query.astype(np.int32),
            search=np.arange(searches, dtype=np.int32),
            session=np.arange(searches, dtype=np.int32),
            owner=random.integers(owners, size=searches).astype(np.int32),
            time_us=np.arange(searches, dtype=np.int64),
            document=(query[:, None] * documents + document).astype(np.int32),
            rank=rank.astype(np.int32),
            clicked=random.random(chance.shape) < chance,
            refused=np.zeros(chance.shape, np.bool_),
            rank_before=(order + 1).astype(np.int32),
            ranker=np.zeros(searches, np.int32),
            rendered=np.ones(searches, np.bool_),
            rank_probability=probability,
        )
