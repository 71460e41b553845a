"""The quality of an order, query by query, by judgments."""

from collections.abc import Mapping, Sequence

import ir_measures
import numpy as np
from ir_measures import RR, Measure, R, nDCG
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

MEASURES: tuple[Measure, ...] = (nDCG @ 10, RR @ 3, RR @ 10, R @ 50)
NDCG = str(nDCG @ 10)

Orders = Mapping[str, Sequence[str]]
"""Document ids by query id, best first."""
Qrels = Mapping[str, Mapping[str, int]]
"""Grades of judged documents by query id and document id; above 0 is relevant."""


def list_judged_queries(qrels: Qrels) -> list[str]:
    """Lists ids of the queries with a relevant document, sorted. By the others nothing can be told."""
    return sorted(id for id, grades in qrels.items() if any(grade > 0 for grade in grades.values()))


def list_clusters(
    judged: Sequence[str], qrels: Qrels, entities: Mapping[str, str] = {}
) -> list[frozenset[str]]:
    """Lists the relevant documents of each query, or what they speak of, where ``entities`` names it: of two
    with the same ones, one hardly tells more than both."""
    return [frozenset(entities.get(d, d) for d, grade in qrels[id].items() if grade > 0) for id in judged]


def measure_per_query(
    orders: Orders, qrels: Qrels, measures: Sequence[Measure] = MEASURES
) -> dict[str, Float64]:
    """Measures each of ``measures`` for each of ``list_judged_queries(qrels)``, in their order; float64 in
    [0, 1], by its name.

    A relevant document that an order lacks counts as missed, one without a judgment as not relevant, and a
    query without an order as 0.
    """
    judged = list_judged_queries(qrels)
    number = {id: place for place, id in enumerate(judged)}
    # trec_eval stumbles over negative grades, which are judgments of no relevance all the same.
    grades = {id: {d: max(grade, 0) for d, grade in qrels[id].items()} for id in judged}
    values = {str(measure): np.zeros(len(judged)) for measure in measures}
    for metric in ir_measures.iter_calc(measures, grades, _make_run(orders, number)):
        values[str(metric.measure)][number[metric.query_id]] = metric.value
    return values


def _make_run(orders: Orders, wanted: Mapping[str, int]) -> dict[str, dict[str, float]]:
    # Scores that fall with the rank: measures sort by score and break ties in ways of their own.
    return {
        query: {id: float(-rank) for rank, id in enumerate(orders[query])}
        for query in wanted
        if query in orders
    }
