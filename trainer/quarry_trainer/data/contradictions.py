"""Settles judgments that contradict each other, and says so in reports."""

from collections.abc import Sequence

from quarry.judgments import SHOWN, Disputed, describe_disputed, settle_judgments
from quarry.mining.spec import JudgedQuery
from quarry.training.spec import EvaluationReport


def settle_queries(queries: Sequence[JudgedQuery]) -> tuple[tuple[JudgedQuery, ...], Disputed]:
    """Settles the judgments of queries whose texts are one question, as ``settle_judgments`` does."""
    qrels, disputed = settle_judgments(
        {query.id: query.text for query in queries}, {query.id: query.judgments for query in queries}
    )
    return tuple(query.model_copy(update={"judgments": qrels[query.id]}) for query in queries), disputed


def add_disputed(report: EvaluationReport, disputed: Disputed) -> EvaluationReport:
    """Adds to ``report`` which judgments contradicted each other, with their number."""
    if not disputed:
        return report
    named = [{"query": query, "document_id": id} for query, id in disputed[:SHOWN]]
    details = {**report.details, "disputed": {"count": len(disputed), "examples": named}}
    return report.model_copy(
        update={"details": details, "advice": (*report.advice, *describe_disputed(disputed))}
    )
