"""The tables and the plot of docs/flywheel.md, out of the lines that benchmarks/flywheel.py has written.

    python benchmarks/flywheel_table.py benchmarks/results/flywheel.jsonl --plot build/flywheel.svg

Means are over test queries (and seeds, where there are several). Queries with the same relevant documents are
one question in several wordings, so they are drawn together: 95 % intervals by bootstrap, p-values by
Fisher's randomization test (Smucker, Allan and Carterette, CIKM 2007), which turns the sign of a question's
differences. The last table compares each arm with `quarry` over the queries of all sets. Of rules for
negatives, which are many, p-values have Holm's correction; the other arms answer questions of their own.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
from flywheel import ARMS, COLLECTIONS, SETS
from matplotlib import pyplot
from numpy.typing import NDArray
from scipy import stats

from quarry_cli.judgments import read_qrels
from quarry_trainer.measures import clusters_of
from quarry_trainer.resampling import Interval, mean_intervals

MEASURES = ("RR@3", "RR@10", "nDCG@10")
NDCG = MEASURES[-1]
NAMES = {"RR@3": "MRR@3", "RR@10": "MRR@10", NDCG: NDCG}
OURS, FUSED = "quarry", "fused"
PERMUTATIONS = 9_999
STYLE = {"svg.hashsalt": "quarry", "svg.fonttype": "none", "font.size": 9}

Float64 = NDArray[np.float64]
Question = tuple[str, frozenset[str]]
"""A collection, and what is relevant in it."""
ByQuery = dict[str, dict[str, float]]
"""By measure: by query."""


@dataclass(frozen=True, slots=True)
class Measured:
    """An arm on a set: the mean over ``seeds``, by measure, by query."""

    seeds: int
    values: ByQuery

    @classmethod
    def of(cls, runs: list[ByQuery]) -> "Measured":
        means = {
            m: {q: round(float(np.mean([run[m][q] for run in runs])), 6) for q in runs[0][m]}
            for m in MEASURES
        }
        return cls(len(runs), means)

    def mean(self, measure: str) -> float:
        return float(np.mean(list(self.values[measure].values())))


@dataclass(frozen=True, slots=True)
class Sample:
    """Values of queries, and the question that each of them asks."""

    values: Float64
    questions: list[Question]

    @property
    def interval(self) -> Interval:
        return mean_intervals(self.values[:, None], self.questions)[0]

    @property
    def p_value(self) -> float:
        """Two-sided, of the mean's being 0."""
        sums: dict[Question, float] = defaultdict(float)
        for question, value in zip(self.questions, self.values, strict=True):
            sums[question] += value
        found = stats.permutation_test(
            (list(sums.values()),),
            np.sum,
            permutation_type="samples",
            vectorized=True,
            n_resamples=PERMUTATIONS,
            rng=np.random.default_rng(0),
        )
        return float(found.pvalue)


Found = dict[tuple[str, str], Measured]
"""By set and arm, in the order in which the benchmark has them."""


def read(path: Path) -> Found:
    runs: dict[tuple[str, str], list[ByQuery]] = defaultdict(list)
    for line in path.read_text().splitlines():
        one = json.loads(line)
        if "values" in one:
            runs[one["set"], one["arm"]].append(one["values"])
    return {(s, arm): Measured.of(runs[s, arm]) for s in SETS for arm in ARMS if (s, arm) in runs}


@cache
def questions(name: str) -> dict[str, Question]:
    """Of each test query of a set."""
    of = SETS[name]
    judged = read_qrels(COLLECTIONS / of.folder / "qrels" / f"{of.test}.tsv")
    clusters = clusters_of(list(judged), judged)
    return {query: (of.folder, cluster) for query, cluster in zip(judged, clusters, strict=True)}


def sample(found: Found, sets: list[str], arm: str, less: str = "", measure: str = NDCG) -> Sample:
    """An arm's values in all of ``sets``, less those of another arm."""
    values: list[float] = []
    asked: list[Question] = []
    for one in sets:
        other = found[one, less].values[measure] if less else {}
        for query, value in found[one, arm].values[measure].items():
            values.append(value - other[query] if less else value)
            asked.append(questions(one)[query])
    return Sample(np.array(values), asked)


def holm(values: dict[str, float]) -> dict[str, float]:
    """Adjusted p-values. Holm, Scandinavian Journal of Statistics, 1979."""
    adjusted: dict[str, float] = {}
    highest = 0.0
    for place, (name, value) in enumerate(sorted(values.items(), key=lambda item: item[1])):
        highest = max(highest, min(1.0, (len(values) - place) * value))
        adjusted[name] = highest
    return adjusted


def tables(found: Found) -> str:
    sets = list(dict.fromkeys(s for s, _ in found))
    return "\n".join([line for one in sets for line in (*_of_set(found, one), "")] + list(_against(found)))


def _of_set(found: Found, name: str) -> Iterator[str]:
    yield f"**{name}**\n"
    yield "| arm | seeds | MRR@3 | MRR@10 | nDCG@10 | 95 % | less fused | 95 % |"
    yield "|---|---|---|---|---|---|---|---|"
    for arm in ARMS:
        if (name, arm) in found:
            measured = found[name, arm]
            means = " | ".join(f"{measured.mean(m):.3f}" for m in MEASURES)
            own = sample(found, [name], arm).interval
            less = _gain(found, name, arm) if (name, FUSED) in found and arm != FUSED else " | "
            yield f"| {arm} | {measured.seeds} | {means} | {own.lower:.3f} to {own.upper:.3f} | {less} |"


def _gain(found: Found, name: str, arm: str) -> str:
    gain = sample(found, [name], arm, FUSED).interval
    return f"{gain.value:+.3f} | {gain.lower:+.3f} to {gain.upper:+.3f}"


def _against(found: Found) -> Iterator[str]:
    yield "**quarry less the arm, over the queries of all sets**\n"
    cells = " | ".join(f"{NAMES[m]} | 95 % | p" for m in reversed(MEASURES))
    yield f"| arm | {cells} |"
    yield "|---" * (1 + 3 * len(MEASURES)) + "|"
    sets = {arm: [s for s in SETS if {(s, OURS), (s, arm)} <= found.keys()] for arm in ARMS if arm != OURS}
    rows: dict[str, list[str]] = {arm: [] for arm, some in sets.items() if some}
    for measure in reversed(MEASURES):
        samples = {arm: sample(found, sets[arm], OURS, arm, measure) for arm in rows}
        p_values = {arm: one.p_value for arm, one in samples.items()}
        p_values |= holm({arm: p for arm, p in p_values.items() if ARMS[arm].is_rule})
        for arm, one in samples.items():
            at = one.interval
            rows[arm].append(f"{at.value:+.3f} | {at.lower:+.3f} to {at.upper:+.3f} | {p_values[arm]:.4f}")
    yield from (f"| {arm} | {' | '.join(cells)} |" for arm, cells in rows.items())


def plot(found: Found, target: Path) -> None:
    """nDCG@10 of each arm less that of the fused order, a panel for each set."""
    sets = [s for s in SETS if (s, FUSED) in found]
    arms = [arm for arm in reversed(ARMS) if arm != FUSED and any((s, arm) in found for s in sets)]
    with mpl.rc_context(STYLE):
        figure, panels = pyplot.subplots(1, len(sets), figsize=(4 * len(sets), 4), sharey=True, squeeze=False)
        for axis, one in zip(panels[0], sets, strict=True):
            for place, arm in enumerate(arms):
                if (one, arm) in found:
                    gain = sample(found, [one], arm, FUSED).interval
                    axis.plot([gain.lower, gain.upper], [place, place], color="#888", linewidth=2)
                    axis.plot(gain.value, place, "o", color="#c33" if arm == OURS else "#246")
            axis.set_yticks(range(len(arms)), arms)  # of all panels
            axis.axvline(0, color="#000", linewidth=0.8)
            axis.set_title(one)
            axis.set_xlabel("nDCG@10 less that of the fused order")
        figure.tight_layout()
        figure.savefig(target, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lines", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    if not COLLECTIONS.exists():
        sys.exit(f"the test collections are not there: {COLLECTIONS}")
    found = read(options.lines)
    print(tables(found))
    if options.plot:
        plot(found, options.plot)


if __name__ == "__main__":
    main()
