"""Verdicts."""

from dataclasses import replace
from math import inf, pi

import numpy as np
import pytest

from quarry_trainer.evaluation.resampling import Interval, estimate_mean_intervals
from quarry_trainer.evaluation.training_gate import (
    DEFAULT_POLICY,
    ClickEvidence,
    JudgmentEvidence,
    TrainingGatePolicy,
    choose_level,
    judge,
    judge_clicks,
    list_cautions,
)

BETTER, WORSE, UNSURE = Interval(0.05, 0.01, 0.09), Interval(-0.05, -0.09, -0.01), Interval(0.02, -0.01, 0.05)
GOOD = JudgmentEvidence(queries=100, found=90, differences={"all": BETTER, "unseen": UNSURE}, unseen=30)
CLICKED = ClickEvidence(
    queries=100,
    owner_share=0.05,
    explored_clicks=500,
    effective_sample=300.0,
    support=0.95,
    doubly_robust=BETTER,
    snips=BETTER,
)
UNSEEN_CLICKS = replace(CLICKED, unseen=10, unseen_doubly_robust=UNSURE, unseen_snips=BETTER)


@pytest.mark.parametrize(
    ("evidence", "verdict", "says"),
    [
        (GOOD, "IMPROVED", "+0.050"),
        (replace(GOOD, differences={"all": UNSURE}), "NO_IMPROVEMENT", "holds 0"),
        (replace(GOOD, differences={"all": Interval(0.05, 0.0, 0.1)}), "NO_IMPROVEMENT", "holds 0"),
        (replace(GOOD, differences={"all": WORSE}), "REGRESSED", "do not promote"),
        (replace(GOOD, differences={"all": BETTER, "unseen": WORSE}), "REGRESSED", "by heart"),
        (
            replace(GOOD, differences={"all": BETTER, "unseen": Interval(-0.02, -0.1, 0.06)}),
            "NO_IMPROVEMENT",
            "documents that training saw",
        ),
        (replace(GOOD, differences={"all": BETTER, "unseen": Interval(-0.005, -0.1, 0.08)}), "IMPROVED", ""),
        (
            replace(GOOD, differences={"all": BETTER, "unseen": Interval(-0.006, -0.1, 0.08)}),
            "NO_IMPROVEMENT",
            "documents that training saw",
        ),
        (replace(GOOD, differences={"all": BETTER, "unseen": WORSE}, unseen=9), "IMPROVED", "too few"),
        (replace(GOOD, differences={"all": BETTER, "unseen": WORSE}, unseen=10), "REGRESSED", "by heart"),
        (replace(GOOD, queries=19), "INSUFFICIENT_DATA", "19 judged queries"),
        (replace(GOOD, queries=39), "INSUFFICIENT_DATA", "39 judged queries were held out, under 40"),
        (replace(GOOD, queries=40, found=40), "IMPROVED", "+0.050"),
        (replace(GOOD, queries=19, differences={"all": WORSE}), "INSUFFICIENT_DATA", "--qrels"),
        (replace(GOOD, queries=0, found=0), "BAD_DATA", "grade over 0"),
        (replace(GOOD, found=0), "BAD_DATA", "ids"),
        (replace(GOOD, finite=False), "BAD_DATA", "finite"),
        (
            replace(GOOD, changed=False, differences={"all": Interval(0, 0, 0)}),
            "NO_IMPROVEMENT",
            "as before",
        ),
        (replace(GOOD, found=40), "IMPROVED", "40%"),
    ],
)
def test_judgments_give_a_verdict_and_advice(evidence: JudgmentEvidence, verdict: str, says: str) -> None:
    found, advice = judge(evidence)
    assert found == verdict
    assert says in " ".join(advice)
    assert advice


@pytest.mark.parametrize(
    ("evidence", "verdict", "says"),
    [
        (CLICKED, "IMPROVED", "+0.050"),
        (replace(CLICKED, doubly_robust=WORSE, snips=WORSE), "REGRESSED", "do not promote"),
        (replace(CLICKED, doubly_robust=UNSURE), "NO_IMPROVEMENT", "holds 0"),
        (replace(CLICKED, snips=WORSE), "NO_IMPROVEMENT", "disagree"),
        (replace(CLICKED, doubly_robust=WORSE), "NO_IMPROVEMENT", "disagree"),
        (replace(CLICKED, owner_share=0.51), "BAD_DATA", "51%"),
        (replace(CLICKED, owner_share=0.51, queries=3), "BAD_DATA", "3 held-out queries"),
        (replace(CLICKED, owner_share=0.5), "IMPROVED", ""),
        (replace(CLICKED, explored_clicks=29), "INSUFFICIENT_DATA", "swap_probability"),
        (replace(CLICKED, support=0.79), "INSUFFICIENT_DATA", "79%"),
        (replace(CLICKED, effective_sample=49.0), "INSUFFICIENT_DATA", "49 clicks"),
        (replace(CLICKED, queries=19), "INSUFFICIENT_DATA", "19 held-out queries"),
        (replace(CLICKED, queries=39), "INSUFFICIENT_DATA", "39 held-out queries have clicks, under 40"),
        (replace(CLICKED, queries=40), "IMPROVED", "+0.050"),
        (replace(CLICKED, changed=False, effective_sample=0.0), "NO_IMPROVEMENT", "as before"),
    ],
)
def test_clicks_give_a_verdict_and_advice(evidence: ClickEvidence, verdict: str, says: str) -> None:
    found, advice = judge_clicks(evidence)
    assert found == verdict
    assert says in " ".join(advice)
    assert advice


@pytest.mark.parametrize(
    ("evidence", "verdict", "says"),
    [
        (replace(UNSEEN_CLICKS, unseen_doubly_robust=WORSE, unseen_snips=WORSE), "REGRESSED", "by heart"),
        (replace(UNSEEN_CLICKS, unseen_doubly_robust=WORSE), "NO_IMPROVEMENT", "other documents"),
        (
            replace(UNSEEN_CLICKS, unseen_doubly_robust=Interval(-0.02, -0.1, 0.06)),
            "NO_IMPROVEMENT",
            "did not see",
        ),
        (replace(UNSEEN_CLICKS, unseen_doubly_robust=Interval(-0.005, -0.1, 0.08)), "IMPROVED", ""),
        (
            replace(UNSEEN_CLICKS, unseen_doubly_robust=Interval(-0.006, -0.1, 0.08)),
            "NO_IMPROVEMENT",
            "did not see",
        ),
        (
            replace(UNSEEN_CLICKS, unseen=9, unseen_doubly_robust=WORSE, unseen_snips=WORSE),
            "IMPROVED",
            "9 of the queries, under 10",
        ),
    ],
)
def test_clicks_on_documents_that_training_did_not_see_decide_by_themselves(
    evidence: ClickEvidence, verdict: str, says: str
) -> None:
    found, advice = judge_clicks(evidence)
    assert found == verdict
    assert says in " ".join(advice)


def measure_false_improvements(queries: int, policy: TrainingGatePolicy, tries: int = 2_000) -> float:
    """Measures how often a model is called improved that is no better: half of the queries win 0.13 of
    nDCG@10, which is what the third rank gains on the second, a fifth lose 0.26, and the mean is 0."""
    random = np.random.default_rng(queries)
    loses = random.random((queries, tries)) < 0.2
    wins = ~loses & (random.random((queries, tries)) < 0.5)
    differences = np.where(loses, -0.13 * 0.5 * 0.8 / 0.2, 0.13 * wins)
    verdicts = [
        judge(JudgmentEvidence(queries, queries, {"all": interval}), policy=policy)[0]
        for interval in estimate_mean_intervals(differences)
        if interval.lower > 0  # without that no verdict is IMPROVED, and most have none
    ]
    return verdicts.count("IMPROVED") / tries


def test_forty_queries_keep_the_promised_error_and_twenty_do_not() -> None:
    asking_less = replace(DEFAULT_POLICY, min_queries=20)
    near = pytest.approx(0.025, abs=0.006)
    assert measure_false_improvements(40, DEFAULT_POLICY) == near
    assert measure_false_improvements(20, asking_less) != near
    assert measure_false_improvements(20, DEFAULT_POLICY, tries=100) == 0


def test_only_what_is_improved_on_too_few_unseen_queries_has_a_caution() -> None:
    assert list_cautions("IMPROVED", 9) == ("FEW_UNSEEN",)
    assert list_cautions("IMPROVED", 10) == ()
    assert list_cautions("NO_IMPROVEMENT", 0) == list_cautions("REGRESSED", 0) == ()


def test_what_loses_by_rounding_has_a_caution_and_says_what_to_do() -> None:
    lost, kept = Interval(-0.02, -0.03, -0.01), Interval(-0.005, -0.03, 0.02)
    assert list_cautions("IMPROVED", 10, quantization=lost) == ("QUANTIZATION_LOSS",)
    assert list_cautions("IMPROVED", 9, quantization=lost) == ("FEW_UNSEEN", "QUANTIZATION_LOSS")
    assert list_cautions("IMPROVED", 10, quantization=kept) == ()
    assert list_cautions("REGRESSED", 10, quantization=lost) == ()
    verdict, advice = judge(replace(GOOD, quantization=lost))
    assert verdict == "IMPROVED"
    assert "in int8 instead of float32 its nDCG@10 differs by -0.020" in advice[-1]
    assert "models.reranker_precision" in advice[-1]
    assert judge(replace(GOOD, quantization=kept)) == judge(GOOD)


def test_evidence_that_was_used_before_must_be_stronger() -> None:
    just = replace(GOOD, differences={"all": Interval(0.05, 0.005, 0.095)})
    assert judge(just, earlier_decisions=0)[0] == "IMPROVED"
    verdict, advice = judge(just, earlier_decisions=1)
    assert verdict == "NO_IMPROVEMENT"
    assert "1 time before" in advice[-1]
    strong = replace(GOOD, differences={"all": Interval(0.05, 0.03, 0.07)})
    assert judge(strong, earlier_decisions=10)[0] == "IMPROVED"
    clicks = replace(CLICKED, doubly_robust=Interval(0.05, 0.005, 0.095))
    assert [judge_clicks(clicks, earlier_decisions)[0] for earlier_decisions in (0, 1)] == [
        "IMPROVED",
        "NO_IMPROVEMENT",
    ]


def test_error_is_spent_within_a_bound_however_often_it_is_tried() -> None:
    assert choose_level(0) == 0.95
    assert choose_level(1) == 0.9875
    one_sided = sum((1 - choose_level(k)) / 2 for k in range(10_000))
    assert one_sided == pytest.approx(0.025 * pi**2 / 6, rel=1e-3)


def test_infinite_bounds_decide_nothing() -> None:
    unknown = Interval(0.0, -inf, inf)
    assert judge_clicks(replace(CLICKED, doubly_robust=unknown, snips=unknown))[0] == "NO_IMPROVEMENT"
