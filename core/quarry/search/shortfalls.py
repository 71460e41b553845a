"""The parts that an answer lacks, and whether the caller can do with it."""

from collections.abc import Sequence
from dataclasses import dataclass

from quarry.errors import DeadlineExceeded, UnavailableError
from quarry.ranking.queries import Query
from quarry.ranking.ranking import Degradation, DegradationReason, DegradedStage, Total


@dataclass(frozen=True, slots=True)
class ArmState:
    """The progress of an arm that follows the log.

    Attributes:
        visible: sequence number up to which it answers with current versions.
        lacking: why it does not hold all documents; None if it does.
        behind: why its answers lack what was written long ago; None if they do not.
    """

    visible: int
    lacking: str | None
    behind: str | None = None


def report_late(arm: str) -> tuple[None, list[Degradation]]:
    """Returns what a search has of an arm that did not answer in time."""
    return None, [Degradation(arm, DegradationReason.TIMEOUT, f"the {arm} arm did not answer in time")]


def report_failure(stage: str, error: Exception, detail: str) -> Degradation:
    """Says that a stage was late, or that it failed, and why.

    Args:
        stage: the name of an arm, or a ``DegradedStage``.
        detail: what the answer is without.
    """
    if isinstance(error, TimeoutError | DeadlineExceeded):
        return Degradation(stage, DegradationReason.TIMEOUT, detail)
    return Degradation(stage, DegradationReason.UNAVAILABLE, f"{detail}: {error}")


def find_shortfall(arm: str, state: ArmState) -> list[Degradation]:
    """Tells why the arm's answers lack documents, if they do."""
    for reason, why in (
        (DegradationReason.REBUILDING, state.lacking),
        (DegradationReason.BEHIND, state.behind),
    ):
        if why is not None:
            return [Degradation(arm, reason, f"the {arm} arm: {why}")]
    return []


def refuse_incomplete(query: Query, degraded: Sequence[Degradation], nothing: bool) -> None:
    """Fails if nothing that is wanted is known, or if the caller wants all or nothing."""
    lacking = [d for d in degraded if d.incomplete]
    if not nothing and not (query.require_complete and lacking):
        return
    problem = "; ".join(d.detail for d in lacking) or "no arm was asked"
    if any(d.reason in (DegradationReason.TIMEOUT, DegradationReason.REDUCED_DEPTH) for d in lacking):
        raise DeadlineExceeded(problem)
    raise UnavailableError(problem)


def count_total(counted: int | None, degraded: list[Degradation], why: str = "") -> Total:
    """Counts how many documents match; adds to ``degraded`` where that could not be counted."""
    if counted is None:
        detail = "matching documents were not counted" + (f": {why}" if why else "")
        degraded.append(Degradation(DegradedStage.TOTAL, DegradationReason.UNAVAILABLE, detail))
    return Total(counted or 0, exact=counted is not None)
