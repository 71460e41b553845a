"""The one scale of the scores of a ranked list, which never rise from one rank to the next."""

from enum import IntEnum

MOST_SPREAD = 0.5
"""Of the values over and under 0, each has half of a stage's range."""


class ScoreBasis(IntEnum):
    """The basis of a document's score. A number over 0 is the stage of the last re-ranker that read it."""

    PINNED = -4
    """Nothing: no arm found it."""
    ORDERED = -3
    """BM25's own score, on a list that is ordered by fields."""
    BROWSED = -2
    """Nothing: the query is empty."""
    BM25 = -1
    """BM25 alone, beyond the depth that is merged."""
    FUSED = 0
    """The arms' scores, merged."""
    FIRST_STAGE = 1
    """The only re-ranker, or the first one of a cascade."""
    SECOND_STAGE = 2
    THIRD_STAGE = 3

    @property
    def re_ranked(self) -> bool:
        return self > 0


def scale_score(basis: ScoreBasis, raw: float, highest_fused: float = 1.0) -> float:
    """Maps what a document is ordered by to a scale that a whole list shares.

    A list has the documents of the last stage first, then those of the stage before it, and those that no
    re-ranker read below; so each stage has a range of its own, above that of the stage before.

    Args:
        raw: finite; the fused score, or what the blend of the stage's model makes of both scores.
        highest_fused: fused score that no document can exceed, over 0.

    Returns:
        From ``n`` to ``n + 1`` for stage ``n``; 0 to 1 for what was not re-ranked. What is ordered by fields
        keeps its score.
    """
    if basis.re_ranked:
        return basis + _bound_value(raw)
    if basis is ScoreBasis.ORDERED:
        return raw
    return min(1.0, max(0.0, raw / highest_fused))


def _bound_value(value: float) -> float:
    """Maps any number to 0 to 1, 0 to the middle. Each step is rounded by itself, so the order stays."""
    return 1 - MOST_SPREAD / (1 + value) if value >= 0 else MOST_SPREAD / (1 - value)
