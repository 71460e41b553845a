"""The written results of a training, with a model or without one."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from quarry.models.blend import Blend
from quarry.training.forms import read_model_form
from quarry.training.hashes import pack_marks
from quarry.training.spec import EvaluationReport, TrainingResult, TrainingSpec
from quarry_trainer.data.dataset import BadExamplesError, Examples
from quarry_trainer.learning.training_loop import LoopResult


def make_result(
    spec: TrainingSpec,
    evaluation: EvaluationReport,
    started: float,
    model: Path,
    loop: LoopResult,
    blend: Blend,
    examples: Examples | None = None,
    *,
    usable: Mapping[str, object] = {},
    notes: tuple[str, ...] = (),
    attempt: str = "",
    decided_by: Iterable[bytes] = (),
) -> TrainingResult:
    """Makes the result of the model in ``model``; ``started`` is by the monotonic clock; without examples it
    read texts.

    Args:
        usable: how many groups and negatives there were, and how many can be read.
        notes: of what was not read, for people.
        attempt: see ``name_attempt``; empty: of what is no verdict.
        decided_by: marks of the judged queries that the verdict rests on.
    """
    course = {"losses": loop.losses, "development_ndcg": loop.measured, "best_development_ndcg": loop.best}
    evaluation = _with_dropped(evaluation, examples)
    details = {**evaluation.details, **usable, "training": course}
    return _make_empty_result(spec, started, examples).model_copy(
        update={
            "evaluation": evaluation.model_copy(
                update={"details": details, "advice": (*evaluation.advice, *notes)}
            ),
            "steps": loop.steps,
            "joint_layers": read_model_form(model).joint_layers,
            "blend": blend,
            "has_model": True,
            "attempt": attempt,
            "decided_by": pack_marks(decided_by),
        }
    )


def refuse(
    spec: TrainingSpec, error: BadExamplesError, started: float, examples: Examples | None = None
) -> TrainingResult:
    """Refuses with a verdict without a model."""
    report = _with_dropped(EvaluationReport(verdict="BAD_DATA", advice=(str(error),)), examples)
    return _make_empty_result(spec, started, examples).model_copy(update={"evaluation": report})


def _with_dropped(report: EvaluationReport, examples: Examples | None) -> EvaluationReport:
    """Adds to a report which of the examples were not learned from."""
    if examples is None or not examples.dropped:
        return report
    details = {**report.details, "dropped": examples.dropped.as_json()}
    return report.model_copy(
        update={"details": details, "advice": (*report.advice, *examples.dropped.describe())}
    )


def _make_empty_result(spec: TrainingSpec, started: float, examples: Examples | None) -> TrainingResult:
    """Makes a result that says what was asked for, and that nothing came of it."""
    first_us, last_us = (examples.feedback_us if examples else None) or (None, None)
    return TrainingResult(
        evaluation=EvaluationReport(verdict="BAD_DATA"),
        kind=spec.kind,
        base=spec.base.name,
        teacher=spec.teacher.name if spec.teacher else "",
        examples=spec.examples_name or _describe_documents(spec),
        data_hash=examples.data_hash if examples else "",
        loss=spec.loss,
        steps=0,
        seed=spec.seed,
        joint_layers=0,
        max_tokens=spec.max_tokens,
        train_s=time.monotonic() - started,
        simulated=bool(examples and examples.simulated),
        feedback_start_us=first_us,
        feedback_end_us=last_us,
        has_model=False,
    )


def _describe_documents(spec: TrainingSpec) -> str:
    collections = spec.document_pretraining.collections if spec.document_pretraining else ()
    return "documents: " + ", ".join(name for name, _ in collections)
