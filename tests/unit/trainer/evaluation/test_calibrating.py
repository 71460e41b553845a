"""What scores say of relevance: fitted on some questions, held to others."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.special import expit
from tests.unit.trainer.ranked import candidates

from quarry.errors import ModelError
from quarry.mining.spec import JudgedQuery
from quarry.models.blend import Blend
from quarry.models.calibration import (
    CALIBRATION_FILE,
    Calibration,
    measure_calibration_error,
    read_calibration,
    write_calibration,
)
from quarry.training.spec import EvaluationReport
from quarry_trainer.data.dataset import Examples, Group
from quarry_trainer.data.judged_sample import CandidateSample, find_relabelled
from quarry_trainer.data.linked_queries import number_components
from quarry_trainer.data.live import RankedQuery
from quarry_trainer.evaluation.calibrating import (
    NOTHING_JUDGED,
    Errors,
    NotCalibrated,
    _estimate_out_of_fold,
    fit_calibration,
    with_calibration,
    with_errors,
)

Float64 = NDArray[np.float64]
ALONE = Blend()


class Made:
    """Queries whose candidates are relevant with a probability that is known.

    Attributes:
        truth: of each query's candidates, P(relevant).
        scores: of a model whose log odds are ``score / scale - shift``.
    """

    def __init__(self, queries: int, seed: int, scale: float = 1.0, shift: float = 2.5) -> None:
        random = np.random.default_rng(seed)
        self.ranked = candidates(queries, depth=20)
        odds = [random.normal(0.0, 2.0, len(query)) for query in self.ranked]
        self.scores = [scale * (one + shift) for one in odds]
        self.truth = [expit(one - shift) for one in odds]
        self.queries = [
            JudgedQuery(
                id=query.query_id,
                text=f"question {seed} {query.query_id}",
                judgments={d: int(random.random() < p) for d, p in zip(query.documents, own, strict=True)},
            )
            for query, own in zip(self.ranked, self.truth, strict=True)
        ]
        self.known = {query.id: place % 2 == 0 for place, query in enumerate(self.queries)}

    def sample(self, blend: Blend = ALONE) -> CandidateSample:
        return CandidateSample.from_ranked(self.ranked, self.scores, blend, self.queries, self.known)

    def precision(self, calibration: Calibration, least: float) -> float:
        """Share that is relevant of what a search with ``min_relevance`` gives out."""
        sample = self.sample()
        kept = calibration.estimate_probability(sample.scores) >= least
        return float(sample.relevant[kept].mean())


def test_probabilities_are_those_that_relevance_was_drawn_by() -> None:
    fitted, found = fit_calibration(Made(300, seed=1, scale=20.0).sample())
    made = Made(400, seed=2, scale=20.0)
    for scores, truth in zip(made.scores, made.truth, strict=True):
        assert np.abs(fitted.estimate_probability(scores) - truth).max() < 0.08
    assert fitted.queries == 300 and fitted.pairs == 6_000 and fitted.source == "judgments"
    errors = Errors.measure(fitted.estimate_probability(made.sample().scores), made.sample())
    assert max(errors.ece, errors.ece_all, errors.ece_unseen or 1.0) <= 0.05
    assert (fitted.ece, fitted.ece_unseen) == (found.ece, found.ece_unseen)
    assert fitted.ece <= found.chance and not found.describe_large("queries")


def test_the_sigmoid_of_a_raw_score_is_no_probability() -> None:
    """What was taken for one: a split model's 20 times a cosine is over 0 for what answers nothing."""
    made = Made(100, seed=3, scale=2.0, shift=6.0)
    sample = made.sample()
    raw = measure_calibration_error(expit(sample.scores), sample.relevant, 10)
    assert raw > 0.5 > 0.05 > fit_calibration(sample)[0].ece_all


def test_the_blended_score_is_what_is_calibrated() -> None:
    made = Made(60, seed=4)
    blend = Blend(rerank=0.5, fused=3.0)
    sample = made.sample(blend)
    blended = 0.5 * made.scores[0] + 3.0 * made.ranked[0].fused
    first = sample.scores[: len(blended)]
    np.testing.assert_allclose(first, np.sort(blended)[::-1])
    assert sample.ranks[: len(blended)].tolist() == list(range(1, len(blended) + 1))


@pytest.mark.parametrize("least", [0.2, 0.5])
def test_a_threshold_keeps_its_meaning_from_version_to_version(least: float) -> None:
    before, after = Made(150, seed=5, scale=20.0), Made(150, seed=5, scale=0.3)
    (old, _), (new, _) = fit_calibration(before.sample()), fit_calibration(after.sample())
    later, later_after = Made(300, seed=6, scale=20.0), Made(300, seed=6, scale=0.3)
    assert abs(later.precision(old, least) - later_after.precision(new, least)) < 0.02
    assert later.precision(old, least) > least
    assert not (old.estimate_probability(later_after.sample().scores) >= least).any()  # each needs its own


def test_what_shares_a_document_or_a_text_is_one_question() -> None:
    queries = [
        JudgedQuery(id="a", text="one", judgments={"d1": 1}),
        JudgedQuery(id="b", text="two", judgments={"d1": 2, "d2": 1}),
        JudgedQuery(id="c", text="three", judgments={"d2": 1}),
        JudgedQuery(id="d", text="four", judgments={"d3": 1, "d1": 0}),
        JudgedQuery(id="e", text=" FOUR", judgments={"d4": 1}),
        JudgedQuery(id="f", text="five", judgments={"d1": 0}),
    ]
    first, *others = number_components(queries)
    assert others[:2] == [first, first]
    assert others[2] == others[3] != first
    assert others[4] not in (first, others[2])


def test_no_question_is_held_to_a_fit_that_saw_it() -> None:
    """Two queries ask each question: what is relevant to it changes nothing in what both are told."""
    made = Made(60, seed=7)
    sample = made.sample()
    twice = replace(sample, questions=sample.questions // 2)
    own = twice.questions == 4
    assert len(set(sample.questions[own].tolist())) == 2
    turned = replace(twice, relevant=np.where(own, ~twice.relevant, twice.relevant))
    before, after = _estimate_out_of_fold(twice), _estimate_out_of_fold(turned)
    np.testing.assert_array_equal(before[own], after[own])
    assert np.abs(before - after).max() > 1e-4


def judged(ranked: Sequence[RankedQuery], labels: Sequence[NDArray[np.bool_]]) -> list[JudgedQuery]:
    return [
        JudgedQuery(
            id=query.query_id,
            text=query.query_id,
            judgments={d: int(yes) for d, yes in zip(query.documents, label.tolist(), strict=True)},
        )
        for query, label in zip(ranked, labels, strict=True)
    ]


def missing(labels: Sequence[NDArray[np.bool_]], scores: Sequence[Float64]) -> str:
    ranked = candidates(len(labels))
    with pytest.raises(NotCalibrated) as caught:
        fit_calibration(CandidateSample.from_ranked(ranked, scores, ALONE, judged(ranked, labels), {}))
    return str(caught.value)


def test_a_sample_that_tells_too_little_makes_no_calibration() -> None:
    good, none = np.arange(20) < 2, np.zeros(20, np.bool_)
    falling = np.linspace(1.0, 0.0, 20)
    assert "19 questions with 38 relevant" in missing([good] * 19, [falling] * 19)
    assert "with 0 relevant" in missing([none] * 40, [falling] * 40)
    assert "every candidate" in missing([~none] * 40, [falling] * 40)
    assert "one score" in missing([good] * 40, [np.zeros(20)] * 40)
    assert "not more often relevant" in missing([good] * 40, [falling[::-1]] * 40)
    assert missing([], []) == NOTHING_JUDGED


def test_what_only_a_model_called_relevant_is_left_out() -> None:
    """Or a version's beliefs would become the judgments of the next one."""
    made = Made(60, seed=8)
    query = made.queries[0]
    believed = made.ranked[0].documents[3]
    group = Group(query.id, query.text, made.ranked[0].documents[0], (believed,), (True,), (1.0,))
    doubtful = find_relabelled(Examples((group,), False, "h"), made.queries)
    assert doubtful == {query.id: {believed}}
    sample = CandidateSample.from_ranked(made.ranked, made.scores, ALONE, made.queries, made.known, doubtful)
    assert len(sample.scores) == len(made.sample().scores) - 1


def test_the_report_says_what_became_of_it() -> None:
    report = EvaluationReport(verdict="IMPROVED", advice=("serve it",))
    without, none = with_calibration(report, Made(10, seed=9).sample())
    assert none is None and without.ece is None
    assert "refuse min_relevance: the held-out judged queries are 10 questions" in without.advice[1]
    assert set(without.details["calibration"]) == {"missing"}  # type: ignore[arg-type]
    good, calibration = with_calibration(report, Made(150, seed=9).sample())
    assert calibration is not None and good.ece == calibration.ece
    assert good.advice == report.advice


def test_what_is_off_by_more_than_chance_explains_is_named() -> None:
    made = Made(60, seed=12)
    wrong = np.where(made.sample().relevant, 0.4, 0.6)
    errors = Errors.measure(wrong, replace(made.sample(), unseen=np.zeros(len(wrong), np.bool_)))
    (told,) = errors.describe_large("other queries")
    assert "off by 0.6" in told and "on other queries" in told
    truth = np.concatenate([one[np.argsort(-s)] for one, s in zip(made.truth, made.scores, strict=True)])
    errors = Errors.measure(truth, made.sample())
    assert errors.ece_unseen is not None and errors.ece_unseen > 0.03  # of few queries, by chance
    assert not errors.describe_large("queries")


def test_an_evaluation_says_how_far_a_versions_relevance_is_off() -> None:
    report = EvaluationReport(verdict="IMPROVED")
    fitted, _ = fit_calibration(Made(150, seed=10).sample())
    honest = with_errors(report, fitted, Made(100, seed=11).sample())
    lying = with_errors(report, fitted.model_copy(update={"intercept": 3.0}), Made(100, seed=11).sample())
    assert honest.ece is not None and lying.ece is not None
    assert honest.ece <= 0.05 < 0.3 < lying.ece
    assert with_errors(report, None, Made(100, seed=11).sample()).ece is None


def test_a_models_folder_holds_its_calibration(tmp_path: Path) -> None:
    assert read_calibration(tmp_path) is None
    made, _ = fit_calibration(Made(60, seed=12).sample())
    write_calibration(tmp_path, made)
    assert read_calibration(tmp_path) == made
    for broken in (b"{}", b"nonsense", made.model_dump_json().replace('"slope":', '"slope":-').encode()):
        (tmp_path / CALIBRATION_FILE).write_bytes(broken)
        with pytest.raises(ModelError, match=CALIBRATION_FILE):
            read_calibration(tmp_path)
    write_calibration(tmp_path, None)
    assert read_calibration(tmp_path) is None


@pytest.mark.parametrize("change", [{"slope": float("inf")}, {"ece": 1.5}, {"relevant": 400}, {"slope": 0.0}])
def test_numbers_that_are_none_are_refused(change: dict[str, float]) -> None:
    good = {
        "slope": 1.0, "intercept": 0.0, "source": "judgments", "queries": 40, "pairs": 400, "relevant": 40,
        "ece": 0.0, "ece_all": 0.0,
    }  # fmt: skip
    Calibration.model_validate(good)
    with pytest.raises(ValidationError):
        Calibration.model_validate({**good, **change})


def test_the_error_is_the_mean_distance_between_belief_and_truth() -> None:
    probabilities = np.array([0.1, 0.1, 0.9, 0.9])
    assert measure_calibration_error(probabilities, np.array([0, 0, 1, 1], bool), 10) == pytest.approx(0.1)
    assert measure_calibration_error(probabilities, np.array([1, 1, 0, 0], bool), 10) == pytest.approx(0.9)
    assert measure_calibration_error(np.array([1.0, 1.0]), np.array([1, 0], bool), 10) == pytest.approx(0.5)


def test_queries_on_documents_of_one_title_are_one_question() -> None:
    made = Made(40, seed=14)
    relevant = {d: "one thing" for query in made.queries[:2] for d, yes in query.judgments.items() if yes}
    assert made.sample().asked == 40
    named = CandidateSample.from_ranked(
        made.ranked, made.scores, ALONE, made.queries, made.known, entities=relevant
    )
    assert named.asked == 39
