"""From a mining set's rows to its estimate of false negatives, by the best source that tells of enough."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quarry.questions import make_question_key
from quarry_miner.report.false_negatives import (
    LEAST_ROWS,
    Audit,
    FalseNegatives,
    estimate_from_counts,
    estimate_from_probabilities,
)
from quarry_miner.report.set_figures import read_evidence

Float64 = NDArray[np.float64]


class ClickedRelevance(Protocol):
    """Relevance by the click model, relative to that of the positives; NaN for pairs seldom examined."""

    def look_up(self, query: str, document_id: str) -> float: ...


class RelativeRelevance:
    """Estimates over the mean of the positives', at most 1.

    Args:
        estimates: by query, as ``make_question_key`` has it, and document id.
        positives: mean relevance of those that mining started from, over 0.
    """

    def __init__(self, estimates: Mapping[tuple[str, str], float], positives: float) -> None:
        self._estimates, self._positives = estimates, positives

    def look_up(self, query: str, document_id: str) -> float:
        found = self._estimates.get((make_question_key(query), document_id), np.nan)
        return float(np.minimum(1.0, found / self._positives))  # Python's min would make 1 of NaN


class FalseNegativeRows:
    """Add every block of a set's rows, then ask. Rows that were re-labelled are no negatives."""

    def __init__(self, audit: Audit | None, clicked: ClickedRelevance | None) -> None:
        self._audit, self._clicked = audit, clicked
        self._numbers: dict[str, int] = {}
        self._values: dict[str, list[Float64]] = {"audit": [], "reranker": [], "clicks": []}
        self._queries: dict[str, list[NDArray[np.int64]]] = {name: [] for name in self._values}

    def add(self, table: pa.Table) -> None:
        negatives = table.filter(pa.array(table["label"].to_numpy() == 0))
        ids = negatives["query_id"].to_pylist()
        numbers = np.array([self._numbers.setdefault(id, len(self._numbers)) for id in ids], np.int64)
        if self._audit is not None:
            told = self._audit.judge(negatives["query"].to_pylist(), negatives["negative_id"].to_pylist())
            said = told.astype(np.float64)
            self._keep("audit", np.where(said < 0, np.nan, said), numbers)
        self._keep("reranker", read_evidence(negatives, "rerank"), numbers)
        if self._clicked is not None:
            pairs = zip(negatives["query"].to_pylist(), negatives["negative_id"].to_pylist(), strict=True)
            values = np.array([self._clicked.look_up(query, id) for query, id in pairs], np.float64)
            self._keep("clicks", values, numbers)

    def estimate(self) -> tuple[FalseNegatives | None, tuple[str, ...]]:
        """Estimates from the audit, else the re-ranker, else clicks; says what is to know about it."""
        notes: list[str] = []
        if self._audit is not None and not self._audit.beyond:
            notes.append(
                "the audited judgments name no relevant document beyond the positives: mining never chooses "
                "those, so they say nothing of false negatives"
            )
        for source in self._values:
            if source == "audit" and (self._audit is None or not self._audit.beyond):
                continue
            values = np.concatenate([np.empty(0), *self._values[source]])
            if len(values) < LEAST_ROWS:
                if len(values):
                    notes.append(f"{source}: tells of {len(values)} negatives, too few for an estimate")
                continue
            queries = np.concatenate(self._queries[source])
            if source == "audit":
                return estimate_from_counts(values > 0.5, queries, source), tuple(notes)
            return estimate_from_probabilities(values, queries, source), (*notes, _CAVEATS[source])
        return None, tuple(notes)

    def _keep(self, source: str, values: Float64, numbers: NDArray[np.int64]) -> None:
        known = np.isfinite(values)
        self._values[source].append(values[known])
        self._queries[source].append(numbers[known])


_CAVEATS = {
    "reranker": (
        "false negatives are estimated by the re-ranker's own probabilities: it cannot see what it does not "
        "know, and a preset that filters by it leaves little for it to find"
    ),
    "clicks": (
        "false negatives are estimated from clicks on negatives that were examined often: of the others they "
        "say nothing, and a preset that drops what was clicked leaves little for them to find"
    ),
}
