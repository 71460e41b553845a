"""The cut of a re-ranked list by relevance, and when relevance can be told."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from quarry.ranking.ranking import Degradation, DegradationReason, DegradedStage, RankedDocument, Total


@dataclass(frozen=True, slots=True)
class FusedScale:
    """The scale of a search's fused scores, as a re-ranker that blends reads it: it was fitted to those, in
    [0, 1], that all arms gave by one ranking configuration.

    Attributes:
        highest: fused score that the formula can give at most, over 0.
        ranking: name of the ranking configuration that all arms are merged by; empty: the default; None: the
            search states arms, weights or fusion of its own.
        complete: no arm failed or was late.
    """

    highest: float = 1.0
    ranking: str | None = ""
    complete: bool = True


def lacks_arm(degraded: Sequence[Degradation]) -> bool:
    """Tells whether fused scores lack what an arm would have said."""
    failures = (DegradationReason.TIMEOUT, DegradationReason.UNAVAILABLE)
    return any(note.arm and note.reason in failures for note in degraded)


def keep_relevant(ranked: Sequence[RankedDocument], least: float) -> tuple[list[RankedDocument], Total]:
    """Keeps the documents whose relevance is known and at least ``least``, in their order.

    Their number is exact if the relevance of all documents is known; else there may be more of them.
    """
    known = [document for document in ranked if document.relevance is not None]
    kept = [document for document in known if (document.relevance or 0.0) >= least]
    return kept, Total(len(kept), exact=len(known) == len(ranked))


def with_unknown_named(note: Degradation) -> Degradation:
    """Adds to a note of a search with a bound what became of the hits that were not read."""
    if note.stage is not DegradedStage.RERANK:
        return note
    return replace(note, detail=f"{note.detail}; hits whose relevance is unknown for that are left out")
