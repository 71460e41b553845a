"""Adds to a report what the models had read that a model was made from."""

from quarry.registry.names import parse_name
from quarry.training.provenance import TrainingProvenance
from quarry.training.spec import EvaluationReport


def add_lineage(report: EvaluationReport, before: TrainingProvenance, kept_out: int) -> EvaluationReport:
    """Adds to ``report`` what was known of the base, or of both models of a comparison, and what follows.

    Args:
        kept_out: queries that did not decide, since one of these had been trained on them.
    """
    details = {
        **report.details,
        "provenance": {
            "queries": len(before.queries),
            "documents": len(before.documents),
            "kept_out": kept_out,
            "unknown_lineage": sorted(before.unknown_lineage),
        },
    }
    advice = list(report.advice)
    if kept_out and (report.source == "judgments" or report.verdict == "INSUFFICIENT_DATA"):
        advice.append(f"{kept_out:,} queries do not decide, for the model learned from them before")
    # Of a name that is no version's nobody expects that it saw a collection's queries.
    if versions := sorted(name for name in before.unknown_lineage if parse_name(name)):
        advice.append(f"{', '.join(versions)} {_UNKNOWN}")
    return report.model_copy(update={"details": details, "advice": tuple(advice)})


_UNKNOWN = (
    "was made elsewhere and does not say what it was trained on: if that was some of these queries or their "
    "documents, the figures flatter what is made of it"
)
