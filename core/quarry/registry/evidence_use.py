"""The use of evidence: what has decided on a collection's versions counts for less when it decides again.

A verdict is spent with the row of its version, in one commit. What registers nothing spends nothing.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from quarry.registry.rankings import list_rankings
from quarry.registry.versions import list_versions
from quarry.training.hashes import Marks, renew_marks, unpack_marks
from quarry.training.spec import ModelVerdict, TrainingResult, TuningResult

SHARED = 0.1
"""Of the smaller of two sets of queries: with so many in both, they are the same evidence.

Measured by the smaller one, a set that grows around what has decided stays what it was; with a low bound, so
does one of which some are exchanged or drawn anew. A set is compared with all earlier ones together, too:
below this share, over nine tenths of what decides is fresh.
"""
_UNDECIDED: Collection[ModelVerdict] = ("BAD_DATA", "INSUFFICIENT_DATA")
"""They look at no difference, and can call nothing improved by chance."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict that was given on a version.

    Attributes:
        model: the version of a model, or of a ranking configuration.
        attempt: of the training. One that went on after it had been registered registers once more, and has
            decided once.
        queries: marks of those that decided; None: held-out clicks did.
    """

    model: str
    attempt: str
    queries: Marks | None


def read_decisions(connection: sa.Connection, collection: str) -> list[Decision]:
    """Reads all decisions of a collection, each attempt once."""
    found: dict[tuple[str, Marks | None], Decision] = {}
    results: list[tuple[str, TrainingResult | TuningResult | None]] = [
        *((version.name, version.result) for version in list_versions(connection, collection)),
        *((version.name, version.result) for version in list_rankings(connection, collection)),
    ]
    for name, result in results:
        for decision in _read_decisions(name, result):
            found[decision.attempt or decision.model, decision.queries] = decision
    return list(found.values())


@dataclass(frozen=True, slots=True)
class EvidenceUse:
    """The decisions that rested on evidence before."""

    decisions: Sequence[Decision] = ()

    def exclude(self, *, model: str = "", attempt: str = "") -> "EvidenceUse":
        """Excludes what was decided on a version, or in an attempt: what is judged anew is not another
        try."""
        return EvidenceUse(
            [
                one
                for one in self.decisions
                if not (model and one.model == model) and not (attempt and one.attempt == attempt)
            ]
        )

    def renew_marks(self, texts: Iterable[str]) -> "EvidenceUse":
        """Replaces former marks of these queries by today's, so that sets can be compared."""
        known = list(texts)
        return EvidenceUse(
            [
                replace(one, queries=None if one.queries is None else renew_marks(one.queries, known))
                for one in self.decisions
            ]
        )

    def count_by_clicks(self) -> int:
        """Counts verdicts of held-out clicks, which are one evidence however many come to them."""
        return sum(one.queries is None for one in self.decisions)

    def count_by_queries(self, marks: Marks) -> int:
        """Counts how often these have decided: verdicts of sets that share ``SHARED`` of the smaller set with
        this one, or more, and at least as often as ``SHARED`` of these have in whatever sets.
        """
        sets = [one.queries for one in self.decisions if one.queries]
        return max(sum(_is_same(one, marks) for one in sets), _count_sets(sets, marks))


def _read_decisions(name: str, result: TrainingResult | TuningResult | None) -> Iterator[Decision]:
    if result is None or result.evaluation.verdict in _UNDECIDED:
        return
    if result.evaluation.source == "clicks":
        yield Decision(name, result.attempt, None)
    elif result.decided_by:
        yield Decision(name, result.attempt, unpack_marks(result.decided_by))


def _is_same(some: Marks, others: Marks) -> bool:
    smaller = min(len(some), len(others))
    return smaller > 0 and len(some & others) >= SHARED * smaller


def _count_sets(sets: Iterable[Marks], marks: Marks) -> int:
    """Counts how often ``SHARED`` of the marks are in one of the sets, at least."""
    counts = Counter(mark for one in sets for mark in one & marks)
    times = 0
    while counts and sum(count > times for count in counts.values()) >= SHARED * len(marks):
        times += 1
    return times
