"""The table and the plot of docs/flywheel.md, out of the lines that benchmarks/flywheel.py has written.

    python benchmarks/flywheel_table.py benchmarks/results/flywheel.jsonl --plot build/flywheel.svg

Means are over test queries (and seeds, where there are several); 95 % intervals by bootstrap over queries.
The last part compares each arm with `quarry`: the mean difference in nDCG@10 over the same queries of all
sets, its interval, and its p-value after Holm's correction over the arms.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot
from numpy.typing import NDArray

MEASURES = ("RR@3", "RR@10", "nDCG@10")
OURS = "quarry"
RESAMPLES = 10_000
STYLE = {"svg.hashsalt": "quarry", "svg.fonttype": "none", "font.size": 9}

Float64 = NDArray[np.float64]
Values = dict[tuple[str, str], dict[str, dict[str, float]]]
"""By set and arm: by measure: by query, the mean over seeds."""


def read(path: Path) -> Values:
    seeds: dict[tuple[str, str], list[dict[str, dict[str, float]]]] = defaultdict(list)
    for line in path.read_text().splitlines():
        one = json.loads(line)
        if "values" in one:
            seeds[one["set"], one["arm"]].append(one["values"])
    return {
        key: {m: {q: float(np.mean([values[m][q] for values in runs])) for q in runs[0][m]} for m in MEASURES}
        for key, runs in seeds.items()
    }


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


def differences(found: Values, arm: str, sets: list[str]) -> Float64:
    """nDCG@10 of ``quarry`` less the arm's, over the queries of all sets that have both."""
    pairs = [(found[s, OURS]["nDCG@10"], found[s, arm]["nDCG@10"]) for s in sets if (s, arm) in found]
    return np.array([ours[q] - other[q] for ours, other in pairs for q in other])


def table(found: Values) -> str:
    sets = list(dict.fromkeys(s for s, _ in found))
    arms = list(dict.fromkeys(arm for _, arm in found))
    both = [s for s in sets if (s, OURS) in found]
    against = {arm: differences(found, arm, both) for arm in arms if arm != OURS}
    against = {arm: values for arm, values in against.items() if len(values)}
    adjusted = holm({arm: p_value(values) for arm, values in against.items()})
    lines = []
    for one in sets:
        lines += [
            f"\n**{one}**\n",
            "| arm | MRR@3 | MRR@10 | nDCG@10 | 95 % interval |",
            "|---|---|---|---|---|",
        ]
        for arm in arms:
            if (one, arm) in found:
                of = {m: np.array(list(found[one, arm][m].values())) for m in MEASURES}
                low, high = interval(of["nDCG@10"])
                means = " | ".join(f"{of[m].mean():.3f}" for m in MEASURES)
                lines.append(f"| {arm} | {means} | {low:.3f} to {high:.3f} |")
    lines += [
        "\n**quarry less the arm, all sets**\n",
        "| arm | nDCG@10 | 95 % interval | p, Holm |",
        "|---|---|---|---|",
    ]
    for arm, values in against.items():
        low, high = interval(values)
        lines.append(f"| {arm} | {values.mean():+.3f} | {low:+.3f} to {high:+.3f} | {adjusted[arm]:.4f} |")
    return "\n".join(lines)


def plot(found: Values, target: Path) -> None:
    """nDCG@10 of each arm less that of the fused order, a panel for each set."""
    sets = [s for s in dict.fromkeys(s for s, _ in found) if (s, "fused") in found]
    with mpl.rc_context(STYLE):
        figure, panels = pyplot.subplots(1, len(sets), figsize=(4 * len(sets), 4), sharey=True, squeeze=False)
        for axis, one in zip(panels[0], sets, strict=True):
            arms = [arm for s, arm in found if s == one and arm != "fused"]
            base = found[one, "fused"]["nDCG@10"]
            for place, arm in enumerate(reversed(arms)):
                gains = np.array([value - base[q] for q, value in found[one, arm]["nDCG@10"].items()])
                low, high = interval(gains)
                axis.plot([low, high], [place, place], color="#888", linewidth=2)
                axis.plot(gains.mean(), place, "o", color="#c33" if arm == OURS else "#246")
            axis.set_yticks(range(len(arms)), reversed(arms))
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
