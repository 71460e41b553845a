"""The merging of what arms give into one list."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from quarry.ranking.fusion import (
    ArmRun,
    Fused,
    compute_highest_reciprocal_rank,
    fuse_reciprocal_ranks,
    fuse_weighted_sums,
)
from quarry.ranking.queries import Query, Rrf
from quarry.ranking.weighting import measure_traits, weigh_by_query


@dataclass(frozen=True, slots=True)
class Merged:
    """One list of what all arms gave.

    Attributes:
        fused: best first.
        runs: with the weights that they have for this query.
        highest: fused score that no document can exceed, over 0.
    """

    fused: list[Fused]
    runs: Sequence[ArmRun]
    highest: float


def merge(query: Query, runs: Sequence[ArmRun]) -> Merged:
    """Merges the runs as the query asks."""
    weighed = _weigh_runs(query, runs)
    return Merged(fuse_runs(query, weighed), weighed, _compute_highest_score(query, weighed))


def _weigh_runs(query: Query, runs: Sequence[ArmRun]) -> Sequence[ArmRun]:
    """Gives ``runs`` the weights that they have for this query."""
    by_query = None if isinstance(query.fusion, Rrf) else query.fusion.by_query
    if by_query is None:
        return runs
    weights = weigh_by_query(runs, measure_traits(query.text, runs), by_query)
    return [replace(run, weight=weight) for run, weight in zip(runs, weights, strict=True)]


def fuse_runs(query: Query, runs: Sequence[ArmRun]) -> list[Fused]:
    """Merges the runs into one list, best first, as the query asks."""
    if isinstance(query.fusion, Rrf):
        return fuse_reciprocal_ranks(runs, query.fusion.k)
    return fuse_weighted_sums(runs)


def _compute_highest_score(query: Query, runs: Sequence[ArmRun]) -> float:
    """Computes the fused score that no document can exceed, over 0."""
    if isinstance(query.fusion, Rrf):
        return compute_highest_reciprocal_rank(runs, query.fusion.k) or 1.0
    return 1.0
