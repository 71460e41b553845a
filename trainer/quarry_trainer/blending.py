"""Chooses how much the fused score counts beside a re-ranker's, on queries held out for it.

A re-ranker that has seen little can be much worse than the order that it is given, and a few words that both
arms agree on are evidence that a cross-encoder does not have. So the fused score has a weight, and what is
doubtful is decided for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from ir_measures import nDCG

from quarry.models.blend import Blend
from quarry_trainer.gate import DEFAULT_POLICY
from quarry_trainer.halves import Places, halves_of, mean_of_halves
from quarry_trainer.live import Float64, RankedQuery
from quarry_trainer.measures import NDCG, Qrels, clusters_of, judged_queries, per_query
from quarry_trainer.resampling import standard_error
from quarry_trainer.scoring import FUSED_ALONE, blended_order

WEIGHTS = (0.0, *(2.0**power for power in range(-4, 6)))
"""Of the fused score, where both scores have a spread of 1 over a query's candidates. From 32 on, what the
re-ranker says decides no more than ties: the next step is to leave it out."""
NEAR = 0.5
"""Standard errors of the difference within which two blends are taken for equally good, after the rule of
Breiman, Friedman, Olshen and Stone 1984, section 3.4.3. Half of theirs: some dozens of queries have errors of
0.02, and whole ones would give most of what was learned away. The gate, not this, decides what serves."""
SURE = 1.0
"""Standard errors by which a blend must be better than the fused order alone, or the re-ranker is left out:
the best of a dozen blends of a useless one is by chance about half an error above."""
LEAST_UNPROVEN = 0.5
"""Weight of the fused score, at least, where too few of the questions that choose are for documents that
training did not see. For such queries the trained model alone is worse than the fused order as a rule, and no
worse with this; the others lose little of what they won (docs/training.md)."""
LEAST_PROOF = DEFAULT_POLICY.min_unseen
"""Unseen questions, however many wordings they have, from which on less of the fused score can be chosen."""
MAX_LOSS = DEFAULT_POLICY.max_unseen_loss
"""Of nDCG@10 on known or on unseen queries, against the fused order, whatever the others win by it. Means of
few queries differ by more than that by chance, which costs little: the next weight up is nearly as good."""


class _Asked(NamedTuple):
    """Places of known and of unseen queries, or of all, and what is relevant to each query."""

    halves: list[Places]
    clusters: list[frozenset[str]]


@dataclass(frozen=True, slots=True, eq=False)
class _Tried:
    blend: Blend
    ndcg: Float64


def fit_blend(
    ranked: Sequence[RankedQuery],
    scores: Sequence[Float64],
    qrels: Qrels,
    known: Mapping[str, bool] | None = None,
) -> Blend:
    """The blend with the best nDCG@10, or the nearest to the fused order that is about as good.

    It must serve queries whose documents the re-ranker was not trained on. So known and unseen queries, if
    ``halves_of`` tells them apart, count alike, however many they are, and neither pays for the other: a
    blend by which one of the two loses more than ``MAX_LOSS`` is none to choose. Beside known queries it
    takes ``LEAST_PROOF`` unseen questions to choose a weight under ``LEAST_UNPROVEN``.

    Args:
        ranked: development queries. Those without a relevant document are left out.
        scores: of the candidates of each.
        known: whether training saw a relevant document of the query; None: nothing is told apart.

    Returns:
        ``Blend(1, weight)``, or ``FUSED_ALONE`` if no weight is surely better, or none can be measured.
    """
    unit = _unit(ranked, scores)
    judged = judged_queries({query.query_id: qrels.get(query.query_id, {}) for query in ranked})
    if unit is None or not judged:
        return FUSED_ALONE
    clusters = clusters_of(judged, qrels)
    asked = _Asked(halves_of(judged, clusters, known), clusters)
    weights = WEIGHTS if _proven(judged, known, asked) else [w for w in WEIGHTS if w >= LEAST_UNPROVEN]
    blends = [*(Blend(rerank=1.0, fused=weight * unit) for weight in weights), FUSED_ALONE]
    wanted = {id: qrels[id] for id in judged}
    tried = [_Tried(blend, _ndcg(ranked, scores, blend, wanted)) for blend in blends]
    fused = tried[-1].ndcg
    harmless = [one for one in tried if _greatest_loss(fused - one.ndcg, asked.halves) <= MAX_LOSS]
    best = max(harmless, key=lambda one: mean_of_halves(one.ndcg, asked.halves))
    if _as_good(fused, best.ndcg, asked, SURE):
        return FUSED_ALONE
    near = [one for one in harmless if _as_good(one.ndcg, best.ndcg, asked, NEAR)]
    return near[-1].blend  # from the re-ranker alone towards the fused order


def unproven_blend(ranked: Sequence[RankedQuery], scores: Sequence[Float64]) -> Blend:
    """Where no judged query can choose: the least weight that the fused score has without proof."""
    unit = _unit(ranked, scores)
    return FUSED_ALONE if unit is None else Blend(rerank=1.0, fused=LEAST_UNPROVEN * unit)


def _proven(judged: Sequence[str], known: Mapping[str, bool] | None, asked: _Asked) -> bool:
    """Whether those that choose can tell what a blend does to unseen queries."""
    if known is None:
        return True
    unseen = [place for place, id in enumerate(judged) if not known.get(id, True)]
    return len(unseen) == len(judged) or len({asked.clusters[at] for at in unseen}) >= LEAST_PROOF


def _ndcg(ranked: Sequence[RankedQuery], scores: Sequence[Float64], blend: Blend, qrels: Qrels) -> Float64:
    orders = {
        query.query_id: blended_order(query, some, blend)
        for query, some in zip(ranked, scores, strict=True)
        if query.query_id in qrels
    }
    return per_query(orders, qrels, (nDCG @ 10,))[NDCG]


def _unit(ranked: Sequence[RankedQuery], scores: Sequence[Float64]) -> float | None:
    """How much wider the re-ranker's scores spread than the fused ones, by the median query; None if either
    does not spread. To three digits: the last bits of a fused score depend on which queries were encoded
    together, and the same training is to make the same files."""
    several = [(s, query.fused) for query, s in zip(ranked, scores, strict=True) if len(query) > 1]
    if not several:
        return None
    rerank = float(np.median([np.std(s) for s, _ in several]))
    fused = float(np.median([np.std(f) for _, f in several]))
    return float(f"{rerank / fused:.3g}") if rerank > 0 and fused > 0 else None


def _greatest_loss(lost: Float64, halves: Sequence[Places]) -> float:
    return max(float(lost[some].mean()) for some in halves)


def _as_good(values: Float64, best: Float64, asked: _Asked, errors: float) -> bool:
    """Whether the mean misses the best one's by no more than so many standard errors of the difference."""
    missing = best - values
    parts = [standard_error(missing[some], [asked.clusters[at] for at in some]) for some in asked.halves]
    error = float(np.hypot.reduce(parts)) / len(parts)
    return mean_of_halves(missing, asked.halves) <= errors * error
