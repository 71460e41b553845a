"""The verdict on a tuning: whether its orders are proven better than those that people get now."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from quarry.clicks.log import ClickLog
from quarry.mining.spec import JudgedQuery
from quarry.training.spec import EvaluationReport, Metric, Subject
from quarry_trainer.data.entities import NO_ENTITIES, Entities
from quarry_trainer.evaluation.click_evaluation import OrdersOf, evaluate_clicks
from quarry_trainer.evaluation.resampling import Interval, estimate_mean_intervals
from quarry_trainer.evaluation.slices import ALL
from quarry_trainer.evaluation.training_gate import JudgmentEvidence, choose_level, judge
from quarry_trainer.measures import (
    NDCG,
    Float64,
    Orders,
    list_clusters,
    list_judged_queries,
    measure_per_query,
)

Values = Mapping[str, Float64]
"""Each measure of each judged query, in the order of ``list_judged_queries``."""


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Two orders of the same queries, each merged by what was fitted without it in the one that is tuned.

    Attributes:
        found: queries of which either order has a relevant document.
        changed: whether any order differs.
    """

    judged: tuple[str, ...]
    clusters: tuple[frozenset[str], ...]
    tuned: Values
    serving: Values
    found: int
    changed: bool

    @classmethod
    def search(
        cls,
        queries: Sequence[JudgedQuery],
        tuned: Orders,
        serving: Orders,
        entities: Entities = NO_ENTITIES,
    ) -> "Comparison":
        """Compares the orders. Queries on the same things, which ``entities`` names, are one cluster."""
        qrels = {query.id: query.judgments for query in queries}
        ids = list_judged_queries(qrels)
        found = sum(any(qrels[id].get(d, 0) > 0 for d in (*tuned[id], *serving[id])) for id in ids)
        return cls(
            tuple(ids),
            tuple(list_clusters(ids, qrels, entities)),
            measure_per_query(tuned, qrels),
            measure_per_query(serving, qrels),
            found,
            any(tuned[id] != serving[id] for id in ids),
        )

    def compute_metrics(self) -> tuple[Metric, ...]:
        """Computes every measure of both orders and of the difference, with paired 95 % intervals."""
        subjects: dict[Subject, Values] = {
            "candidate": self.tuned,
            "serving": self.serving,
            "difference": {measure: values - self.serving[measure] for measure, values in self.tuned.items()},
        }
        named = [(measure, subject) for measure in self.tuned for subject in subjects]
        table = np.column_stack([subjects[subject][measure] for measure, subject in named])
        intervals = estimate_mean_intervals(table, self.clusters)
        return tuple(
            Metric(
                measure=measure,
                slice=ALL,
                subject=subject,
                value=interval.value,
                lower=interval.lower if subject == "difference" else max(0.0, interval.lower),
                upper=interval.upper,
                queries=len(self.judged),
            )
            for (measure, subject), interval in zip(named, intervals, strict=True)
        )


def rule_by_judgments(comparison: Comparison, earlier_decisions: int, compared_with: str) -> EvaluationReport:
    """Rules by judgments. Every query is unseen: no fit has read a query that shares a document with it, or
    what a document speaks of.

    Args:
        earlier_decisions: verdicts that these queries have given before.
        compared_with: the ranking configuration that serves; empty: the defaults do.
    """
    metrics = comparison.compute_metrics()
    own = next(m for m in metrics if m.measure == NDCG and m.subject == "difference")
    difference = Interval(own.value, own.lower, own.upper)
    number = len(comparison.judged)
    evidence = JudgmentEvidence(
        number, comparison.found, {ALL: difference}, number, changed=comparison.changed
    )
    verdict, advice = judge(evidence, earlier_decisions)
    level = choose_level(earlier_decisions)
    decides = {
        "level": level,
        "earlier_decisions": earlier_decisions,
        "differences": {ALL: asdict(difference.widen(level))},
    }
    return EvaluationReport(
        verdict=verdict,
        advice=advice,
        metrics=metrics,
        source="judgments",
        queries=number,
        compared_with=compared_with,
        details={"decides": decides, "clusters": len(set(comparison.clusters))},
    )


def rule_by_clicks(
    comparison: Comparison,
    log: ClickLog,
    orders_of: OrdersOf,
    earlier_decisions: int,
    seed: int,
    compared_with: str,
) -> EvaluationReport:
    """Rules by held-out clicks, the effect of ranks taken out; it looks at no positive."""
    report = evaluate_clicks(
        log,
        orders_of,
        "serving",
        earlier_decisions=earlier_decisions,
        seed=seed,
        compared_with=compared_with,
        unseen=list(dict.fromkeys(log.texts)),
    )
    return report.model_copy(update={"metrics": comparison.compute_metrics()})
