"""Chooses how much the fused score counts beside a re-ranker's, on queries held out for it.

A re-ranker learns what is to be added to a multiple of the fused score, and serves with the same multiple. On
queries that it has not seen it can still do harm, and then the fused score has to count for more, or alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ir_measures import nDCG

from quarry.models.blend import RERANKER_ALONE, Blend
from quarry_trainer.data.entities import NO_ENTITIES, Entities
from quarry_trainer.data.known_unseen import Places, average_over_parts, split_by_known
from quarry_trainer.data.live import Float64, RankedQuery
from quarry_trainer.evaluation.scoring import FUSED_ALONE, PairModel, order_by_blend, score_ranked
from quarry_trainer.evaluation.training_gate import DEFAULT_POLICY
from quarry_trainer.measures import NDCG, Qrels, list_clusters, list_judged_queries, measure_per_query
from quarry_trainer.trainings.development import Development

TIMES = (1.0, 2.0, 4.0, 8.0)
"""By how much the fused score may count more than it did in training."""
CAREFUL = 2.0
"""Of ``TIMES``, the least where too few of the questions that choose are for documents that training did not
see. Models harm those, and twice the fused score takes little from the others (by development queries, in
trials that no command repeats)."""
LEAST_PROOF = DEFAULT_POLICY.min_unseen
"""Unseen questions, however many wordings they have, from which on less can be chosen."""
MAX_LOSS = DEFAULT_POLICY.max_unseen_loss
"""Of nDCG@10 on known or on unseen queries, against the fused order, whatever the others win by it."""


class _Asked(NamedTuple):
    """Places of known and of unseen queries, or of all, and what is relevant to each query."""

    known_and_unseen: list[Places]
    clusters: list[frozenset[str]]


@dataclass(frozen=True, slots=True, eq=False)
class _Tried:
    blend: Blend
    ndcg: Float64


def choose_blend(model: PairModel, trained: Blend, development: Development) -> Blend:
    """Chooses how a model serves that was ``trained`` with a blend."""
    if not development.whole:
        return choose_unproven_blend(trained)
    scores = score_ranked(model, development.whole)
    return fit_blend(
        development.whole, scores, development.qrels, trained, development.known, development.entities
    )


def fit_blend(
    ranked: Sequence[RankedQuery],
    scores: Sequence[Float64],
    qrels: Qrels,
    trained: Blend,
    known: Mapping[str, bool] | None = None,
    entities: Entities = NO_ENTITIES,
) -> Blend:
    """Chooses the blend with the best nDCG@10; of equally good ones that nearest to the fused order.

    It must serve queries whose documents the re-ranker was not trained on. So known and unseen queries, if
    ``split_by_known`` tells them apart, count alike, however many they are, and neither pays for the other: a
    blend by which one of the two loses more than ``MAX_LOSS`` is not chosen. Beside known queries it takes
    ``LEAST_PROOF`` unseen questions to choose under ``CAREFUL``.

    Args:
        ranked: development queries. Those without a relevant document are left out.
        scores: of the candidates of each.
        trained: how the model's score and the fused one were added in training.
        known: whether training saw a relevant document of the query; None: nothing is told apart.
        entities: what relevant documents speak of; queries on the same things are one question.

    Returns:
        ``FUSED_ALONE`` if no blend is better than the fused order; ``choose_unproven_blend`` if nothing is
        judged.
    """
    judged = list_judged_queries({query.query_id: qrels.get(query.query_id, {}) for query in ranked})
    if not judged:
        return choose_unproven_blend(trained)
    clusters = list_clusters(judged, qrels, entities)
    asked = _Asked(split_by_known(judged, clusters, known), clusters)
    least = TIMES[0] if _can_prove(judged, known, asked) else CAREFUL
    wanted = {id: qrels[id] for id in judged}
    tried = [
        _Tried(b, _measure_ndcg(ranked, scores, b, wanted))
        for b in (*_list_blends(trained, least), FUSED_ALONE)
    ]
    fused = tried[-1].ndcg
    harmless = [
        one for one in tried if _find_greatest_loss(fused - one.ndcg, asked.known_and_unseen) <= MAX_LOSS
    ]
    from_fused_on = reversed(harmless)  # of equals the first is taken
    return max(from_fused_on, key=lambda one: average_over_parts(one.ndcg, asked.known_and_unseen)).blend


def choose_unproven_blend(trained: Blend) -> Blend:
    """Chooses the careful blend, where no judged query can choose."""
    return _list_blends(trained, CAREFUL)[0]


def _list_blends(trained: Blend, least: float) -> list[Blend]:
    """Lists blends from ``least`` times the fused score on, ever nearer to the fused order; the model alone
    if it does not blend."""
    if not trained.fused:
        return [RERANKER_ALONE]
    times = [some for some in TIMES if some >= least]
    return [Blend(rerank=trained.rerank, fused=some * trained.fused) for some in times]


def _can_prove(judged: Sequence[str], known: Mapping[str, bool] | None, asked: _Asked) -> bool:
    """Tells whether those that choose can tell what a blend does to unseen queries."""
    if known is None:
        return True
    unseen = [place for place, id in enumerate(judged) if not known.get(id, True)]
    return len(unseen) == len(judged) or len({asked.clusters[at] for at in unseen}) >= LEAST_PROOF


def _measure_ndcg(
    ranked: Sequence[RankedQuery], scores: Sequence[Float64], blend: Blend, qrels: Qrels
) -> Float64:
    orders = {
        query.query_id: order_by_blend(query, some, blend)
        for query, some in zip(ranked, scores, strict=True)
        if query.query_id in qrels
    }
    return measure_per_query(orders, qrels, (nDCG @ 10,))[NDCG]


def _find_greatest_loss(lost: Float64, known_and_unseen: Sequence[Places]) -> float:
    return max(float(lost[some].mean()) for some in known_and_unseen)
