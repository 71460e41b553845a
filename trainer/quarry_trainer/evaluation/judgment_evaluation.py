"""Compares orders by judged queries: measures with their intervals, and what the gate says of them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
from ir_measures import nDCG

from quarry.models.blend import Blend
from quarry.training.spec import EvaluationReport, Metric, Subject
from quarry_trainer.data.entities import NO_ENTITIES, Entities
from quarry_trainer.data.live import Float64, RankedQuery
from quarry_trainer.evaluation.orders import Scored, order_by_scores, score_by_fusion
from quarry_trainer.evaluation.resampling import Interval, estimate_mean_intervals
from quarry_trainer.evaluation.slices import ALL, KNOWN, UNSEEN, make_slices
from quarry_trainer.evaluation.training_gate import (
    DEFAULT_POLICY,
    JudgmentEvidence,
    TrainingGatePolicy,
    choose_level,
    judge,
    list_cautions,
)
from quarry_trainer.measures import NDCG, Qrels, list_clusters, list_judged_queries, measure_per_query

LEAST_OF_SLICE = 5
"""Queries that a slice needs to be reported."""


def evaluate_ranked(
    ranked: Sequence[RankedQuery],
    qrels: Qrels,
    candidate: Scored,
    serving: Scored | None = None,
    known: Mapping[str, bool] | None = None,
    *,
    earlier_decisions: int = 0,
    kept_out: int = 0,
    source: str = "judgments",
    compared_with: str = "",
    frequency: Mapping[str, int] | None = None,
    exact: Scored | None = None,
    entities: Entities = NO_ENTITIES,
    policy: TrainingGatePolicy = DEFAULT_POLICY,
) -> EvaluationReport:
    """Measures candidate, serving and fused orders of held-out queries, and judges the candidate.

    Intervals are paired over queries; those whose relevant documents are the same, or speak of the same
    things, are drawn together. ``metrics``
    have 95 % intervals; the one that decides is wider once evidence is ``earlier_decisions``, and in
    ``details``.

    Args:
        ranked: held-out queries. Those that ``qrels`` knows no relevant document of are left out.
        serving: None: the candidate is compared with the fused order.
        known: whether training saw a relevant document, by query; see ``Division.knows``.
        earlier_decisions: verdicts that these queries have given before.
        kept_out: queries that do not decide, since a model was trained on them.
        compared_with: name of what serves.
        frequency: how often each query is asked, by id.
        exact: the candidate in float32, if it serves in int8.
        entities: what relevant documents speak of.
    """
    grades = {query.query_id: qrels.get(query.query_id, {}) for query in ranked}
    judged = list_judged_queries(grades)
    subjects: dict[Subject, Scored] = {"candidate": candidate, "fused": score_by_fusion(ranked)}
    if serving is not None:
        subjects["serving"] = serving
    scored = [*subjects.values(), *([exact] if exact else [])]
    finite = all(bool(np.isfinite(scores).all()) for one in scored for scores in one.scores)
    if not (judged and finite):
        verdict, advice = judge(
            JudgmentEvidence(len(judged), 0, {}, kept_out=kept_out, finite=finite), earlier_decisions, policy
        )
        return EvaluationReport(
            verdict=verdict,
            advice=advice,
            source=source,
            queries=len(judged),
            compared_with=compared_with,
        )
    orders = {name: order_by_scores(ranked, one) for name, one in subjects.items()}
    values = {name: measure_per_query(one, grades) for name, one in orders.items()}
    base: Subject = "fused" if serving is None else "serving"
    values["difference"] = {m: v - values[base][m] for m, v in values["candidate"].items()}
    groups = {ALL: frozenset(judged), **make_slices(ranked, grades, known, frequency)}
    clusters = list_clusters(judged, grades, entities)
    metrics = _make_metrics(values, judged, groups, clusters)
    differences = {
        m.slice: Interval(m.value, m.lower, m.upper)
        for m in metrics
        if m.measure == NDCG and m.subject == "difference" and m.slice in (ALL, UNSEEN)
    }
    unseen = len(groups.get(UNSEEN, frozenset()) & set(judged))
    found = sum(any(grades[q.query_id].get(d, 0) > 0 for d in q.documents) for q in ranked)
    changed = any(orders["candidate"][id] != orders[base][id] for id in judged)
    quantization = _measure_quantization(ranked, exact, values["candidate"][NDCG], grades, clusters)
    evidence = JudgmentEvidence(
        len(judged), found, differences, unseen, kept_out, changed, quantization=quantization
    )
    verdict, advice = judge(evidence, earlier_decisions, policy)
    return EvaluationReport(
        verdict=verdict,
        advice=advice,
        cautions=list_cautions(verdict, unseen, policy, quantization),
        metrics=metrics,
        source=source,
        queries=len(judged),
        compared_with=compared_with,
        details=_make_details(evidence, earlier_decisions, len(ranked), clusters, candidate.blend),
    )


def _measure_quantization(
    ranked: Sequence[RankedQuery],
    exact: Scored | None,
    served: Float64,
    grades: Qrels,
    clusters: Sequence[frozenset[str]],
) -> Interval | None:
    """Measures, in nDCG@10, what serves less the same in float32."""
    if exact is None:
        return None
    lost = served - measure_per_query(order_by_scores(ranked, exact), grades, [nDCG @ 10])[NDCG]
    return estimate_mean_intervals(lost[:, None], clusters)[0]


def _make_metrics(
    values: Mapping[Subject, Mapping[str, Float64]],
    judged: Sequence[str],
    groups: Mapping[str, frozenset[str]],
    clusters: Sequence[frozenset[str]],
) -> tuple[Metric, ...]:
    """Makes all measures of the slices that the gate and people look at first, nDCG@10 of the others."""
    found: list[Metric] = []
    for name, ids in groups.items():
        rows = [place for place, id in enumerate(judged) if id in ids]
        main = name in (ALL, KNOWN, UNSEEN)
        if not rows or (not main and len(rows) < LEAST_OF_SLICE):
            continue
        own = [clusters[row] for row in rows]
        measures = list(values["difference"]) if main else [NDCG]
        named = [(subject, measure) for subject in values for measure in measures]
        table = np.column_stack([values[subject][measure][rows] for subject, measure in named])
        for (subject, measure), interval in zip(named, estimate_mean_intervals(table, own), strict=True):
            found.append(_make_metric(measure, name, subject, interval, len(rows)))
    return tuple(found)


def _make_metric(measure: str, slice: str, subject: Subject, interval: Interval, queries: int) -> Metric:
    lower = interval.lower if subject == "difference" else max(0.0, interval.lower)
    return Metric(
        measure=measure,
        slice=slice,
        subject=subject,
        value=interval.value,
        lower=lower,
        upper=interval.upper,
        queries=queries,
    )


def _make_details(
    evidence: JudgmentEvidence,
    earlier_decisions: int,
    ranked: int,
    clusters: Sequence[frozenset[str]],
    blend: Blend,
) -> dict[str, object]:
    level, rounded = choose_level(earlier_decisions), evidence.quantization
    sure = {name: interval.widen(level) for name, interval in evidence.differences.items()}
    return {
        "decides": {
            "level": level,
            "earlier_decisions": earlier_decisions,
            "differences": {name: asdict(interval) for name, interval in sure.items()},
        },
        "queries_without_relevant_document": ranked - evidence.queries,
        "queries_without_relevant_candidate": evidence.queries - evidence.found,
        "unseen_queries": evidence.unseen,
        "clusters": len(set(clusters)),
        "blend": blend.model_dump(),
        **({"quantization": asdict(rounded)} if rounded else {}),
    }
