"""The table and the plot of docs/flywheel.md, out of the lines that benchmarks/flywheel.py has written.

    python benchmarks/flywheel_table.py benchmarks/results/flywheel.jsonl --plot build/flywheel.svg

Means are over test queries (and seeds, where there are several); 95 % intervals by bootstrap over queries.
The last part compares each arm with `quarry`: the mean difference in nDCG@10 over the same queries of all
sets, its interval, and its p-value after Holm's correction over the arms.
"""

import argparse
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from flywheel import ARMS, SETS
from matplotlib import pyplot
from numpy.typing import NDArray

MEASURES = ("RR@3", "RR@10", "nDCG@10")
OURS = "quarry"
RESAMPLES = 10_000
STYLE = {"svg.hashsalt": "quarry", "svg.fonttype": "none", "font.size": 9}

Float64 = NDArray[np.float64]
ByQuery = dict[str, dict[str, float]]
"""By measure: by query."""


@dataclass(frozen=True, slots=True)
class Measured:
    """An arm on a set: the mean over ``seeds``, by measure, by query."""

    seeds: int
    values: ByQuery

    @classmethod
    def of(cls, runs: list[ByQuery]) -> "Measured":
        means = {m: {q: float(np.mean([run[m][q] for run in runs])) for q in runs[0][m]} for m in MEASURES}
        return cls(len(runs), means)

    @property
    def ndcg(self) -> dict[str, float]:
        return self.values["nDCG@10"]


Found = dict[tuple[str, str], Measured]
"""By set and arm, in the order in which the benchmark has them."""


def read(path: Path) -> Found:
    runs: dict[tuple[str, str], list[ByQuery]] = defaultdict(list)
    for line in path.read_text().splitlines():
        one = json.loads(line)
        if "values" in one:
            runs[one["set"], one["arm"]].append(one["values"])
    return {(s, arm): Measured.of(runs[s, arm]) for s in SETS for arm in ARMS if (s, arm) in runs}


def interval(values: Float64) -> tuple[float, float]:
    drawn = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def p_value(differences: Float64) -> float:
    """Two-sided, by bootstrap over queries: how often the mean has the other sign."""
    drawn = np.random.default_rng(0).integers(len(differences), size=(RESAMPLES, len(differences)))
    means = differences[drawn].mean(axis=1)
    return float(min(1.0, 2 * (1 + min((means <= 0).sum(), (means >= 0).sum())) / (RESAMPLES + 1)))


def holm(values: dict[str, float]) -> dict[str, float]:
    """Adjusted p-values. Holm, Scandinavian Journal of Statistics, 1979."""
    adjusted: dict[str, float] = {}
    highest = 0.0
    for place, (name, value) in enumerate(sorted(values.items(), key=lambda item: item[1])):
        highest = max(highest, min(1.0, (len(values) - place) * value))
        adjusted[name] = highest
    return adjusted


def differences(found: Found, arm: str) -> Float64:
    """nDCG@10 of ``quarry`` less the arm's, over the queries of all sets that have both."""
    pairs = [(found[s, OURS].ndcg, found[s, arm].ndcg) for s in SETS if {(s, OURS), (s, arm)} <= found.keys()]
    return np.array([ours[q] - other[q] for ours, other in pairs for q in other])


def table(found: Found) -> str:
    lines = []
    for one in dict.fromkeys(s for s, _ in found):
        lines += [
            f"\n**{one}**\n",
            "| arm | seeds | MRR@3 | MRR@10 | nDCG@10 | 95 % interval |",
            "|---|---|---|---|---|---|",
        ]
        for arm in ARMS:
            if (one, arm) in found:
                measured = found[one, arm]
                of = {m: np.array(list(measured.values[m].values())) for m in MEASURES}
                low, high = interval(of["nDCG@10"])
                means = " | ".join(f"{of[m].mean():.3f}" for m in MEASURES)
                lines.append(f"| {arm} | {measured.seeds} | {means} | {low:.3f} to {high:.3f} |")
    return "\n".join([*lines, *_against(found)])


def _against(found: Found) -> list[str]:
    against = {arm: differences(found, arm) for arm in ARMS if arm != OURS}
    against = {arm: values for arm, values in against.items() if len(values)}
    adjusted = holm({arm: p_value(values) for arm, values in against.items()})
    lines = [
        "\n**quarry less the arm, over the queries of all sets that have both**\n",
        "| arm | nDCG@10 | 95 % interval | p, Holm |",
        "|---|---|---|---|",
    ]
    for arm, values in against.items():
        low, high = interval(values)
        lines.append(f"| {arm} | {values.mean():+.3f} | {low:+.3f} to {high:+.3f} | {adjusted[arm]:.4f} |")
    return lines


def plot(found: Found, target: Path) -> None:
    """nDCG@10 of each arm less that of the fused order, a panel for each set."""
    sets = [s for s in SETS if (s, "fused") in found]
    arms = [arm for arm in reversed(ARMS) if arm != "fused" and any((s, arm) in found for s in sets)]
    with mpl.rc_context(STYLE):
        figure, panels = pyplot.subplots(1, len(sets), figsize=(4 * len(sets), 4), sharey=True, squeeze=False)
        for axis, one in zip(panels[0], sets, strict=True):
            base = found[one, "fused"].ndcg
            for place, arm in enumerate(arms):
                if (one, arm) in found:
                    gains = np.array([value - base[q] for q, value in found[one, arm].ndcg.items()])
                    low, high = interval(gains)
                    axis.plot([low, high], [place, place], color="#888", linewidth=2)
                    axis.plot(gains.mean(), place, "o", color="#c33" if arm == OURS else "#246")
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
    found = read(options.lines)
    print(table(found))
    if options.plot:
        plot(found, options.plot)


if __name__ == "__main__":
    main()
