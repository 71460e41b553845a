"""Merging what the arms propose into one order.

Both methods give each document the sum of its arms' contributions, added with ``math.fsum`` so that the
order of the arms does not matter; ties are for the caller to break by document id.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from quarry.types import Candidate, Docno

DEFAULT_RRF_K = 60.0


@dataclass(frozen=True, slots=True)
class ArmRun:
    """The candidates of one arm for one query.

    Attributes:
        arm: its name.
        candidates: best first, each document once.
        weight: 0 or more.
        low: lowest score that the arm's formula can give.
        high: highest score that it can give for this query.
        others: true scores of documents that other arms proposed, where they were computed.
    """

    arm: str
    candidates: Sequence[Candidate]
    weight: float
    low: float
    high: float
    others: Mapping[Docno, float] = field(default_factory=dict)

    def bound_score(self, score: float) -> float:
        """Maps ``score`` to [0, 1] by what the formula can give, whatever else was found."""
        if self.high <= self.low:
            return 0.0
        return min(1.0, max(0.0, (score - self.low) / (self.high - self.low)))


@dataclass(frozen=True, slots=True)
class Fused:
    """A document's place in the fused order: its score, and what each arm added to it."""

    docno: Docno
    score: float
    contributions: Mapping[str, float]


def fuse_reciprocal_ranks(runs: Sequence[ArmRun], k: float = DEFAULT_RRF_K) -> list[Fused]:
    """Gives each document the sum over runs of ``weight / (k + rank)``, ranks from 1, best first.

    Source: Cormack, Clarke and Büttcher, SIGIR 2009.
    """
    contributions: dict[Docno, dict[str, float]] = {}
    for run in runs:
        for rank, candidate in enumerate(run.candidates, start=1):
            contributions.setdefault(candidate.docno, {})[run.arm] = run.weight / (k + rank)
    return _order(contributions)


def compute_highest_reciprocal_rank(runs: Sequence[ArmRun], k: float = DEFAULT_RRF_K) -> float:
    """Computes the score of a document that is first in every run."""
    return math.fsum(run.weight / (k + 1) for run in runs)


def fuse_weighted_sums(runs: Sequence[ArmRun]) -> list[Fused]:
    """Averages over runs, by weight, scores bounded to [0, 1], best first; itself in [0, 1].

    A document that a run did not return has its true score there if ``others`` holds it, and otherwise
    the run's lowest returned score, since it cannot have been better than that. Bounds come from the
    formulas and the query alone, so a document's score does not depend on what else was found, nor on
    the depth. The lower bounds are the theoretical minima of Bruch, Gai and Ingber, TOIS 2023.
    """
    total = math.fsum(run.weight for run in runs)
    docnos = {candidate.docno for run in runs for candidate in run.candidates}
    contributions: dict[Docno, dict[str, float]] = {docno: {} for docno in docnos}
    for run in runs if total > 0 else ():
        scores = {**run.others, **{c.docno: c.score for c in run.candidates}}
        floor = run.candidates[-1].score if run.candidates else run.low
        for docno in docnos:
            share = run.weight / total * run.bound_score(scores.get(docno, floor))
            contributions[docno][run.arm] = share
    return _order(contributions)


def round_fused(score: float) -> float:
    """Rounds to five digits, for whoever derives something that must come out the same again.

    The last bits of a fused score depend on which queries the encoder read together.
    """
    return float(f"{score:.5g}")


def _order(contributions: Mapping[Docno, Mapping[str, float]]) -> list[Fused]:
    fused = [Fused(docno, math.fsum(parts.values()), parts) for docno, parts in contributions.items()]
    return sorted(fused, key=lambda f: (-f.score, f.docno))
