"""Positives from SIMULATED clicks: how many are right, and how many are found, as data grows.

Users of `quarry simulate` (position-based, 1 / rank) see the ten hits that Quarry's fused arms really put
first for train queries of three collections. ``results/shown_relevant.json`` counts the queries by which of
those hits the judgments call relevant: `0100000000` is a query whose second hit alone is. ``precision`` is
the share of right ones among the positives that two users or more have clicked, ``recall`` their share of the
relevant documents that were shown; by the rule in use (``estimated``), and by the fixed floors 0.1, the rule
before, and 0.3. One JSON line for each result; at most 1,000 queries of a collection, drawn by the seed.

    python benchmarks/quality/click_noise.py > benchmarks/results/click_noise.jsonl
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from quarry.clicks.log import Bool, ClickLog
from quarry.clicks.simulation import simulate_ranking
from quarry.clicks.users import UserBehaviour
from quarry.mining.spec import FeedbackPositives
from quarry_miner.evidence.positives import ClickedDocument, keep_agreed, select_above_floor
from quarry_miner.job.click_learning import LearnedFromClicks, learn

SHOWN = Path(__file__).parents[1] / "results" / "shown_relevant.json"
CERTAIN = 0.9
MOST_QUERIES = 1_000
SEARCHES = (3, 10, 30, 100, 300)
WORLDS = ((1.0, 0.0), (0.0, 0.1))
"""Skew and swaps: the defaults of `quarry simulate`, and queries alike with exploration."""


def relevant_hits(patterns: Mapping[str, int], random: np.random.Generator) -> Bool:
    """Which hits of each query are relevant, shape ``(queries, ranks)``, in a random order."""
    rows = np.array([list(pattern) for pattern in patterns]) == "1"
    return rows[random.permutation(np.repeat(np.arange(len(rows)), list(patterns.values())))[:MOST_QUERIES]]


def figures(found: Sequence[ClickedDocument], relevant: Bool) -> dict[str, float]:
    right = int(sum(relevant.ravel()[int(pair.document_id)] for pair in found))
    return {
        "positives": len(found),
        "precision": round(right / max(1, len(found)), 4),
        "recall": round(right / int(relevant.sum()), 4),
    }


def by_rule(log: ClickLog, learned: LearnedFromClicks, relevant: Bool) -> dict[str, dict[str, float]]:
    assert learned.estimates is not None
    fixed = {f"floor {f:g}": select_above_floor(log, learned.estimates, f) for f in (0.1, 0.3)}
    found = {
        "estimated": learned.positives,
        **{name: keep_agreed(some, log) for name, some in fixed.items()},
    }
    return {name: figures(some, relevant) for name, some in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--searches", type=int, nargs="*", default=SEARCHES, help="a query")
    parser.add_argument("--noise", type=float, nargs="*", default=(0.0, 0.05, 0.1, 0.2))
    parser.add_argument("--sets", nargs="*", default=tuple(json.loads(SHOWN.read_text())))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    shown = json.loads(SHOWN.read_text())
    for name in options.sets:
        relevant = relevant_hits(shown[name], np.random.default_rng(options.seed))
        for skew, swap in WORLDS:
            for noise in options.noise:
                users = UserBehaviour(noise=noise)
                for searches in options.searches:
                    world = {"set": name, "skew": skew, "swap": swap, "noise": noise, "searches": searches}
                    count = searches * len(relevant)
                    log = simulate_ranking(
                        CERTAIN * relevant, users, count, options.seed, skew=skew, swap=swap
                    )
                    learned = learn(log, FeedbackPositives())
                    told = learned.noise
                    rates = (
                        {}
                        if told is None
                        else {
                            "noise_rate": [round(float(v), 3) for v in told.noise_rate],
                            "floor": [round(float(v), 3) for v in told.floor],
                        }
                    )
                    line = {"queries": len(relevant), **by_rule(log, learned, relevant), **rates}
                    print(json.dumps({"benchmark": "click_noise", **world, **line}), flush=True)


if __name__ == "__main__":
    main()
