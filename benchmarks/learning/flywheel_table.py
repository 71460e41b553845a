"""The tables and the plot of docs/explanation/flywheel.md, out of the lines that ``flywheel.py`` has written.

    python benchmarks/learning/flywheel_table.py benchmarks/results/flywheel.jsonl --plot build/flywheel.svg

Values are nDCG@10, means over test queries (and seeds, where there are several). Queries that ask about one
thing (documents of one title, or the same documents) are drawn together: 95 % intervals by bootstrap, p
values by Fisher's randomization test (Smucker, Allan and Carterette, CIKM 2007), which turns the sign of a
thing's differences. p values of rules for negatives, which are many, have Holm's correction.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from flywheel_arms import ARMS
from judged_sets import SETS
from matplotlib import pyplot
from numpy.typing import NDArray
from scipy import stats

from quarry_trainer.evaluation.resampling import Interval, estimate_mean_intervals

MEASURE = "nDCG@10"
OURS, FUSED, RANDOM = "quarry", "fused", "random"
PERMUTATIONS = 9_999
STYLE: dict[Any, Any] = {"svg.hashsalt": "quarry", "svg.fonttype": "none", "font.size": 9}

Float64 = NDArray[np.float64]
Line = dict[str, Any]
Arms = dict[str, dict[str, float]]
"""The mean over seeds of each query, by arm."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Values of queries, and the thing that each of them is about."""

    values: Float64
    things: list[str]

    @property
    def interval(self) -> Interval:
        return estimate_mean_intervals(self.values[:, None], self.things)[0]

    @property
    def p_value(self) -> float:
        """Two-sided, of the mean's being 0."""
        sums: dict[str, float] = defaultdict(float)
        for thing, value in zip(self.things, self.values, strict=True):
            sums[thing] += value
        found = stats.permutation_test(
            (list(sums.values()),),
            np.sum,
            permutation_type="samples",
            vectorized=True,
            n_resamples=PERMUTATIONS,
            rng=np.random.default_rng(0),
        )
        return float(found.pvalue)


class Found:
    """All lines of a run."""

    def __init__(self, path: Path) -> None:
        self.lines: dict[tuple[str, str], list[Line]] = defaultdict(list)
        for line in path.read_text().splitlines():
            one = json.loads(line)
            if "values" in one:
                self.lines[one["set"], one["arm"]].append(one)
        self.sets = [name for name in SETS if (name, FUSED) in self.lines]

    def arms(self, name: str, ensembles: bool = False) -> list[str]:
        wanted = (arm for arm, how in ARMS.items() if how.ensemble == ensembles)
        return [arm for arm in wanted if (name, arm) in self.lines]

    def values(self, name: str, arm: str) -> dict[str, float]:
        runs = [one["values"][MEASURE] for one in self.lines[name, arm]]
        return {query: float(np.mean([run[query] for run in runs])) for query in runs[0]}

    def sample(self, sets: Iterable[str], arm: str, less: str = "", only: str = "") -> Sample:
        """An arm's values in all of ``sets``, less those of another arm.

        Args:
            only: ``shared``: queries whose first fused hit is wrong and about the same thing as the answer.
        """
        values: list[float] = []
        about: list[str] = []
        for one in sets:
            other = self.values(one, less) if less else {}
            things = things_of(one)
            first = self.lines[one, FUSED][0]["first"]
            for query, value in self.values(one, arm).items():
                if only and not _shares(one, query, first[query]):
                    continue
                values.append(value - other.get(query, 0.0))
                about.append(f"{SETS[one].folder} {things[query]}")
        return Sample(np.array(values), about)


@cache
def things_of(name: str) -> dict[str, str]:
    """What each test query of a set is about: the title of what is relevant, or that itself."""
    titles = titles_of(name)
    judged = qrels_of(name)
    relevant = {query: sorted(d for d, grade in of.items() if grade > 0) for query, of in judged.items()}
    return {
        query: titles[ids[0]] if len({titles[id] for id in ids}) == 1 else " ".join(ids)
        for query, ids in relevant.items()
        if ids
    }


@cache
def titles_of(name: str) -> dict[str, str]:
    return SETS[name].titles()


@cache
def qrels_of(name: str) -> dict[str, dict[str, int]]:
    return SETS[name].qrels(SETS[name].test, 10**9)


def _shares(name: str, query: str, first: str) -> bool:
    judged = qrels_of(name)[query]
    return not judged.get(first) and titles_of(name)[first] == things_of(name)[query]


def holm(values: dict[str, float]) -> dict[str, float]:
    """Adjusted p-values. Holm, Scandinavian Journal of Statistics, 1979."""
    adjusted: dict[str, float] = {}
    highest = 0.0
    for place, (name, value) in enumerate(sorted(values.items(), key=lambda item: item[1])):
        highest = max(highest, min(1.0, (len(values) - place) * value))
        adjusted[name] = highest
    return adjusted


def tables(found: Found) -> Iterator[str]:
    for name in found.sets:
        yield from (f"**{name}**\n", *_of_set(found, name), "")
    yield from ("**quarry less the arm, over the queries of all sets**\n", *_against(found), "")
    yield from (
        "**the first fused hit is wrong, and about the same thing**\n",
        *_write_shared_thing(found),
        "",
    )
    if any(found.arms(name, ensembles=True) for name in found.sets):
        yield from ("**ensembles**\n", *_ensembles(found))


def _of_set(found: Found, name: str) -> Iterator[str]:
    columns = (
        "seeds | nDCG@10 | less fused | 95 % | less random | 95 % | pairs | wrong positives | false negatives"
    )
    yield f"| arm | {columns} |"
    yield "|---" * 10 + "|"
    for arm in found.arms(name):
        runs = found.lines[name, arm]
        mean = found.sample([name], arm).interval.value
        gains = " | ".join(_gain(found, [name], arm, than) for than in (FUSED, RANDOM))
        shares = " | ".join(_share(runs, of) for of in ("wrong_positives", "false_negatives"))
        yield f"| {arm} | {len(runs)} | {mean:.3f} | {gains} | {_count(runs, 'pairs')} | {shares} |"


def _gain(found: Found, sets: list[str], arm: str, than: str, only: str = "") -> str:
    missing = any((name, wanted) not in found.lines for name in sets for wanted in (arm, than))
    if missing or arm == than or (arm == FUSED and than == RANDOM):
        return " | "
    gain = found.sample(sets, arm, than, only).interval
    return f"{gain.value:+.3f} | {gain.lower:+.3f} to {gain.upper:+.3f}"


def _share(runs: list[Line], name: str) -> str:
    material = runs[0].get("material")
    return f"{100 * material[name]:.1f} %" if material else ""


def _count(runs: list[Line], name: str) -> str:
    material = runs[0].get("material")
    return f"{material[name]:,}" if material else ""


def _against(found: Found) -> Iterator[str]:
    yield "| arm | sets | queries | nDCG@10 | 95 % | p |"
    yield "|---|---|---|---|---|---|"
    others = [arm for arm in ARMS if arm != OURS and not ARMS[arm].ensemble]
    sets = {arm: [name for name in found.sets if arm in found.arms(name)] for arm in others}
    samples = {arm: found.sample(sets[arm], OURS, arm) for arm in others if sets[arm]}
    p_values = {arm: one.p_value for arm, one in samples.items()}
    p_values |= holm({arm: p for arm, p in p_values.items() if ARMS[arm].is_rule})
    for arm, one in samples.items():
        at, of = one.interval, f"{len(sets[arm])} | {len(one.values)}"
        yield f"| {arm} | {of} | {at.value:+.3f} | {at.lower:+.3f} to {at.upper:+.3f} | {p_values[arm]:.4f} |"


def _write_shared_thing(found: Found) -> Iterator[str]:
    yield "| set | queries | fused | random less fused | 95 % | quarry less fused | 95 % |"
    yield "|---|---|---|---|---|---|---|"
    for name in found.sets:
        own = found.sample([name], FUSED, only="shared").values
        if len(own):
            gains = " | ".join(_gain(found, [name], arm, FUSED, "shared") for arm in (RANDOM, OURS))
            yield f"| {name} | {len(own)} | {own.mean():.3f} | {gains} |"


def _ensembles(found: Found) -> Iterator[str]:
    yield "| set | members | seeds | nDCG@10 | less fused | 95 % | negatives | false negatives |"
    yield "|---|---|---|---|---|---|---|---|"
    for name in found.sets:
        for arm in [*found.arms(name, ensembles=True), OURS] if found.arms(name, ensembles=True) else []:
            runs = found.lines[name, arm]
            mean = found.sample([name], arm).interval.value
            shown = "quarry: fused (the arm above)" if arm == OURS else arm
            gain = f"{mean:.3f} | {_gain(found, [name], arm, FUSED)}"
            mined = f"{_count(runs, 'negatives')} | {_share(runs, 'false_negatives')}"
            yield f"| {name} | {shown} | {len(runs)} | {gain} | {mined} |"


def plot(found: Found, target: Path) -> None:
    """nDCG@10 of each arm less that of the fused order, a panel for each set."""
    known = {arm for name in found.sets for arm in found.arms(name)}
    arms = [arm for arm in reversed(ARMS) if arm in known and arm != FUSED]
    with mpl.rc_context(STYLE):
        size = (3.4 * len(found.sets), 4)
        figure, panels = pyplot.subplots(1, len(found.sets), figsize=size, sharey=True, squeeze=False)
        for axis, one in zip(panels[0], found.sets, strict=True):
            for place, arm in enumerate(arms):
                if (one, arm) in found.lines:
                    gain = found.sample([one], arm, FUSED).interval
                    axis.plot([gain.lower, gain.upper], [place, place], color="#888", linewidth=2)
                    axis.plot(gain.value, place, "o", color="#c33" if arm == OURS else "#246")
            axis.set_yticks(range(len(arms)), arms)  # of all panels
            axis.axvline(0, color="#000", linewidth=0.8)
            axis.set_title(one)
            axis.set_xlabel("nDCG@10 less fused")
        figure.tight_layout()
        figure.savefig(target, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lines", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    found = Found(options.lines)
    for name in found.sets:
        if not SETS[name].path.exists():
            sys.exit(f"the judgments of {name} are not there: {SETS[name].path}")
    print("\n".join(tables(found)))
    if options.plot:
        plot(found, options.plot)


if __name__ == "__main__":
    main()
