"""Click logs of simulated users whose relevance and examination are known, to check estimators by."""

from dataclasses import dataclass

import numpy as np

from quarry_miner.clicks.base import ClickLog, Float64, Int64
from quarry_miner.users import UserBehaviour, simulate_pages


@dataclass(frozen=True, slots=True)
class SimulatedWorld:
    """What is asked, and how it is ranked.

    Attributes:
        queries: distinct ones, asked equally often.
        documents: of each query, more than are shown; their relevance is drawn from Beta(0.6, 1.8).
        ranks: hits of a page, each document at most once.
        rankers: that answer in turn, by chance.
        disagreement: of the rankers: each orders by relevance plus noise, uniform in [0, ``disagreement``).
        swaps: neighbours are swapped by chance: ranks (1, 2), (3, 4), ... or (2, 3), (4, 5), ..., each pair
            with probability 1/2, and the probabilities are logged.
        pages: of each session.
    """

    queries: int = 500
    documents: int = 20
    ranks: int = 10
    rankers: int = 8
    disagreement: float = 1.0
    swaps: bool = False
    pages: int = 2


def simulated_log(
    world: SimulatedWorld, behaviour: UserBehaviour, impressions: int, seed: int
) -> tuple[ClickLog, Float64]:
    """The log, and the relevance of each document, shape ``(queries * documents,)``; ids are numbers."""
    random = np.random.default_rng(seed)
    relevance = random.beta(0.6, 1.8, (world.queries, world.documents))
    scores = relevance + world.disagreement * random.random((world.rankers, *relevance.shape))
    orders = np.argsort(-scores, axis=2)[:, :, : world.ranks]
    query = random.integers(world.queries, size=impressions)
    ranker = random.integers(world.rankers, size=impressions)
    document = orders[ranker, query]
    before = np.tile(np.arange(1, world.ranks + 1), (impressions, 1))
    probability = None
    if world.swaps:
        document, before, probability = _fair_pairs(document, before, random)
    clicks = simulate_pages(relevance[query[:, None], document], behaviour, random)
    log = ClickLog(
        queries=[str(number) for number in range(world.queries)],
        documents=[str(number) for number in range(relevance.size)],
        query=query.astype(np.int32),
        session=(np.arange(impressions) // world.pages).astype(np.int32),
        time_us=np.arange(impressions, dtype=np.int64),
        document=(document + query[:, None] * world.documents).astype(np.int32),
        rank=np.tile(np.arange(1, world.ranks + 1, dtype=np.int32), (impressions, 1)),
        clicked=clicks.clicked,
        refused=np.zeros(document.shape, bool),
        rank_before=before.astype(np.int32),
        ranker=ranker.astype(np.int32),
        rendered=np.ones(impressions, bool),
        simulated=True,
        rank_probability=probability,
    )
    return log, relevance.ravel()


def _fair_pairs(document: Int64, before: Int64, random: np.random.Generator) -> tuple[Int64, Int64, Float64]:
    """Documents, their places before, and the probability of the place that each has; all ``(n, r)``."""
    pages, ranks = document.shape
    order = np.tile(np.arange(ranks), (pages, 1))
    first = random.integers(2, size=pages)
    for place in range(ranks - 1):
        swap = np.flatnonzero((place % 2 == first) & (random.random(pages) < 0.5))
        order[swap, place], order[swap, place + 1] = place + 1, place
    document = np.take_along_axis(document, order, axis=1)
    before = np.take_along_axis(before, order, axis=1)
    # A hit moves up by chance 1/4 and down by 1/4, if there is a place; else it stays.
    paired = (before > 1).astype(np.float64) + (before < ranks)
    return document, before, np.where(order == np.arange(ranks), 1 - paired / 4, 0.25)
