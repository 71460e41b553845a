"""How hard each preset's negatives are, and how many of them are answers, on judged collections.

All but one positive of each query are hidden; a negative that is a hidden positive is a true false
negative. Hardness is the similarity and the rank that two encoders give that are no member. Every preset is
asked for the same number of negatives. Presets that need feedback, a re-ranker or, as `quarry` does, a server
are left out; the first JSON line names them. Then comes one line for each preset, set and half of the
queries (by a hash of their ids), and for all sets together; rates are of queries that have hidden positives,
with 95 % intervals by bootstrap over queries. ``same`` compares with perc-pos at equal counts for each query:
where one has fewer negatives, the other's last ones are left out. ``harder`` is by how much the preset's
negatives are more similar (or, by log rank, lower) than those of perc-pos.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mining_data import COLLECTIONS, Judged, hashed, read_judged, sources_of
from numpy.typing import NDArray
from outside_encoders import OutsideEncoder, ParaphraseL3, WordLlama, kept

from quarry_miner.examples import Mined, MiningQuery, Positive
from quarry_miner.job.task_builder import Sources, assemble
from quarry_miner.mining.mining import mine
from quarry_miner.presets.registry import PRESETS, make_preset

SETS = {"scifact": True, "cranfield": True, "stackfaq-webapps": False}
"""By name, whether titles are read: in stackfaq all answers of a thread share one, which makes it easy."""
RESAMPLES = 1_000
Figures = NDArray[np.float64]
HALVES = ("fit", "held-out")
"""Constants may be chosen on the first; what is published is of the second."""
SERVED_MEMBER = "fused"
"""The live first stage, which only a server has."""


@dataclass(frozen=True, slots=True, eq=False)
class Visible:
    """A set with one positive of each query left."""

    judged: Judged
    sources: Sources
    queries: list[MiningQuery]
    hidden: dict[str, set[str]]


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """A preset's negatives by query.

    Attributes:
        hidden: bool, shape ``(queries,)``: whether the query has hidden positives.
        figures: float64 of shape ``(queries, negatives)`` by name, hardest first; NaN where there are fewer.
    """

    hidden: NDArray[np.bool_]
    figures: dict[str, NDArray[np.float64]]

    @property
    def present(self) -> NDArray[np.bool_]:
        return ~np.isnan(self.figures["false"])


def visible(judged: Judged, sources: Sources) -> Visible:
    queries, hidden = [], {}
    for id, positives in judged.positives.items():
        shown = positives[hashed(f"{id} visible") % len(positives)]
        queries.append(MiningQuery(id, judged.queries[id], (Positive(sources.corpus.numbers[shown]),)))
        hidden[id] = set(positives) - {shown}
    return Visible(judged, sources, queries, hidden)


def half_of(query_id: str) -> str:
    return HALVES[hashed(f"{query_id} half") % 2]


class Measure:
    """Similarities and ranks of a set's documents for its queries by one outside encoder."""

    def __init__(self, encoder: OutsideEncoder, of: Visible, data: Path) -> None:
        corpus = of.sources.corpus
        documents = kept(encoder, of.judged.name, corpus.read_texts(range(len(corpus))), data)
        self.name = encoder.name
        self.similarity = encoder.embed([query.text for query in of.queries]) @ documents.T
        order = np.argsort(-self.similarity, axis=1)
        self.rank = np.empty_like(order)
        np.put_along_axis(self.rank, order, np.arange(1, order.shape[1] + 1)[None], axis=1)


def count(of: Visible, mined: Mined, measures: list[Measure], negatives: int) -> Counted:
    place = {query.id: i for i, query in enumerate(of.queries)}
    hardness = [f"{what}_{m.name}" for m in measures for what in ("similarity", "log_rank")]
    shape = (len(place), negatives)
    figures = {name: np.full(shape, np.nan) for name in ["false", "random", "hard", *hardness]}
    rows = np.zeros(len(place), int)
    for example in mined.examples:
        i, number = place[example.query_id], of.sources.corpus.numbers[example.negative_id]
        at, rows[i] = (i, rows[i]), rows[i] + 1
        figures["false"][at] = example.negative_id in of.hidden[example.query_id]
        figures["random"][at] = example.rung == "random"
        figures["hard"][at] = example.rung == "hard"
        for measure in measures:
            figures[f"similarity_{measure.name}"][at] = measure.similarity[i, number]
            figures[f"log_rank_{measure.name}"][at] = np.log(measure.rank[i, number])
    return Counted(np.array([bool(of.hidden[query.id]) for query in of.queries]), figures)


def line(found: Counted, baseline: Counted, chosen: NDArray[np.bool_]) -> dict[str, Any]:
    """Of all negatives; then, under ``same``, of the places where both presets have one."""
    some = chosen & found.hidden
    both = found.present & baseline.present
    return {
        "queries": int(chosen.sum()),
        "queries_with_hidden": int(some.sum()),
        "coverage": float(found.present[chosen].any(axis=1).mean()),
        "negatives_per_query": float(found.present[chosen].sum(axis=1).mean()),
        "false_negatives": _rate(found.figures["false"][some], found.present[some]),
        **{n: _mean(v[chosen], found.present[chosen]) for n, v in found.figures.items() if n != "false"},
        "same": {
            "negatives": int(both[chosen].sum()),
            "false_negatives": _rate(found.figures["false"][some], both[some]),
            "perc_pos": _rate(baseline.figures["false"][some], both[some]),
            "ratio": _rate(found.figures["false"][some], both[some], baseline.figures["false"][some]),
            "harder": {
                name: _difference(values[chosen], baseline.figures[name][chosen], both[chosen])
                for name, values in found.figures.items()
                if name.startswith(("similarity", "log_rank"))
            },
        },
    }  # fmt: skip


def _mean(values: Figures, counted: NDArray[np.bool_]) -> float:
    return float(values[counted].mean()) if counted.any() else float("nan")


def _rate(values: Figures, counted: NDArray[np.bool_], other: Figures | None = None) -> list[float]:
    """Mean of the values that count, or its ratio to that of ``other``, with its 95 % interval."""
    over = np.where(counted, values, 0).sum(axis=1)
    under = (counted if other is None else np.where(counted, other, 0)).sum(axis=1).astype(float)
    samples = np.random.default_rng(0).integers(len(over), size=(RESAMPLES, len(over)))
    return _with_interval(over.sum(), under.sum(), over[samples].sum(axis=1), under[samples].sum(axis=1))


def _difference(values: Figures, other: Figures, counted: NDArray[np.bool_]) -> list[float]:
    """Mean difference over the places that count, with its 95 % interval."""
    return _rate(values - other, counted)


def _with_interval(over: float, under: float, overs: Figures, unders: Figures) -> list[float]:
    ratios = np.divide(overs, unders, out=np.zeros_like(overs), where=unders > 0)
    found = [over / under if under else 0.0, *np.quantile(ratios, [0.025, 0.975])]
    return [round(float(value), 5) for value in found]


def measured(data: Path, presets: list[str], negatives: int, sets: list[str]) -> Iterator[dict[str, Any]]:
    encoders: list[OutsideEncoder] = [ParaphraseL3(), WordLlama()]
    counted: dict[str, dict[str, Counted]] = {}
    halves: dict[str, NDArray[np.str_]] = {}
    for name in sets:
        judged = read_judged(name, with_title=SETS[name])
        of = visible(judged, sources_of(judged, data))
        measures = [Measure(encoder, of, data) for encoder in encoders]
        halves[name] = np.array([half_of(query.id) for query in of.queries])
        for preset in dict.fromkeys(["perc-pos", *presets]):
            rule = make_preset(preset)
            mined = mine(assemble(rule, of.queries, of.sources), rule, negatives, seed=0)
            counted.setdefault(preset, {})[name] = count(of, mined, measures, negatives)
    for preset in presets:
        for name in [*sets, "all"]:
            chosen = sets if name == "all" else [name]
            found, baseline = (_joined([counted[p][s] for s in chosen]) for p in (preset, "perc-pos"))
            half = np.concatenate([halves[s] for s in chosen])
            for which in HALVES:
                result = line(found, baseline, half == which)
                yield {"benchmark": "mining_quality", "preset": preset, "set": name, "half": which, **result}


def _joined(parts: list[Counted]) -> Counted:
    figures = {name: np.concatenate([part.figures[name] for part in parts]) for name in parts[0].figures}
    return Counted(np.concatenate([part.hidden for part in parts]), figures)


def split_presets() -> tuple[list[str], dict[str, list[str]]]:
    """Splits the presets into those that documents and judgments suffice for, and, with what they need, the
    others."""
    needs = {
        name: sorted({*preset.needs, *({"server"} if SERVED_MEMBER in preset.members else ())})
        for name, preset in PRESETS.items()
    }
    return [name for name, some in needs.items() if not some], {n: some for n, some in needs.items() if some}


def main() -> None:
    measurable, left_out = split_presets()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that keeps vectors and models")
    parser.add_argument("--presets", nargs="+", choices=measurable, default=measurable)
    parser.add_argument("--negatives", type=int, default=7)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    options = parser.parse_args()
    if not COLLECTIONS.exists():
        sys.exit(f"the test collections are not there: {COLLECTIONS}")
    print(json.dumps({"benchmark": "mining_quality", "left_out": left_out}), flush=True)
    for result in measured(options.data, options.presets, options.negatives, options.sets):
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
