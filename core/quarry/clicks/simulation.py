"""Click logs of simulated users whose relevance and examination are known, to check estimators by."""

from dataclasses import dataclass

import numpy as np

from quarry.clicks.log import Bool, ClickLog, Float64, Int64
from quarry.clicks.users import UserBehaviour, simulate_pages


@dataclass(frozen=True, slots=True)
class SimulatedWorld:
    """The queries and documents of a simulation, and their ranking.

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


def simulate_log(
    world: SimulatedWorld, behaviour: UserBehaviour, impressions: int, seed: int
) -> tuple[ClickLog, Float64]:
    """Simulates a log, and the relevance of each document, shape ``(queries * documents,)``; ids are
    numbers."""
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
        document, before, probability = _draw_fair_pairs(document, before, random)
    clicks = simulate_pages(relevance[query[:, None], document], behaviour, random)
    session = np.arange(impressions) // world.pages
    log = _make_log(relevance.shape, query, session, document, clicks.clicked, before, ranker, probability)
    return log, relevance.ravel()


def simulate_ranking(
    relevance: Float64,
    behaviour: UserBehaviour,
    searches: int,
    seed: int,
    *,
    skew: float = 1.0,
    swap: float = 0.0,
) -> ClickLog:
    """Simulates searches, each of another user, that show the hits of one fixed ranking.

    ``quarry simulate`` makes such searches.

    Args:
        relevance: float64 in [0, 1] of the hits of each query from rank 1, shape ``(queries, ranks)``, or
            ``(queries, intents, ranks)``. Document ``q * ranks + k`` is the hit of rank ``k + 1`` of query
            ``q``.
        skew: the k-th query of a random order is asked by ``1 / k ** skew``.
        swap: probability that neighbours change places.
    """
    random = np.random.default_rng(seed)
    queries, ranks = len(relevance), relevance.shape[-1]
    shares = np.arange(1.0, queries + 1) ** -skew
    query = random.permutation(queries)[random.choice(queries, searches, p=shares / shares.sum())]
    document = np.tile(np.arange(ranks), (searches, 1))
    document, before, probability = _draw_fair_pairs(document, document + 1, random, swap)
    seen = relevance[query]
    places = document if seen.ndim == 2 else document[:, None]
    clicks = simulate_pages(np.take_along_axis(seen, places, axis=-1), behaviour, random)
    ranker, session = np.zeros(searches, np.int64), np.arange(searches)
    shape = (queries, ranks)
    return _make_log(shape, query, session, document, clicks.clicked, before, ranker, probability)


def _make_log(
    shape: tuple[int, int],
    query: Int64,
    session: Int64,
    document: Int64,
    clicked: Bool,
    before: Int64,
    ranker: Int64,
    probability: Float64 | None,
) -> ClickLog:
    """Makes the log of searches of one page, for ``shape[0]`` queries with ``shape[1]`` documents each."""
    pages, ranks = document.shape
    names = [str(number) for number in range(shape[0])]
    return ClickLog(
        queries=names,
        texts=names,
        documents=[str(number) for number in range(shape[0] * shape[1])],
        query=query.astype(np.int32),
        search=np.arange(pages, dtype=np.int32),
        session=session.astype(np.int32),
        owner=session.astype(np.int32),
        time_us=np.arange(pages, dtype=np.int64),
        document=(document + query[:, None] * shape[1]).astype(np.int32),
        rank=np.tile(np.arange(1, ranks + 1, dtype=np.int32), (pages, 1)),
        clicked=clicked,
        refused=np.zeros(document.shape, bool),
        rank_before=before.astype(np.int32),
        ranker=ranker.astype(np.int32),
        rendered=np.ones(pages, bool),
        simulated=True,
        rank_probability=probability,
    )


def _draw_fair_pairs(
    document: Int64, before: Int64, random: np.random.Generator, chance: float = 0.5
) -> tuple[Int64, Int64, Float64]:
    """Draws documents, their places before, and the probability of the place that each has; all ``(n,
    r)``."""
    pages, ranks = document.shape
    order = np.tile(np.arange(ranks), (pages, 1))
    first = random.integers(2, size=pages)
    for place in range(ranks - 1):
        swap = np.flatnonzero((place % 2 == first) & (random.random(pages) < chance))
        order[swap, place], order[swap, place + 1] = place + 1, place
    document = np.take_along_axis(document, order, axis=1)
    before = np.take_along_axis(before, order, axis=1)
    # A hit moves up by half the chance and down by half of it, if there is a place; else it stays.
    paired = (before > 1).astype(np.float64) + (before < ranks)
    return document, before, np.where(order == np.arange(ranks), 1 - paired * chance / 2, chance / 2)
