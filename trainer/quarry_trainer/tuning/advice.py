"""The advice that people need beside a tuning's verdict: what happens to the re-ranker when it serves."""

from quarry.training.spec import Caution, EvaluationReport, TuningSpec


def with_advice(report: EvaluationReport, spec: TuningSpec) -> EvaluationReport:
    """Adds to the report what the re-rankers that serve lose once the new configuration serves."""
    notes: list[str] = []
    cautions: tuple[Caution, ...] = ()
    if spec.reranker:
        notes.append(
            f"{spec.reranker} re-ranked both orders; its blend was fitted to the fused scores that served "
            "then, so train it again, or evaluate it, when this serves"
        )
    if spec.calibrated:
        notes.append(_explain_no_relevance(spec))
        cautions = ("NO_RELEVANCE",) if report.verdict == "IMPROVED" else ()
    return report.model_copy(
        update={"advice": (*report.advice, *notes), "cautions": (*report.cautions, *cautions)}
    )


def _explain_no_relevance(spec: TuningSpec) -> str:
    return (
        f"the relevance of {', '.join(spec.calibrated)} is fitted to the fused scores that serve now: when "
        "this serves, hits have no relevance, and searches with min_relevance are refused. Then train the "
        "re-ranker again, under the new weights, or roll back "
        f"(`quarry tune {spec.collection} --rollback`)"
    )
