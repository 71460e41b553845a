"""What the pages on learning and its benchmarks say was found follows from benchmarks/results."""

import json
import re
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE, RELEVANCE = ((ROOT / "docs/explanation" / name).read_text() for name in ("flywheel.md", "relevance.md"))
TURNS = PAGE.partition("## The loop, turned three times")[2]
Runs = dict[tuple[str, str], list[dict[str, Any]]]


def read_lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (ROOT / "benchmarks/results" / name).read_text().splitlines()]


def read_runs(name: str) -> Runs:
    """Reads the runs of each set and arm."""
    runs: Runs = defaultdict(list)
    for line in read_lines(name):
        runs[line["set"], line["arm"]].append(line)
    return runs


RUNS = read_runs("flywheel.jsonl")
SEEDED = ("medquad", "manual pages", "scifact", "stackfaq, known", "stackfaq, unseen")
SETS = list(dict.fromkeys(name for name, _ in RUNS))


def measure(runs: list[dict[str, Any]]) -> list[float]:
    """Measures nDCG@10 of each run."""
    return [mean(run["values"]["nDCG@10"].values()) for run in runs]


@pytest.mark.parametrize("name", SETS)
def test_the_table_of_a_set_has_the_lines_of_its_runs(name: str) -> None:
    table = PAGE.partition(f"**{name}**\n")[2].partition("**")[0]
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines() if "|" in row][2:]
    assert len(rows) == 12
    for arm, seeds, ndcg, _, _, _, _, pairs, *shares in rows:
        runs = RUNS[name, arm]
        assert (seeds, ndcg) == (str(len(runs)), f"{mean(measure(runs)):.3f}")
        if material := runs[0].get("material"):
            found = [f"{100 * material[of]:.1f} %" for of in ("wrong_positives", "false_negatives")]
            assert (pairs, shares) == (f"{material['pairs']:,}", found)


def test_what_the_text_says_of_all_sets_is_what_was_measured() -> None:
    pairs = [
        sum(RUNS[name, arm][0]["material"]["pairs"] for name in SETS) for arm in ("enterprise-2025", "quarry")
    ]
    assert f"leaves {100 - 100 * pairs[0] / pairs[1]:.0f} % of all pairs without negatives" in PAGE
    seconds = {key: mean(run.get("cpu_seconds", 0) for run in runs) for key, runs in RUNS.items()}
    times = [seconds[name, "quarry, split"] / seconds[name, "quarry"] for name in SETS]
    assert f"took {min(times):.0f} to {max(times):.0f} times the processor time" in PAGE
    hours = sum(run.get("cpu_seconds", 0) for runs in RUNS.values() for run in runs) / 3_600
    assert f"{hours:.1f} for trainings" in PAGE
    spread = [f"{stdev(measure(RUNS[name, 'quarry'])):.3f}" for name in SEEDED]
    told = re.search(
        r"deviation of (\S+) on medquad, (\S+) on the manual pages, (\S+) on scifact, "
        r"(\S+) on stackfaq's known and (\S+) on its unseen",
        PAGE,
    )
    assert told is not None and list(told.groups()) == spread


def test_negatives_of_an_ensemble_are_as_few_as_the_text_says() -> None:
    negatives = {key: runs[0]["material"]["negatives"] for key, runs in RUNS.items() if "material" in runs[0]}
    shares = [
        100 * count / negatives[name, "quarry"]
        for (name, arm), count in negatives.items()
        if arm.startswith("enterprise-2025: ")
    ]
    assert f"keeps {min(shares):.0f} to {max(shares):.0f} % as many negatives" in PAGE


def test_the_table_of_negatives_to_draw_from_has_the_lines_of_its_runs() -> None:
    runs = read_runs("flywheel_development.jsonl")
    arms = ("fused", "quarry", "quarry, 14 negatives", "quarry, 21 negatives")
    for name in ("stackfaq, known", "stackfaq, unseen", "manual pages"):
        queries = len(runs[name, "fused"][0]["values"]["nDCG@10"])
        means = " | ".join(f"{mean(measure(runs[name, arm])):.3f}" for arm in arms)
        assert f"| {name} ({queries} queries) | {means} |" in PAGE


def test_the_table_of_what_is_kept_of_a_passage_has_the_lines_of_its_runs() -> None:
    page = (ROOT / "docs/explanation/benchmarks.md").read_text().replace("**", "")
    for line in read_lines("state_sizes.jsonl"):
        assert f"| {line['form']} | {line['bytes']:,} | {mean(measure([line])):.3f} |" in page


def test_the_times_of_trainings_are_those_of_their_lines() -> None:
    first: dict[str, float] = {}
    for name in ("flywheel_development.jsonl", "flywheel_constants.jsonl"):
        for line in read_lines(name):
            if "cpu_seconds" in line:
                first.setdefault(line["set"], line["cpu_seconds"])
    told = [first[name] for name in ("stackfaq, known", "manual pages", "medquad")]
    assert "took {} s of one core on stackfaq, {} s on the manual pages and {} s".format(*told) in PAGE
    for arm, words in (("quarry", "and {} to {} s where"), ("quarry, split", "took {:,} to {:,} s, measure")):
        seconds = [run["cpu_seconds"] for name in SETS for run in RUNS[name, arm]]
        assert words.format(min(seconds), max(seconds)) in PAGE
    turns = [turn["training_seconds"] for turn in read_lines("turns.jsonl")]
    assert f"`quarry train` took {min(turns)} to {max(turns)} s" in PAGE


def test_the_table_by_the_present_spread_has_the_lines_of_its_runs() -> None:
    runs = read_runs("flywheel_spread_4.jsonl")
    for name in ("medquad", "stackfaq, known", "stackfaq, unseen"):
        fused, random, quarry = (mean(measure(runs[name, arm])) for arm in ("fused", "random", "quarry"))
        row = re.search(rf"(?m)^\| {name} \| {fused:.3f} \| {random:.3f} \| {quarry:.3f} \| (\S+) .*$", PAGE)
        assert row is not None, name
        assert float(row[1]) == pytest.approx(quarry - fused, abs=5.1e-4)
    assert {len(some) for (_, arm), some in runs.items() if arm != "fused"} == {3}
    wrong = [read["stackfaq, unseen", "quarry"][0]["material"]["wrong_positives"] for read in (runs, RUNS)]
    assert "{:.1%} of the new positives are wrong, where {:.1%}".format(*wrong).replace("%", " %") in PAGE


def test_both_pages_say_what_the_turns_measured() -> None:
    turns = defaultdict(list)
    for turn in read_lines("turns.jsonl"):
        turns[turn["set"]].append(turn)
        table = TURNS.partition(f"**{turn['set']}**")[2].partition("**")[0]
        ece = f"{turn['test_ece']['ece']:.3f} ({turn['test_ece']['chance']:.3f})"
        (row,) = re.findall(rf"(?m)^\| {turn['turn']} \| {turn['mining']} \|.*$", table)
        assert row.endswith(f"| {turn['reranked']:.3f} | {ece} |")
        rows, s_qd = re.findall(r"[\d.,]+", row)[1:3]
        assert (rows, float(s_qd)) == (f"{turn['rows']:,}", pytest.approx(turn["s_qd"], abs=5.1e-4))
        assert f"| {turn['verdict']}" in row
    for name, found in turns.items():
        off = [f"{turn['test_ece']['ece']:.3f}" for turn in found]
        assert f"are off by {', '.join(off[:-1])} and {off[-1]}" in RELEVANCE, name
    own = [f"{turn['calibration']['ece']:.3f}" for turn in turns["stackfaq, known"]]
    assert f"({', '.join(own[:-1])} and {own[-1]})" in RELEVANCE


def test_the_constants_of_quarry_are_told_as_they_were_measured() -> None:
    runs = read_runs("flywheel_constants.jsonl")
    rows = {
        "[the fused order](../reference/glossary.md#candidate)": "fused",
        "`spread` 2": "quarry, spread 2",
        "`spread` 4": "quarry, spread 4",
        "`spread` 10": "quarry, spread 10",
        "`spread` 20": "quarry, spread 20",
        "`spread` 10, `pool` 15": "quarry, pool 15",
        "`spread` 10, `pool` 60": "quarry, pool 60",
        "`spread` 10, no `duplicate`": "quarry, duplicate 1.01",
        "`spread` 10, no `together`": "quarry, together 1.01",
    }
    sets = ("medquad", "stackfaq, known", "stackfaq, unseen")
    page = (ROOT / "docs/explanation/mining.md").read_text().replace("**", "")
    for told, arm in rows.items():
        found = [f"{mean(measure(runs[name, arm])):.3f}" if (name, arm) in runs else "" for name in sets]
        assert "| " + " | ".join([told, *found]).replace(" |  |", " | |") in page
    assert {arm for _, arm in runs} == set(rows.values())
