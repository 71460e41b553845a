"""Counts what of the examples is not learned from, and why, so that nothing is left out in silence."""

from collections import Counter
from enum import StrEnum

SHOWN = 5
"""Examples of each reason that are named."""
SHOWN_CHARACTERS = 80


class DropReason(StrEnum):
    """The reason for which a row, a document of a group or a group is dropped."""

    REPEATED = "repeated rows"
    OWN_POSITIVE = "rows of label 1 whose negative is their positive"
    CONTRADICTED = "negatives that answer the same question elsewhere in the examples"
    QUERY_WITHOUT_TEXT = "rows whose query has no word"
    UNKNOWN_POSITIVE = "groups whose positive the collection lacks"
    UNKNOWN_NEGATIVE = "negatives that the collection lacks"
    WORDLESS_POSITIVE = "groups whose positive has no word"
    WORDLESS_NEGATIVE = "negatives that have no word"
    COPY = "negatives that read as an answer of the same question does"
    NO_NEGATIVE = "groups that have no negative"


class Dropped:
    """The counts of dropped examples, by reason. Filled while the examples are read and while they get
    their texts."""

    def __init__(self) -> None:
        self._counts: Counter[DropReason] = Counter()
        self._named: dict[DropReason, list[str]] = {}

    def add(self, reason: DropReason, query_id: str, document_id: str = "") -> None:
        self._counts[reason] += 1
        named = self._named.setdefault(reason, [])
        if len(named) < SHOWN:
            named.append("/".join(part[:SHOWN_CHARACTERS] for part in (query_id, document_id) if part))

    def __getitem__(self, reason: DropReason) -> int:
        return self._counts[reason]

    def __bool__(self) -> bool:
        return bool(self._counts)

    def as_json(self) -> dict[str, dict[str, object]]:
        """Returns, by reason, ``count``, and ``examples`` as query id and document id."""
        return {
            reason.name.lower(): {"count": self._counts[reason], "examples": self._named[reason]}
            for reason in DropReason
            if self._counts[reason]
        }

    def describe(self) -> tuple[str, ...]:
        """Describes what was dropped in one sentence; none where nothing was."""
        said = [
            f"{self._counts[reason]:,} {reason} ({', '.join(self._named[reason])})"
            for reason in DropReason
            if self._counts[reason]
        ]
        return (f"of the examples these were not learned from: {'; '.join(said)}",) if said else ()
