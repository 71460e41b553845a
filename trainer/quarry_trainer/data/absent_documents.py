"""Judged documents that are not in the collection, and what reports say of them."""

from collections.abc import Sequence

from quarry.judgments import SHOWN
from quarry.mining.spec import JudgedQuery
from quarry.training.spec import EvaluationReport
from quarry_trainer.data.entities import TitlesOf, list_relevant


def find_absent_documents(queries: Sequence[JudgedQuery], titles: TitlesOf) -> tuple[str, ...]:
    """Finds the relevant documents of the queries that are not there, sorted.

    A misspelt id and a document that was deleted look the same: no order can find either.
    """
    wanted = sorted(set(list_relevant(queries)))
    there = titles(wanted)
    return tuple(id for id in wanted if id not in there)


def add_absent(
    report: EvaluationReport, absent: Sequence[str], queries: Sequence[JudgedQuery]
) -> EvaluationReport:
    """Adds to ``report`` how many of the queries' relevant documents are not in the collection, and some."""
    if not absent:
        return report
    of, named = len(set(list_relevant(queries))), list(absent[:SHOWN])
    details = {**report.details, "absent": {"count": len(absent), "of": of, "examples": named}}
    advice = (
        f"{len(absent):,} of {of:,} documents that the judgments call relevant are not in this collection, "
        f"and count as missed in every order: {', '.join(named)}; look whether ids and collection belong "
        "together"
    )
    return report.model_copy(update={"details": details, "advice": (*report.advice, advice)})
