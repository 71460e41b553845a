"""A report says what was mined; its gate says whether to train on it; its page is safe to open."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest

from quarry.mining.spec import MiningSpec, Verdict
from quarry.mining.verdicts import VERDICTS
from quarry_miner.evidence.positives import Positives
from quarry_miner.examples import Example
from quarry_miner.mining.example_tables import make_table
from quarry_miner.report.false_negative_rows import FalseNegativeRows, RelativeRelevance
from quarry_miner.report.false_negatives import (
    Audit,
    compute_wilson,
    count_needed_draws,
    estimate_from_counts,
)
from quarry_miner.report.mining_gate import Measured, MiningGatePolicy, judge
from quarry_miner.report.mining_page import render_page
from quarry_miner.report.report import MinedFacts, make_report

HOSTILE = "<script>alert(1)</script>\"'{{ 7*7 }} $\\frac{1}{2}$ \x1b[31m‮ &amp;"


def example(number: int, negative: str = "n", rung: str = "hard", **changes: Any) -> Example:
    values: dict[str, Any] = {
        "query_id": f"q{number}",
        "query": f"text {number}",
        "positive_id": f"p{number}",
        "negative_id": negative,
        "label": 0,
        "weight": 1.0,
        "preset": "quarry",
        "rule": rung,
        "rung": rung,
        "agreement": 2,
        "s_qd": 0.4,
        "s_qp": 0.5,
        "s_pd": 0.3,
        "members": {"dense": (1, 0.4), "bm25": (2, 7.0)},
        "evidence": {},
    }
    return Example(**(values | changes))


def report_of(
    examples: Sequence[Example],
    pairs: int,
    rows: FalseNegativeRows | None = None,
    texts: Mapping[str, str] | None = None,
    **facts: Any,
) -> dict[str, Any]:
    spec = MiningSpec(name="s", collection="c", collection_key=1, server="", create_time_us=1)
    values: dict[str, Any] = {
        "pairs": pairs,
        "positives": Positives((), pairs, 0, (), 0, 0, 0),
        "members": ("dense", "bm25"),
        "parameters": {"share": 0.9},
        "positive_first": 0,
        "reuse": {"queries": pairs, "reused": 0, "why": ""},
        "calibration": None,
        "simulated": False,
        "feedback_us": None,
        "notes": (),
        "versions": {"numpy": "2"},
        "data_hash": "abc",
    }
    tables = [make_table(examples)]
    report, summary = make_report(
        spec, MinedFacts(**(values | facts)), tables, rows or FalseNegativeRows(None, None),
        lambda ids: {id: (texts or {}).get(id, "text") for id in ids},
    )  # fmt: skip
    assert summary.verdict == report["verdict"]
    assert summary.rows == report["rows"]
    return report


def test_coverage_rungs_and_members_are_counted() -> None:
    examples = [
        example(1, "a"),
        example(1, "b", "band", members={"dense": (2, 0.1)}, agreement=1),
        example(2, "c", "random", members={}, agreement=0),
        example(3, "d", label=1),
    ]
    report = report_of(examples, pairs=4)
    assert report["coverage"] == 0.5
    assert report["rungs"] == {"band": 1, "hard": 2, "random": 1}
    assert report["relabelled"] == 1
    dense, bm25 = report["members"]
    assert (dense["negatives"], dense["lost_without"], dense["pairs_changed"]) == (2, 1, 1)
    assert (bm25["negatives"], bm25["lost_without"]) == (1, 0)
    assert report["overlap"] == [[1.0, 0.5], [0.5, 1.0]]
    assert report["random"] == pytest.approx(1 / 3)
    assert sum(report["histograms"]["s_pd"]["counts"]) == 3


def test_hardest_are_by_margin_and_suspicious_by_the_reranker() -> None:
    examples = [
        example(1, "easy", s_qd=0.1, evidence={"rerank": 0.9}),
        example(2, "hard", s_qd=0.9, evidence={"rerank": 0.1}),
    ]
    report = report_of(examples, pairs=2)
    assert [one["negative_id"] for one in report["hardest"]] == ["hard", "easy"]
    assert [one["negative_id"] for one in report["suspicious"]] == ["easy", "hard"]


def many(count: int, **changes: Any) -> list[Example]:
    return [example(number, f"n{number}", **changes) for number in range(count)]


def test_an_audit_is_preferred_and_counts_what_it_knows() -> None:
    relevant = {f"text {n}": frozenset({f"p{n}", *([f"n{n}"] if n < 10 else [])}) for n in range(50)}
    known = {f"text {n}": frozenset({f"p{n}"}) for n in range(50)}
    rows = FalseNegativeRows(Audit(relevant, known), None)
    report = report_of(many(50, evidence={"rerank": 0.0}), 50, rows)
    found = report["false_negatives"]
    assert found["source"] == "audit"
    assert found["share"] == 0.2
    assert (found["lower"], found["upper"]) == pytest.approx(compute_wilson(0.2, 50))


def test_an_audit_that_names_nothing_new_says_nothing() -> None:
    same = {f"text {n}": frozenset({f"p{n}"}) for n in range(50)}
    report = report_of(many(50, evidence={"rerank": 0.3}), 50, FalseNegativeRows(Audit(same, same), None))
    assert report["false_negatives"]["source"] == "reranker"
    assert report["false_negatives"]["share"] == pytest.approx(0.3)
    assert any("say nothing of false negatives" in note for note in report["notes"])


def test_clicks_are_the_last_resort() -> None:
    clicked = RelativeRelevance({(f"text {n}", f"n{n}"): 0.1 for n in range(50)}, 0.5)
    report = report_of(many(50), 50, FalseNegativeRows(None, clicked))
    assert report["false_negatives"]["source"] == "clicks"
    assert report["false_negatives"]["share"] == pytest.approx(0.2)


def test_clicks_say_nothing_of_pairs_that_they_do_not_know() -> None:
    clicked = RelativeRelevance({(f"text {n}", f"n{n}"): 0.1 for n in range(30)}, 0.5)
    found = report_of(many(50), 50, FalseNegativeRows(None, clicked))["false_negatives"]
    assert (found["rows"], found["share"]) == (30, pytest.approx(0.2))


def test_without_a_source_the_share_is_unknown_and_a_good_set_says_so_under_its_verdict() -> None:
    report = report_of(many(50), 50)
    assert (report["false_negatives"], report["verdict"]) == (None, "GOOD")
    (warning,) = report["warnings"]
    assert "how many negatives are false is not known" in warning
    page = render_page(report)
    verdict = page[page.index("<strong>GOOD") : page.index("What was mined")]
    assert "how many negatives are false is not known" in verdict
    assert VERDICTS["GOOD"] in verdict
    known = report_of(many(50, evidence={"rerank": 0.1}), 50)
    assert known["warnings"] == []
    assert '<div class="verdict good">' in render_page(known)


def test_every_warning_stands_under_the_verdict_and_once() -> None:
    positives = Positives((), 3, 0, ("gone",), 1, 0, 0, wordless=("void",), wordless_pairs=2)
    page = render_page(report_of(many(50), 50, simulated=True, positives=positives))
    verdict = page[page.index("<strong>GOOD") : page.index("What was mined")]
    for told in (
        "a program made the feedback",
        "lacks 1 judged or clicked documents: gone",
        "no word in them",
    ):
        assert told in verdict
        assert page.count(told) == 1


def test_each_suspicious_row_says_what_to_do_with_it() -> None:
    examples = [
        example(1, "copy", s_pd=0.95, s_qd=0.2, s_qp=0.5),
        example(2, "nearer", s_pd=0.5, s_qd=0.8, s_qp=0.5),
        example(3, "other", s_pd=0.4, s_qd=0.2, s_qp=0.5),
    ]
    report = report_of(examples, pairs=3)
    advice = {one["negative_id"]: one["advice"] for one in report["suspicious"]}
    assert advice["copy"].startswith(
        "It says nearly what p1 says: read it. If it answers the query, judge it"
    )
    assert advice["nearer"].startswith("It is nearer to the query than p2 is: read it.")
    assert advice["other"].startswith("It may be an answer: read it.")
    page = render_page(report)
    assert all(one in page for one in advice.values())
    assert "advice" not in report["hardest"][0]


@pytest.mark.parametrize("verdict", get_args(Verdict))
def test_every_verdict_has_the_words_of_page_and_terminal(verdict: Verdict) -> None:
    report = report_of(many(50), 50) | {"verdict": verdict}
    assert f"<strong>{verdict}</strong> {VERDICTS[verdict]}" in render_page(report)


def test_rows_of_one_query_count_for_less_than_those_of_many() -> None:
    false = np.array([True] * 10 + [False] * 90)
    apart = estimate_from_counts(false, np.arange(100), "audit")
    together = estimate_from_counts(false, np.arange(100) // 10, "audit")
    assert together.upper > apart.upper
    assert apart.upper == pytest.approx(0.1744, abs=2e-4)  # Wilson, 10 of 100


def test_the_draws_needed_just_reach_the_target() -> None:
    for target in (0.01, 0.05, 0.1, 0.3):
        needed = count_needed_draws(target)
        assert compute_wilson(0.0, needed)[1] <= target < compute_wilson(0.0, needed - 1)[1]


GOOD = Measured(100, 700, 0.9, (0.1, 0.05, 0.15), 0.1, 0.1)


@pytest.mark.parametrize(
    ("changes", "verdict", "tells"),
    [
        ({}, "GOOD", ""),
        ({"pairs": 0, "negatives": 0}, "NO_DATA", "judgments"),
        ({"negatives": 0}, "LOW_COVERAGE", "--depth"),
        ({"pairs": 1, "negatives": 7}, "LOW_COVERAGE", "1 (query, positive) pair, under 20"),
        ({"pairs": 19}, "LOW_COVERAGE", "more users"),
        ({"pairs": 20}, "GOOD", ""),
        ({"coverage": 0.2}, "LOW_COVERAGE", "fills up"),
        ({"false_negatives": (0.4, 0.3, 0.5)}, "FALSE_NEGATIVES", "--calibrate"),
        ({"near_positive": 0.6}, "TOO_NEAR_POSITIVE", "s(p,d)"),
        ({"random": 0.8}, "TOO_EASY", "--members"),
        ({"random": 1.0, "control": True}, "GOOD", ""),
        ({"false_negatives": None}, "GOOD", ""),
    ],
)
def test_the_gate_says_what_is_wrong_and_what_to_change(
    changes: dict[str, Any], verdict: str, tells: str
) -> None:
    found, advice = judge(replace(GOOD, **changes))
    assert found == verdict
    assert bool(advice) == (verdict != "GOOD")
    assert not tells or tells in advice[0]


def test_the_gravest_objection_comes_first_and_all_are_told() -> None:
    bad = replace(GOOD, false_negatives=(0.5, 0.4, 0.6), near_positive=0.5, coverage=0.1, random=0.9)
    verdict, advice = judge(bad)
    assert verdict == "FALSE_NEGATIVES"
    assert len(advice) == 4
    assert judge(bad, MiningGatePolicy(max_false_negatives=0.9))[0] == "TOO_NEAR_POSITIVE"


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [f"{name}={value}" for name, value in attrs if name in ("src", "href") and value]


def test_hostile_text_stays_text_in_the_page_and_nothing_is_fetched() -> None:
    members = {HOSTILE: (1, 0.5), "dense": (1, 1.0)}
    hostile = [example(n, HOSTILE, query=HOSTILE, members=members) for n in range(3)]
    report = report_of(
        hostile, 3, texts={HOSTILE: HOSTILE}, members=("dense", HOSTILE), notes=(HOSTILE,),
        positives=Positives((), 3, 0, (HOSTILE,), 1, 0, 0), parameters={HOSTILE: 1.0},
    )  # fmt: skip
    page = render_page(report)
    found = Tags()
    found.feed(page)
    assert "script" not in found.tags
    assert not [link for link in found.links if not link.startswith("href=#")]
    assert "&lt;script&gt;" in page
    assert "7*7" in page
    assert render_page(report) == page


def test_a_page_is_made_of_a_set_without_rows() -> None:
    report = report_of([], pairs=0)
    assert report["verdict"] == "NO_DATA"
    assert "NO_DATA" in render_page(report)


def test_tables_keep_every_field() -> None:
    one = example(1, "n", evidence={"rerank": 0.25, "shown": 3.0})
    (row,) = make_table([one]).to_pylist()
    assert row["members"] == [
        {"name": "bm25", "rank": 2, "score": 7.0},
        {"name": "dense", "rank": 1, "score": pytest.approx(0.4)},
    ]
    assert dict(row["evidence"]) == {"rerank": 0.25, "shown": 3.0}
    assert isinstance(make_table([]), pa.Table)
