"""Metrics of a run, and how sure they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ir_measures
import numpy as np
from ir_measures import RR, Measure, R, nDCG

from quarry_cli.inputs.judgments import Qrels

LOW_JUDGED = 0.5
"""Share of judged hits in the ten best under which figures are said to be doubtful."""
MEASURES: tuple[Measure, ...] = (nDCG @ 10, RR @ 3, RR @ 10, R @ 100)
RESAMPLES = 2_000
TOP = 10

Run = Mapping[str, Sequence[str]]
"""Document ids by query id, best first."""
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one run.

    Attributes:
        means: each metric over all judged queries; one that the run lacks counts 0, as in trec_eval -c.
        intervals: 95 % confidence intervals of the means over queries.
        judged_share: share of the ten best hits that have a judgment, averaged over queries with hits; None
            without hits.
        queries: judged ones.
    """

    means: dict[str, float]
    intervals: dict[str, Interval]
    judged_share: float | None
    queries: int


def measure_figures(run: Run, qrels: Qrels) -> Figures:
    """Measures ``run``. Documents without a judgment count as not relevant."""
    per_query = measure_queries(run, qrels, MEASURES)
    values = {name: list(found.values()) for name, found in per_query.items()}
    return Figures(
        {name: float(np.mean(found)) for name, found in values.items()},
        # sorted: the order of queries changes nothing
        {name: bootstrap_interval(sorted(found)) for name, found in values.items()},
        measure_judged_share(run, qrels),
        len(qrels),
    )


def measure_queries(run: Run, qrels: Qrels, measures: Sequence[Measure]) -> dict[str, dict[str, float]]:
    """Measures each judged query: values by measure and query id, 0 for a query that the run lacks."""
    found: dict[str, dict[str, float]] = {str(measure): dict.fromkeys(qrels, 0.0) for measure in measures}
    for metric in ir_measures.iter_calc(measures, qrels, _score_ranks(run)):
        if metric.query_id in qrels:
            found[str(metric.measure)][metric.query_id] = metric.value
    return found


def measure_judged_share(run: Run, qrels: Qrels) -> float | None:
    """Measures which share of the ten best hits has a judgment; None without hits."""
    tops = {query: ids[:TOP] for query, ids in run.items() if ids and query in qrels}
    shares = [sum(id in qrels[query] for id in ids) / len(ids) for query, ids in tops.items()]
    return float(np.mean(shares)) if shares else None


def _score_ranks(run: Run) -> dict[str, dict[str, float]]:
    # Scores that fall with the rank: measures sort by score and break ties in ways of their own.
    return {query: {id: float(-rank) for rank, id in enumerate(ids)} for query, ids in run.items()}


def bootstrap_interval(values: Sequence[float], seed: int = 0) -> Interval:
    """Computes the 2.5th and 97.5th percentile of the mean over resamples of ``values``, at least one.

    Source: percentile bootstrap; Efron and Tibshirani 1993, chapter 13.
    """
    random = np.random.default_rng(seed)
    observed = np.asarray(values, dtype=np.float64)
    means = [observed[random.integers(0, len(observed), len(observed))].mean() for _ in range(RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
