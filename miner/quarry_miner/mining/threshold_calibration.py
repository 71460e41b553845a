"""Chooses a preset's thresholds on one corpus, for a share of false negatives that is wanted at most.

Published thresholds do not carry over between corpora. Here each audited query's relevant documents are, in
turn, the only one that mining knows of; the others are what a false negative looks like. Settings are tried
from the strictest to the loosest, and the last one before the upper bound of the share exceeds the target is
taken: in a fixed order, no correction is needed for trying several (fixed-sequence testing; Angelopoulos et
al., Learn then Test, 2021).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from quarry.errors import FailedPreconditionError, InvalidArgumentError
from quarry.mining.spec import JudgedQuery
from quarry_miner.examples import MiningQuery, PairCandidates, Positive
from quarry_miner.mining.mining import make_gatherer, make_pair_rng
from quarry_miner.mining.task import MiningTask
from quarry_miner.presets.base import Preset
from quarry_miner.presets.registry import make_preset
from quarry_miner.report.false_negatives import (
    FalseNegatives,
    compute_wilson,
    count_needed_draws,
    estimate_from_counts,
)

STEPS = 11
MOST_QUERIES = 2_000
"""Audited queries that are read, the first ones; their candidates are held in memory."""
PATHS: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "topk-abs": {"ceiling": (0.3, 0.9)},
    "margin-pos": {"margin": (0.4, 0.0)},
    "perc-pos": {"share": (0.5, 1.0)},
    "sampled-topk": {"share": (0.5, 1.0)},
    "top1-sampled": {"share": (0.5, 1.0)},
    "intra-sample": {"share": (0.5, 1.0)},
    "semi-hard": {"share": (0.5, 1.0), "ceiling": (0.5, 0.95)},
    "denoised": {"ceiling": (0.005, 0.3)},
    "relabelled": {"gap": (0.6, 0.05)},
    "quarry": {"spread": (100.0, 3.0), "duplicate": (0.7, 0.97)},
}
"""Constants that are calibrated, by preset: the strictest and the loosest value. They move together."""


@dataclass(frozen=True, slots=True)
class Step:
    """One setting and what it gave; None with too few rows to tell."""

    parameters: Mapping[str, float]
    found: FalseNegatives | None
    rows: int


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A choice.

    Attributes:
        parameters: the constants chosen.
        steps: all settings tried, in order.
        queries: audited ones that count.
    """

    parameters: Mapping[str, float]
    found: FalseNegatives
    steps: Sequence[Step]
    queries: int
    target: float

    def as_json(self) -> dict[str, Any]:
        tried = [
            {**step.parameters, "rows": step.rows, **({"upper": step.found.upper} if step.found else {})}
            for step in self.steps
        ]
        return {
            "chosen": dict(self.parameters),
            "target": self.target,
            **{name: value for name, value in asdict(self.found).items() if name != "source"},
            "tried": tried,
        }


def calibrate(
    task: MiningTask,
    preset: str,
    fixed: Mapping[str, float],
    count: int,
    seed: int,
    audited: Sequence[JudgedQuery],
    target: float,
) -> Calibrated:
    """Finds the loosest constants whose false negatives are at most ``target``, by the upper bound of the
    interval.

    Args:
        fixed: constants that were asked for; they stay as they are.

    Raises:
        InvalidArgumentError: the preset has no threshold left to choose.
        FailedPreconditionError: the sample is too small, which says how large it must be, or no setting is
            strict enough.
    """
    path = {name: ends for name, ends in PATHS.get(preset, {}).items() if name not in fixed}
    if not path:
        known = ", ".join(PATHS)
        raise InvalidArgumentError("calibration", f"{preset} has no threshold to choose; these have: {known}")
    asked = replace(task, queries=_split_positives(task, audited[:MOST_QUERIES]))
    relevant = _list_relevant(task, audited)
    pairs = make_gatherer(asked, make_preset(preset, fixed)).gather(0, len(asked.queries)).pairs
    least = count_needed_draws(target)
    steps: list[Step] = []
    chosen: Step | None = None
    for parameters in _list_settings(path):
        made = make_preset(preset, {**fixed, **parameters})
        step = _try_setting(asked, made, parameters, pairs, relevant, count, seed, least)
        steps.append(step)
        if step.found is None and chosen is None:
            continue
        if step.found is None or step.found.upper > target:
            break
        chosen = step
    if chosen is None or chosen.found is None:
        raise _make_refusal(steps, target, least, len(audited))
    return Calibrated(chosen.parameters, chosen.found, steps, len(asked.queries), target)


def _list_settings(path: Mapping[str, tuple[float, float]]) -> Iterator[dict[str, float]]:
    for step in range(STEPS):
        along = step / (STEPS - 1)
        yield {name: round(first + along * (last - first), 4) for name, (first, last) in path.items()}


def _split_positives(task: MiningTask, audited: Sequence[JudgedQuery]) -> tuple[MiningQuery, ...]:
    """Makes a query for each relevant document that the corpus holds; their places name the audited query."""
    numbers = task.corpus.numbers
    return tuple(
        MiningQuery(f"{place}:{id}", query.text, (Positive(numbers[id]),))
        for place, query in enumerate(audited)
        for id, grade in query.judgments.items()
        if grade > 0 and id in numbers
    )


def _list_relevant(task: MiningTask, audited: Sequence[JudgedQuery]) -> list[frozenset[int]]:
    numbers = task.corpus.numbers
    return [
        frozenset(numbers[id] for id, grade in query.judgments.items() if grade > 0 and id in numbers)
        for query in audited
    ]


def _try_setting(
    task: MiningTask,
    preset: Preset,
    parameters: Mapping[str, float],
    pairs: Sequence[PairCandidates],
    relevant: Sequence[frozenset[int]],
    count: int,
    seed: int,
    least: int,
) -> Step:
    false: list[bool] = []
    query: list[int] = []
    for pair in pairs:
        id = task.queries[pair.query].id
        rng = make_pair_rng(seed, id, task.corpus.ids[pair.positive.document])
        place = int(id.partition(":")[0])
        chosen = preset.select(pair, count, len(task.corpus), rng)
        negatives = [one.document for one in chosen if one.label == 0]
        false += [number in relevant[place] for number in negatives]
        query += [place] * len(negatives)
    if len(false) < least:
        return Step(parameters, None, len(false))
    found = estimate_from_counts(np.array(false), np.array(query, np.int64), "audit")
    return Step(parameters, found, len(false))


def _make_refusal(steps: Sequence[Step], target: float, least: int, audited: int) -> FailedPreconditionError:
    told = [step.found for step in steps if step.found]
    if not told:
        rows = max((step.rows for step in steps), default=0)
        queries = math.ceil(audited * least / rows) if rows else least
        return FailedPreconditionError(
            f"the audited sample is too small for a share of {target:.0%}: its queries give {rows} "
            f"negatives, at least {least} are needed; audit some {queries} queries",
            needed_negatives=str(least),
            needed_queries=str(queries),
        )
    best = told[0]
    if best.share >= target:
        return FailedPreconditionError(
            f"the strictest setting still has {best.share:.1%} false negatives in the audited sample, over "
            f"{target:.1%}: another preset, or a higher target",
            share=f"{best.share:.4f}",
        )
    needed = _count_needed_rows(best.share, target)
    queries = math.ceil(best.queries * needed / best.rows)
    return FailedPreconditionError(
        f"the audited sample is too small for a share of {target:.0%}: {best.rows} negatives, "
        f"{best.share:.1%} of them false, leave up to {best.upper:.1%} possible; audit some {queries} "
        "queries",
        needed_negatives=str(needed),
        needed_queries=str(queries),
    )


def _count_needed_rows(share: float, target: float) -> int:
    """Counts independent rows at which the upper bound of ``share`` falls to ``target``, which is above
    it."""
    rows = 16
    while compute_wilson(share, rows)[1] > target:
        rows *= 2
    return rows
