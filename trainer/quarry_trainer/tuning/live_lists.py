"""Asks the live server for the arms' lists, and works out how good each way to merge them would be."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quarry.mining.spec import JudgedQuery
from quarry.ranking.fusion import DEFAULT_RRF_K
from quarry.ranking.weighting import SHARED, list_traits
from quarry.retrieval.registry import ARMS
from quarry.v1 import search_service_pb2 as pb
from quarry_trainer.loop.calls import ServerCalls
from quarry_trainer.tuning.fitting import SHARES, Float64, Gains, Setting

SCALES = (0.0, 0.5, 1.0, 2.0, 4.0)
"""Of the boosts that are tried: a title of 0.3 counts 0 to 1.2."""
DEPTHS = (50, 100, 200)
QUERIES_AT_ONCE = 16
TOP = 10
Counted = Callable[[int, int], None]
Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Lists:
    """The arms' scores of one query's documents.

    Attributes:
        documents: ids, ascending, so that ties break by id.
        ranks: of each arm, shape ``(arms, documents)``; infinite where the arm did not propose it.
        shared: scores in [0, 1] of the arm whose share is fitted, shape ``(documents,)``.
        rest: of the other arms, their mean by default weights.
        traits: in the order of ``list_traits``.
    """

    documents: tuple[str, ...]
    ranks: Float64
    shared: Float64
    rest: Float64
    traits: Float64


class LiveLists:
    """Asks for lists of a collection's arms, and leaves no trace of it in the feedback log."""

    def __init__(self, server: ServerCalls, collection: str, arms: tuple[str, ...]) -> None:
        self._server, self._collection, self._arms = server, collection, arms

    def measure_gains(
        self, queries: Sequence[JudgedQuery], scales: Sequence[float], counted: Counted
    ) -> dict[Setting, Gains]:
        """Measures nDCG@10 of every query by every way to merge that is tried; rows in the order of
        ``queries``.

        Args:
            scales: of the boosts of the schema's fields.
            counted: told how many lists of how many are there.

        Raises:
            QuarryError: what the server says if an arm does not answer in full.
        """
        found: dict[Setting, Gains] = {}
        for number, scale in enumerate(scales):
            rows = []
            for lists, query in zip(self._ask(queries, scale), queries, strict=True):
                rows.append(_measure_row(query, lists))
                counted(number * len(queries) + len(rows), len(scales) * len(queries))
            by_share, by_rrf, traits = (np.array(column) for column in zip(*rows, strict=True))
            for place, depth in enumerate(DEPTHS):
                found[Setting(scale, depth)] = Gains(by_share[:, place], by_rrf[:, place], traits)
        return found

    def _ask(self, queries: Sequence[JudgedQuery], scale: float) -> Iterator[Lists]:
        plans = [pb.Arm(name=arm, depth=max(DEPTHS)) for arm in self._arms]
        for plan in plans:
            if ARMS[plan.name].boosts:
                plan.boost_scale = scale
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            some = queries[start : start + QUERIES_AT_ONCE]
            request = pb.RetrieveRequest(
                collection=self._collection,
                queries=[pb.RetrieveQuery(id=query.id, text=query.text) for query in some],
                arms=plans,
                complete=True,
            )
            yield from map(_parse_lists, self._server.ask(self._server.search.Retrieve, request).results)


def _parse_lists(result: pb.RetrieveResult) -> Lists:
    documents = sorted({c.document_id for arm in result.arms for c in arm.candidates})
    place = {id: n for n, id in enumerate(documents)}
    shape = len(result.arms), len(documents)
    ranks, bounded = np.full(shape, np.inf), np.zeros(shape)
    fitted = np.array([arm.arm == SHARED for arm in result.arms])
    weights = np.array([ARMS[arm.arm].weight for arm in result.arms])
    for row, arm in enumerate(result.arms):
        own = [c.score for c in arm.candidates if c.rank]
        scores = np.full(len(documents), own[-1] if own else arm.low)
        for candidate in arm.candidates:
            scores[place[candidate.document_id]] = candidate.score
            if candidate.rank:
                ranks[row, place[candidate.document_id]] = candidate.rank
        if arm.high > arm.low:
            bounded[row] = np.clip((scores - arm.low) / (arm.high - arm.low), 0.0, 1.0)
    traits = np.array([result.traits[name] for name in list_traits()])
    shared, rest = (
        np.average(bounded[own], axis=0, weights=weights[own])
        for own in (fitted if fitted.any() else ~fitted, fitted if fitted.all() else ~fitted)
    )
    return Lists(tuple(documents), ranks, shared, rest, traits)


def _measure_row(query: JudgedQuery, lists: Lists) -> tuple[Float64, Float64, Float64]:
    """Measures nDCG@10 by depth and share, nDCG@10 of RRF by depth, and the traits."""
    worth = _make_measure(query, lists.documents)
    by_share, by_rrf = np.zeros((len(DEPTHS), len(SHARES))), np.zeros(len(DEPTHS))
    for row, depth in enumerate(DEPTHS):
        proposed = lists.ranks <= depth
        kept = np.flatnonzero(proposed.any(axis=0))
        reciprocal = np.where(proposed, 1 / (DEFAULT_RRF_K + lists.ranks), 0.0).sum(axis=0)
        by_rrf[row] = worth(kept, reciprocal)
        by_share[row] = [worth(kept, (1 - share) * lists.rest + share * lists.shared) for share in SHARES]
    return by_share, by_rrf, lists.traits


def _make_measure(query: JudgedQuery, documents: Sequence[str]) -> Callable[[Places, Float64], float]:
    """Makes a measure: nDCG@10 of some of the documents, by their places, ordered by scores of all."""
    gains = np.array([float(max(0, query.judgments.get(id, 0))) for id in documents])
    ideal = np.sort([float(max(0, grade)) for grade in query.judgments.values()])[::-1][:TOP]
    discounts = 1 / np.log2(np.arange(TOP) + 2)
    best = float(ideal @ discounts[: len(ideal)])

    def measure(kept: Places, scores: Float64) -> float:
        order = kept[np.argsort(-scores[kept], kind="stable")][:TOP]
        return float(gains[order] @ discounts[: len(order)]) / best

    return measure
