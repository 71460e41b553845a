"""Metrics of a run, and how sure they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ir_measures
import numpy as np
from ir_measures import RR, Measure, R, nDCG

from quarry_cli.inputs.judgments import Qrels

MEASURES: tuple[Measure, ...] = (nDCG @ 10, RR @ 3, RR @ 10, R @ 100)
RESAMPLES = 2_000

Run = Mapping[str, Sequence[str]]
"""Document ids by query id, best first."""


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one run.

    Attributes:
        means: each metric over all judged queries; one that the run lacks counts 0, as in trec_eval -c.
        ndcg_interval: 95 % confidence interval of nDCG@10's mean over queries.
        queries: judged ones.
    """

    means: dict[str, float]
    ndcg_interval: tuple[float, float]
    queries: int


def measure_figures(run: Run, qrels: Qrels) -> Figures:
    """Measures ``run``. Documents without a judgment count as not relevant."""
    per_query: dict[str, list[float]] = {str(measure): [] for measure in MEASURES}
    for metric in ir_measures.iter_calc(MEASURES, qrels, _measure_per_query(run)):
        per_query[str(metric.measure)].append(metric.value)
    return Figures(
        {name: float(np.mean(values)) for name, values in per_query.items()},
        bootstrap_interval(sorted(per_query["nDCG@10"])),  # sorted: the order of queries changes nothing
        len(qrels),
    )


def _measure_per_query(run: Run) -> dict[str, dict[str, float]]:
    # Scores that fall with the rank: measures sort by score and break ties in ways of their own.
    return {query: {id: float(-rank) for rank, id in enumerate(ids)} for query, ids in run.items()}


def bootstrap_interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """Computes the 2.5th and 97.5th percentile of the mean over resamples of ``values``, at least one.

    Source: percentile bootstrap; Efron and Tibshirani 1993, chapter 13.
    """
    random = np.random.default_rng(seed)
    observed = np.asarray(values, dtype=np.float64)
    means = [observed[random.integers(0, len(observed), len(observed))].mean() for _ in range(RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
