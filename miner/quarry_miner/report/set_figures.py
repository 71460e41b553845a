"""The figures of a mining set's rows, read block by block: rungs, members, margins, suspects."""

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

BINS = 40
MARGINS = (-1.0, 1.0)
COSINES = (-1.0, 1.0)
SHOWN = 10
"""Hardest and most suspicious negatives that a report names, one a query."""


@dataclass(frozen=True, slots=True, order=True)
class Suspect:
    """A negative that people should look at. ``value`` is what it stands out by."""

    value: float
    query_id: str
    query: str
    positive_id: str
    negative_id: str
    s_qd: float
    s_qp: float
    s_pd: float
    rule: str


@dataclass(slots=True)
class Histogram:
    """Counts of values; those outside the range count in the first and the last bin."""

    range: tuple[float, float]
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def add(self, values: Float64) -> None:
        known = values[np.isfinite(values)]
        low, high = self.range
        self.counts += np.histogram(np.clip(known, low, np.nextafter(high, low)), BINS, self.range)[0]

    def as_json(self) -> dict[str, Any]:
        edges = np.linspace(*self.range, BINS + 1)
        return {"edges": [round(edge, 4) for edge in edges.tolist()], "counts": self.counts.tolist()}


class _Largest:
    """The ``SHOWN`` largest, one a query; ties by ids."""

    def __init__(self) -> None:
        self._best: dict[str, Suspect] = {}

    def add(self, values: Float64, table: pa.Table) -> None:
        wanted = np.flatnonzero(np.isfinite(values))
        wanted = wanted[np.argsort(-values[wanted], kind="stable")][: SHOWN * 20]
        for row, value in zip(table.take(wanted).to_pylist(), values[wanted].tolist(), strict=True):
            names = ("query_id", "query", "positive_id", "negative_id", "s_qd", "s_qp", "s_pd", "rule")
            one = Suspect(value, **{name: row[name] for name in names})
            if one.query_id not in self._best or self._best[one.query_id] < one:
                self._best[one.query_id] = one

    def list_all(self) -> list[Suspect]:
        return heapq.nlargest(SHOWN, self._best.values())


class SetFigures:
    """Add every block of a set's rows, then read.

    Attributes:
        rows: ``negatives`` of them have label 0, the others were re-labelled.
        covered: (query, positive) pairs with a negative.
        rungs: rows by rung; ``rules`` by rule; both of all rows.
        listed: negatives that each member lists; ``alone``: that no other lists; ``together``: that two list.
        without: by member, pairs that would lose a negative without it.
        near: negatives whose cosine to the positive is at least ``near_positive``.
        random: negatives on the random rung.
        margins: of s(q,d) - s(q,p); ``cosines`` of s(p,d). Negatives only.
    """

    def __init__(self, members: Sequence[str], near_positive: float) -> None:
        self.members, self._near_positive = tuple(members), near_positive
        self.rows = self.negatives = self.covered = self.near = self.random = 0
        self.rungs: Counter[str] = Counter()
        self.rules: Counter[str] = Counter()
        self.listed: Counter[str] = Counter()
        self.alone: Counter[str] = Counter()
        self.without: Counter[str] = Counter()
        self.together: Counter[tuple[str, str]] = Counter()
        self.margins, self.cosines = Histogram(MARGINS), Histogram(COSINES)
        self._hardest, self._suspicious = _Largest(), _Largest()

    def add(self, table: pa.Table) -> None:
        """Adds a block. All rows of a query are in one block."""
        self.rows += len(table)
        self.rungs.update(table["rung"].to_pylist())
        self.rules.update(table["rule"].to_pylist())
        negatives = table.filter(pa.array(_read_numbers(table, "label") == 0))
        self.negatives += len(negatives)
        self.random += negatives["rung"].to_pylist().count("random")
        pairs = list(
            zip(negatives["query_id"].to_pylist(), negatives["positive_id"].to_pylist(), strict=True)
        )
        self.covered += len(set(pairs))
        self._add_members(negatives, pairs)
        s_qd, s_qp, s_pd = (_read_numbers(negatives, name) for name in ("s_qd", "s_qp", "s_pd"))
        self.margins.add(s_qd - s_qp)
        self.cosines.add(s_pd)
        self.near += int((s_pd >= self._near_positive).sum())
        self._hardest.add(s_qd - s_qp, negatives)
        self._suspicious.add(measure_suspicion(negatives), negatives)

    def _add_members(self, negatives: pa.Table, pairs: Sequence[tuple[str, str]]) -> None:
        losing: dict[str, set[tuple[str, str]]] = {}
        for pair, members in zip(pairs, negatives["members"].to_pylist(), strict=True):
            names = sorted(member["name"] for member in members)
            self.listed.update(names)
            self.together.update((a, b) for i, a in enumerate(names) for b in names[i + 1 :])
            if len(names) == 1:
                self.alone[names[0]] += 1
                losing.setdefault(names[0], set()).add(pair)
        for name, lost in losing.items():
            self.without[name] += len(lost)

    @property
    def hardest(self) -> list[Suspect]:
        """The negatives with the largest s(q,d) - s(q,p)."""
        return self._hardest.list_all()

    @property
    def suspicious(self) -> list[Suspect]:
        """The negatives most likely relevant, by the re-ranker, else by their cosine to the positive."""
        return self._suspicious.list_all()

    def measure_jaccard(self, first: str, second: str) -> float:
        """Measures the overlap of the negatives that two members list: in both by in either."""
        a, b = sorted((first, second))
        both = self.listed[a] if a == b else self.together[a, b]
        either = self.listed[a] + self.listed[b] - both
        return both / either if either else 0.0


def measure_suspicion(negatives: pa.Table) -> Float64:
    """Measures how much speaks for a negative being relevant, for an order of people's looking."""
    found = read_evidence(negatives, "rerank")
    return found if np.isfinite(found).any() else _read_numbers(negatives, "s_pd")


def read_evidence(table: pa.Table, name: str) -> Float64:
    """Reads one kind of evidence, NaN where it is not known."""
    values = (dict(items).get(name, np.nan) for items in table["evidence"].to_pylist())
    return np.fromiter(values, np.float64, len(table))


def _read_numbers(table: pa.Table, name: str) -> Float64:
    numbers: Float64 = table[name].to_numpy().astype(np.float64)
    return numbers
