"""The share of negatives that answer their query after all: an estimate, its interval, and its source."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quarry.questions import make_question_key

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

Z = 1.96
"""Of a 95 % interval."""
LEAST_ROWS = 20
"""With fewer, no estimate is given."""


@dataclass(frozen=True, slots=True)
class FalseNegatives:
    """An estimated share.

    Attributes:
        lower: 95 % interval. So is ``upper``.
        source: ``audit``: judgments that mining did not know; ``reranker``: its probabilities; ``clicks``:
            relevance by the click model, relative to that of the positives.
        rows: negatives that the source tells of, of ``queries`` queries.
    """

    share: float
    lower: float
    upper: float
    source: str
    rows: int
    queries: int


def estimate_from_counts(false: NDArray[np.bool_], query: Int64, source: str) -> FalseNegatives:
    """Estimates the share of ``false`` with Wilson's interval. Rows of one query are no independent draws:
    there are as many draws as would give the variance between queries, and at most as many as rows.

    Source: Wilson, JASA 1927; design effect by Kish, Survey Sampling, 1965.
    """
    rows, share = len(false), float(false.mean())
    draws = rows / _measure_design_effect(false.astype(np.float64), query)
    lower, upper = compute_wilson(share, draws)
    return FalseNegatives(share, lower, upper, source, rows, len(np.unique(query)))


def estimate_from_probabilities(probability: Float64, query: Int64, source: str) -> FalseNegatives:
    """Estimates the mean of ``probability``; the interval comes from the variance between queries.

    Source: ratio estimator of a cluster sample; Cochran, Sampling Techniques, 1977, section 9.
    """
    share = float(probability.mean())
    error = Z * math.sqrt(_measure_cluster_variance(probability, query))
    queries = len(np.unique(query))
    return FalseNegatives(
        share, max(0.0, share - error), min(1.0, share + error), source, len(probability), queries
    )


def compute_wilson(share: float, draws: float) -> tuple[float, float]:
    """Computes the 95 % interval of a share seen in so many draws, over 0."""
    middle = (share + Z * Z / (2 * draws)) / (1 + Z * Z / draws)
    half = Z * math.sqrt(share * (1 - share) / draws + Z * Z / (4 * draws * draws)) / (1 + Z * Z / draws)
    return max(0.0, middle - half), min(1.0, middle + half)


def count_needed_draws(target: float) -> int:
    """Counts the draws without a single false negative whose upper bound is ``target``, in (0, 1)."""
    return math.ceil(Z * Z * (1 - target) / target)


def _measure_design_effect(values: Float64, query: Int64) -> float:
    share = values.mean()
    independent = share * (1 - share) / max(1, len(values) - 1)
    if independent == 0:
        return 1.0
    return float(min(max(1.0, _measure_cluster_variance(values, query) / independent), len(values)))


def _measure_cluster_variance(values: Float64, query: Int64) -> float:
    _, place = np.unique(query, return_inverse=True)
    clusters = int(place.max()) + 1
    if clusters < 2:
        return 0.25  # one query tells of no other: as wide as can be
    residual = np.bincount(place, values - values.mean(), clusters)
    return float((residual**2).sum() / len(values) ** 2 * clusters / (clusters - 1))


class Audit:
    """Judgments that say of some queries which documents are relevant, all of them.

    Args:
        relevant: by the query's text, as ``make_question_key`` has it.
        known: alike, the positives that mining was told of: it never chooses them.
    """

    def __init__(self, relevant: Mapping[str, frozenset[str]], known: Mapping[str, frozenset[str]]) -> None:
        self._relevant = relevant
        self.beyond = sum(len(ids - known.get(query, frozenset())) for query, ids in relevant.items())
        """Relevant documents that mining was not told of. Without any, the audit can find nothing."""

    def judge(self, queries: Sequence[str], negatives: Sequence[str]) -> NDArray[np.int8]:
        """Judges each: 1: relevant, 0: not, -1: the query was not audited. ``queries`` are texts."""
        keys = map(make_question_key, queries)
        said = (
            negative in self._relevant[key] if key in self._relevant else -1
            for key, negative in zip(keys, negatives, strict=True)
        )
        return np.fromiter(said, np.int8, len(queries))
