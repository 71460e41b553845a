"""Comparisons by judgments."""

from math import log2
from pathlib import Path

import numpy as np
import pytest
from tests.unit.trainer.evaluation.simulated import World
from tests.unit.trainer.ranked import candidates, grades_of, ranked_query, scores_by
from tests.unit.training.samples import evaluation_spec

from quarry.models.blend import Blend
from quarry.training.hashes import mark_queries
from quarry.training.provenance import TrainingProvenance
from quarry.training.spec import EvaluationReport, Metric, ModelRef, Subject
from quarry_trainer.evaluation.evidence import count_frequency
from quarry_trainer.evaluation.judgment_evaluation import evaluate_ranked
from quarry_trainer.evaluation.model_evaluation import read_either
from quarry_trainer.evaluation.orders import Scored
from quarry_trainer.evaluation.scoring import FUSED_ALONE


def metric(
    report: EvaluationReport, subject: Subject, slice: str = "all", measure: str = "nDCG@10"
) -> Metric:
    (one,) = (m for m in report.metrics if (m.subject, m.slice, m.measure) == (subject, slice, measure))
    return one


def test_figures_are_as_worked_by_hand() -> None:
    ranked = [ranked_query(f"q{n:02}", ["a", "b"]) for n in range(48)]
    qrels = {query.query_id: {"b": 1} for query in ranked}
    up, down = np.array([0.0, 1.0]), np.array([1.0, 0.0])
    candidate = Scored([up if n < 24 else down for n in range(48)])
    report = evaluate_ranked(ranked, qrels, candidate, Scored([down] * 48))
    second = 1 / log2(3)
    assert metric(report, "candidate").value == pytest.approx((1 + second) / 2)
    assert metric(report, "serving").value == pytest.approx(second)
    assert metric(report, "fused").value == pytest.approx(second)
    assert metric(report, "difference").value == pytest.approx((1 - second) / 2)
    assert metric(report, "candidate", measure="RR@3").value == pytest.approx(0.75)
    assert metric(report, "difference", measure="R@50").value == 0
    assert metric(report, "difference").queries == 48
    # They all ask for one document, so nothing is known of other documents.
    assert (metric(report, "difference").lower, metric(report, "difference").upper) == (-1, 1)
    assert (metric(report, "candidate").lower, metric(report, "candidate").upper) == (0, 1)
    assert report.verdict == "NO_IMPROVEMENT"
    assert report.details["clusters"] == 1


def test_questions_on_one_thing_are_drawn_together() -> None:
    """Each disease has four answers, each asked for once, and a model knows a disease or does not."""
    ranked = [ranked_query(f"q{n}-{a}", [f"x{n}", f"d{n}-{a}"]) for n in range(15) for a in range(4)]
    qrels = {query.query_id: {query.documents[1]: 1} for query in ranked}
    up, down = np.array([0.0, 1.0]), np.array([1.0, 0.0])
    candidate = Scored([up if n % 3 else down for n in range(15) for _ in range(4)])
    entities = {document: f"title:{document.split('-')[0]}" for one in qrels.values() for document in one}
    apart = evaluate_ranked(ranked, qrels, candidate)
    together = evaluate_ranked(ranked, qrels, candidate, entities=entities)
    assert (apart.details["clusters"], together.details["clusters"]) == (60, 15)
    narrow, wide = metric(apart, "difference"), metric(together, "difference")
    assert narrow.value == wide.value
    assert wide.upper - wide.lower > 1.8 * (narrow.upper - narrow.lower)


def test_a_better_model_is_found_better_than_what_serves_and_than_the_fused_order() -> None:
    random = np.random.default_rng(0)
    ranked = candidates(120)
    qrels = grades_of(ranked, random, towards_top=0.2)
    good = Scored(scores_by(ranked, qrels, random, skill=4.0))
    poor = Scored(scores_by(ranked, qrels, random, skill=1.0))
    report = evaluate_ranked(ranked, qrels, good, poor, compared_with="faq@1", source="examples")
    assert report.verdict == "IMPROVED"
    assert (report.compared_with, report.source, report.queries) == ("faq@1", "examples", 120)
    assert metric(report, "difference").lower > 0
    assert evaluate_ranked(ranked, qrels, poor, good).verdict == "REGRESSED"
    alone = evaluate_ranked(ranked, qrels, good)
    assert alone.verdict == "IMPROVED"
    assert {m.subject for m in alone.metrics} == {"candidate", "fused", "difference"}
    expected = metric(alone, "candidate").value - metric(alone, "fused").value
    assert metric(alone, "difference").value == pytest.approx(expected)
    assert EvaluationReport.model_validate_json(report.model_dump_json()) == report


def test_a_model_that_leaves_the_fused_order_is_no_improvement() -> None:
    random = np.random.default_rng(1)
    ranked = candidates(40)
    qrels = grades_of(ranked, random)
    scores = scores_by(ranked, qrels, random, skill=4.0)
    report = evaluate_ranked(ranked, qrels, Scored(scores, FUSED_ALONE))
    assert report.verdict == "NO_IMPROVEMENT"
    assert "as before" in report.advice[0]
    assert metric(report, "difference").lower == metric(report, "difference").upper == 0
    assert report.details["blend"] == {"rerank": 0, "fused": 1}


def test_what_is_learned_by_heart_does_not_hide_what_is_lost_elsewhere() -> None:
    random = np.random.default_rng(2)
    ranked = candidates(150)
    qrels = grades_of(ranked, random, towards_top=0.3)
    known = {query.query_id: n % 5 > 0 for n, query in enumerate(ranked)}
    by_heart = scores_by(ranked, qrels, random, skill=6.0)
    against = scores_by(ranked, qrels, random, skill=-2.0)
    scores = [a if known[q.query_id] else b for q, a, b in zip(ranked, by_heart, against, strict=True)]
    report = evaluate_ranked(ranked, qrels, Scored(scores), known=known)
    assert metric(report, "difference").lower > 0
    assert metric(report, "difference", "known").queries == 120
    assert metric(report, "difference", "unseen").upper < 0
    assert report.verdict == "REGRESSED"
    assert "by heart" in report.advice[0]
    assert evaluate_ranked(ranked, qrels, Scored(scores)).verdict == "IMPROVED"


def test_slices_are_reported_if_they_have_queries_enough() -> None:
    random = np.random.default_rng(3)
    ranked = [*candidates(30), *(ranked_query(f"r{n}", ["x"], text="a b c d e f g h") for n in range(4))]
    qrels = {**grades_of(ranked[:30], random), **{f"r{n}": {"x": 1} for n in range(4)}}
    report = evaluate_ranked(ranked, qrels, Scored([np.zeros(len(q)) for q in ranked], Blend(fused=1.0)))
    slices = {m.slice for m in report.metrics}
    assert "query: 1 to 2 words" in slices
    assert "query: 7 or more words" not in slices
    assert {m.measure for m in report.metrics if m.slice == "query: 1 to 2 words"} == {"nDCG@10"}
    assert metric(report, "fused", "found by dense").queries == 34


def test_the_order_of_queries_changes_nothing() -> None:
    random = np.random.default_rng(4)
    ranked = candidates(50)
    qrels = grades_of(ranked, random)
    scores = scores_by(ranked, qrels, random, skill=1.0)
    report = evaluate_ranked(ranked, qrels, Scored(scores))
    turned = evaluate_ranked(ranked[::-1], dict(reversed(qrels.items())), Scored(scores[::-1]))
    assert turned.metrics == report.metrics


def test_broken_evidence_has_a_verdict_of_its_own() -> None:
    ranked = candidates(30)
    qrels = grades_of(ranked, np.random.default_rng(5))
    zeros = [np.zeros(len(query)) for query in ranked]
    broken = [*zeros[1:], np.full(len(ranked[0]), np.nan)]
    assert evaluate_ranked(ranked, qrels, Scored(broken)).verdict == "BAD_DATA"
    assert evaluate_ranked(ranked, {}, Scored(zeros)).verdict == "BAD_DATA"
    assert evaluate_ranked([], {}, Scored([])).verdict == "BAD_DATA"
    elsewhere = {id: {"not in the collection": 1} for id in qrels}
    missed = evaluate_ranked(ranked, elsewhere, Scored(zeros))
    assert missed.verdict == "BAD_DATA"
    assert missed.details["queries_without_relevant_candidate"] == 30
    few = evaluate_ranked(ranked[:19], qrels, Scored(zeros[:19]))
    assert few.verdict == "INSUFFICIENT_DATA"
    assert metric(few, "fused").queries == 19


def test_a_query_that_either_model_was_trained_on_decides_for_neither(tmp_path: Path) -> None:
    models = {}
    for name, query in (("candidate", "the candidate's"), ("serving", "what serves learned it")):
        folder = tmp_path / name
        folder.mkdir()
        TrainingProvenance(mark_queries([query])).write(folder)
        models[name] = ModelRef(name=name, folder=str(folder))
    both = read_either(evaluation_spec(**models))
    assert both.has_query("the candidate's")
    assert both.has_query("what  serves learned it")
    assert not both.has_query("nobody's")
    alone = read_either(evaluation_spec(candidate=models["candidate"]))
    assert alone.has_query("the candidate's")
    assert not alone.has_query("what serves learned it")


def test_where_the_candidate_learned_all_judged_queries_there_is_too_little_to_tell() -> None:
    found = evaluate_ranked([], {}, Scored([]), kept_out=30)
    assert found.verdict == "INSUFFICIENT_DATA"
    assert "0 judged queries" in found.advice[0]


def test_what_is_improved_where_hardly_a_document_is_unseen_has_a_caution() -> None:
    random = np.random.default_rng(0)
    ranked = candidates(120)
    qrels = grades_of(ranked, random, towards_top=0.2)
    good = Scored(scores_by(ranked, qrels, random, skill=4.0))

    def judged(unseen: int) -> EvaluationReport:
        known = {query.query_id: n >= unseen for n, query in enumerate(ranked)}
        return evaluate_ranked(ranked, qrels, good, known=known)

    few, enough = judged(9), judged(10)
    assert (few.verdict, few.cautions) == ("IMPROVED", ("FEW_UNSEEN",))
    assert few.details["unseen_queries"] == 9
    assert "9 of the queries, under 10" in " ".join(few.advice)
    assert (enough.verdict, enough.cautions) == ("IMPROVED", ())


def test_what_serves_in_int8_is_held_to_itself_in_float32() -> None:
    random = np.random.default_rng(0)
    ranked = candidates(120)
    qrels = grades_of(ranked, random, towards_top=0.2)
    known = {query.query_id: False for query in ranked}
    exact = Scored(scores_by(ranked, qrels, random, skill=8.0))
    rounded = Scored([s + random.normal(0.0, 8.0, len(s)) for s in exact.scores])
    found = evaluate_ranked(ranked, qrels, rounded, known=known, exact=exact)
    assert found.verdict == "IMPROVED", "the gate judges what serves"
    assert found.cautions == ("QUANTIZATION_LOSS",)
    lost = evaluate_ranked(ranked, qrels, rounded, exact, known).metrics
    (difference,) = (m for m in lost if (m.measure, m.slice, m.subject) == ("nDCG@10", "all", "difference"))
    expected = {"value": difference.value, "lower": difference.lower, "upper": difference.upper}
    assert found.details["quantization"] == pytest.approx(expected)
    same = evaluate_ranked(ranked, qrels, exact, known=known, exact=exact)
    assert (same.cautions, same.details["quantization"]) == ((), {"value": 0.0, "lower": 0.0, "upper": 0.0})
    assert "quantization" not in evaluate_ranked(ranked, qrels, exact, known=known).details
    broken = Scored([np.full(len(s), np.nan) for s in exact.scores])
    assert evaluate_ranked(ranked, qrels, rounded, known=known, exact=broken).verdict == "BAD_DATA"


def test_head_and_tail_are_by_how_often_a_query_was_searched_for() -> None:
    world = World.observe(documents=10)
    log = world.log(600, seed=0)
    ranked = [ranked_query(f"q{n}", ["a", "b"], text=f" {text}") for n, text in enumerate(log.texts[:20])]
    ranked.append(ranked_query("never", ["a"], text="never asked"))
    frequency = count_frequency(log, ranked)
    assert frequency is not None
    assert frequency["never"] == 0
    assert all(frequency[f"q{n}"] == (log.query == n).sum() > 0 for n in range(20))
    assert count_frequency(log, ranked[-1:]) is None
    qrels = {query.query_id: {"b": 1} for query in ranked}
    zeros = Scored([np.zeros(len(query)) for query in ranked])
    report = evaluate_ranked(ranked, qrels, zeros, frequency=frequency)
    counts = {name: metric(report, "fused", name).queries for name in ("head", "tail")}
    assert sum(counts.values()) == 21
    assert 5 <= counts["head"] < counts["tail"]


def test_evidence_that_was_used_before_must_be_stronger() -> None:
    random = np.random.default_rng(6)
    ranked = candidates(60)
    qrels = grades_of(ranked, random, towards_top=0.2)
    scores = Scored(scores_by(ranked, qrels, random, skill=2.0))
    fresh, used = (
        evaluate_ranked(ranked, qrels, scores, earlier_decisions=earlier_decisions)
        for earlier_decisions in (0, 20)
    )
    assert fresh.metrics == used.metrics
    decides = [report.details["decides"]["differences"]["all"] for report in (fresh, used)]  # type: ignore[index]
    assert decides[1]["lower"] < decides[0]["lower"] == pytest.approx(metric(fresh, "difference").lower)
    assert decides[1]["upper"] > decides[0]["upper"]
