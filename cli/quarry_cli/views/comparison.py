"""Two runs side by side: paired differences, and the queries that changed most."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ir_measures import Measure
from rich import box
from rich.table import Table

from quarry_cli.console import count_things, make_plain, note, out, warn
from quarry_cli.inputs.judgments import Qrels
from quarry_cli.views.figures import (
    LOW_JUDGED,
    Interval,
    Run,
    bootstrap_interval,
    measure_judged_share,
    measure_queries,
)

SHOWN_CHANGES = 10
SAME = 1e-9
"""Values that are nearer than this are equal."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A measure of two runs, the second less the first.

    Attributes:
        interval: of the mean difference, 95 %, by paired bootstrap over queries.
        better: queries for which the second run is better; ``worse`` and ``equal`` likewise.
    """

    measure: str
    first: float
    second: float
    interval: Interval
    better: int
    worse: int
    equal: int

    @property
    def mean(self) -> float:
        return self.second - self.first


@dataclass(frozen=True, slots=True)
class Change:
    """A query whose value changed, by the first of the measures."""

    query: str
    first: float
    second: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """The comparison of two runs over the same judged queries.

    Attributes:
        differences: by measure, in the order in which they were asked.
        changed: queries that changed most by the first measure, those that lost first.
        lacking: judged queries that each run lacks.
        judged_shares: of the ten best hits of each run; None without hits.
    """

    queries: int
    differences: tuple[Difference, ...]
    changed: tuple[Change, ...]
    lacking: tuple[int, int]
    judged_shares: tuple[float | None, float | None]


def compare_runs(first: Run, second: Run, qrels: Qrels, measures: Sequence[Measure]) -> Comparison:
    """Compares two runs on all judged queries. Raises as ir-measures does for what it cannot compute."""
    before, after = (measure_queries(run, qrels, measures) for run in (first, second))
    differences = tuple(_compare(name, before[name], after[name]) for name in before)
    leading = differences[0].measure
    changes = [Change(query, before[leading][query], after[leading][query]) for query in qrels]
    most = sorted(changes, key=lambda one: (-abs(one.second - one.first), one.query))[:SHOWN_CHANGES]
    return Comparison(
        len(qrels),
        differences,
        tuple(sorted((c for c in most if abs(c.second - c.first) > SAME), key=lambda c: c.second - c.first)),
        (len(qrels.keys() - first.keys()), len(qrels.keys() - second.keys())),
        (measure_judged_share(first, qrels), measure_judged_share(second, qrels)),
    )


def _compare(measure: str, before: Mapping[str, float], after: Mapping[str, float]) -> Difference:
    values = np.array([after[query] - before[query] for query in sorted(before)])
    better, worse = int((values > SAME).sum()), int((values < -SAME).sum())
    return Difference(
        measure,
        float(np.mean(list(before.values()))),
        float(np.mean(list(after.values()))),
        bootstrap_interval(values.tolist()),
        better,
        worse,
        len(values) - better - worse,
    )


def to_json(found: Comparison, texts: Mapping[str, str]) -> dict[str, Any]:
    return {
        "queries": found.queries,
        "measures": {
            one.measure: {
                "first": one.first,
                "second": one.second,
                "difference": one.mean,
                "interval": list(one.interval),
                "better": one.better,
                "worse": one.worse,
                "equal": one.equal,
            }
            for one in found.differences
        },
        "judged_at_10": dict(zip(("first", "second"), found.judged_shares, strict=True)),
        "lacking_queries": dict(zip(("first", "second"), found.lacking, strict=True)),
        "changed": [
            {
                "query_id": one.query,
                **({"text": texts[one.query]} if one.query in texts else {}),
                "first": one.first,
                "second": one.second,
                "difference": one.second - one.first,
            }
            for one in found.changed
        ],
    }


def show_comparison(found: Comparison, first: str, second: str, texts: Mapping[str, str]) -> None:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0), pad_edge=False)  # fits into 80 columns
    table.add_column("measure")
    for heading in ("first", "second", "difference"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="center", style="dim", no_wrap=True)
    for heading in ("better", "worse", "equal"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in found.differences:
        low, high = one.interval
        style = "green" if low > 0 else "red" if high < 0 else ""
        table.add_row(
            make_plain(one.measure),
            f"{one.first:.3f}",
            f"{one.second:.3f}",
            make_plain(f"{one.mean:+.3f}", style),
            f"{low:+.3f} to {high:+.3f}",
            *(f"{count:,}" for count in (one.better, one.worse, one.equal)),
        )
    out.print(table)
    queries = count_things(found.queries, "judged query", "judged queries")
    note(f"first: {first}, second: {second}; {queries}, paired bootstrap over queries")
    for name, lacking, share in zip((first, second), found.lacking, found.judged_shares, strict=True):
        if lacking:
            counts = "which counts 0" if lacking == 1 else "which count 0"
            warn(f"{name} lacks {lacking:,} of {queries}, {counts}")
        if share is not None and share < LOW_JUDGED:
            warn(f"{name}: {share:.0%} of the ten best hits have a judgment, and the others count as wrong")
    if found.changed:
        _show_changes(found, texts)


def _show_changes(found: Comparison, texts: Mapping[str, str]) -> None:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), title="queries that changed most")
    for heading in ("query", "first", "second", "difference"):
        table.add_column(heading, justify="left" if heading == "query" else "right")
    for one in found.changed:
        name = f"{one.query}  {texts[one.query]}" if one.query in texts else one.query
        values = f"{one.first:.3f}", f"{one.second:.3f}", f"{one.second - one.first:+.3f}"
        table.add_row(make_plain(name), *values)
    out.print(table)
    note(f"by {found.differences[0].measure}")
