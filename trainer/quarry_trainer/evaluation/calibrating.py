"""Fits what a re-ranker's scores say of relevance, on judged queries that it did not learn from.

Platt's two numbers and not an isotonic curve: of 20 to 80 queries the curve is never nearer on held-out
questions, and of 20 much further off (docs/explanation/relevance.md, Relevance).
"""

from dataclasses import asdict, dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from quarry.models.calibration import ECE_BINS, Calibration, measure_calibration_error
from quarry.training.spec import EvaluationReport
from quarry_trainer.data.judged_sample import Bool, CandidateSample
from quarry_trainer.data.live import Float64

LEAST_QUESTIONS, LEAST_RELEVANT = 20, 20
"""Questions, which may share no relevant document, and relevant candidates: fewer tell too little."""
LEAST_UNSEEN = 10
"""Unseen questions, from which on their error is told apart."""
SHOWN = 10
"""Best candidates of a query, over which errors are measured: those that people see."""
FITTED = 20
"""Best candidates of a query that are fitted. Of all 50 the hopeless ones would decide; weights by rank say
too much where one document answers."""
GOOD_ECE = 0.05
"""An error over this, and over what chance explains, is named in the advice."""
FOLDS, DRAWS, LEVEL = 5, 200, 0.95


class NotCalibrated(Exception):
    """There is no calibration; the message says why, and what to do."""


NOTHING_JUDGED = (
    "no judged query was held out, and clicks do not tell how many of the documents are relevant that nobody "
    "chose: train with judged queries"
)


@dataclass(frozen=True, slots=True)
class Errors:
    """Expected calibration errors of probabilities, 0 to 1.

    Attributes:
        ece: over the ten best candidates of each query.
        ece_all: over all candidates.
        ece_unseen: as ``ece``, of queries whose documents training did not see; None if too few are.
        chance: what ``ece`` stays under in 19 of 20 draws if every probability is right; ``chance_unseen``
            the same of ``ece_unseen``.
    """

    ece: float
    ece_all: float
    ece_unseen: float | None
    chance: float
    chance_unseen: float | None

    @classmethod
    def measure(cls, probabilities: Float64, sample: CandidateSample) -> "Errors":
        top = sample.ranks <= SHOWN
        unseen = top & sample.unseen
        told = len(np.unique(sample.questions[unseen])) >= LEAST_UNSEEN

        def measure_error(places: Bool) -> float:
            return measure_calibration_error(probabilities[places], sample.relevant[places], ECE_BINS)

        return cls(
            measure_error(top),
            measure_error(np.ones_like(top)),
            measure_error(unseen) if told else None,
            _limit_by_chance(probabilities[top]),
            _limit_by_chance(probabilities[unseen]) if told else None,
        )

    def describe_large(self, queries: str) -> tuple[str, ...]:
        """Describes errors that are large, and not by chance, and says by which ``queries`` they are told."""
        parts = (("", self.ece, self.chance), (" of unseen documents", self.ece_unseen, self.chance_unseen))
        return tuple(
            f"the relevance that searches give{name} is off by {error:.3f} on average, on {queries}: more "
            f"than {GOOD_ECE}, so judge more queries before you rely on min_relevance"
            for name, error, chance in parts
            if error is not None and chance is not None and error > max(GOOD_ECE, chance)
        )


def fit_calibration(sample: CandidateSample) -> tuple[Calibration, Errors]:
    """Fits the calibration that ``sample`` gives, and its errors on questions that a fit did not see.

    Raises NotCalibrated if the sample is too small or of one class, or higher scores are not more relevant.
    """
    if not sample.queries:
        raise NotCalibrated(NOTHING_JUDGED)
    fitted = _fit(sample).relevant
    relevant = int(fitted.sum())
    if sample.asked < LEAST_QUESTIONS or relevant < LEAST_RELEVANT:
        raise NotCalibrated(
            f"the held-out judged queries are {sample.asked} questions with {relevant} relevant candidates, "
            f"and a calibration takes {LEAST_QUESTIONS} with {LEAST_RELEVANT}: judge more queries"
        )
    if relevant == len(fitted):
        raise NotCalibrated("every candidate of the held-out judged queries is relevant: judge other queries")
    slope, intercept = fit_platt(_fit(sample))
    errors = Errors.measure(_estimate_out_of_fold(sample), sample)
    calibration = Calibration(
        slope=slope,
        intercept=intercept,
        source="judgments",
        queries=sample.queries,
        pairs=len(fitted),
        relevant=relevant,
        ece=errors.ece,
        ece_all=errors.ece_all,
        ece_unseen=errors.ece_unseen,
    )
    return calibration, errors


def with_calibration(
    report: EvaluationReport, sample: CandidateSample, ranking: str = ""
) -> tuple[EvaluationReport, Calibration | None]:
    """Adds to the report the calibration that ``sample`` gives, if any, and what became of it: in ``ece``,
    ``details.calibration`` and, where there is none or it is inexact, ``advice``."""
    try:
        fitted, errors = fit_calibration(sample)
    except NotCalibrated as error:
        return _leave_uncalibrated(report, str(error)), None
    calibration = fitted.model_copy(update={"ranking": ranking})
    told = {**calibration.model_dump(), **asdict(errors)}
    advice = errors.describe_large("queries that it was not fitted on")
    return _add_finding(report, told, advice, errors.ece), calibration


def with_errors(
    report: EvaluationReport,
    calibration: Calibration | None,
    sample: CandidateSample,
    ranking: str | None = None,
) -> EvaluationReport:
    """Adds to the report how far the relevance of a version that exists is off on ``sample``, likewise.

    Nothing tells whether the version was fitted on queries of ``sample``; on those the error is too small.

    Args:
        ranking: configuration that merged the fused scores; None: the version counts none.
    """
    if calibration is None:
        return _leave_uncalibrated(report, "the version has no calibration")
    if ranking not in (None, calibration.ranking):
        fitted = calibration.ranking or "the default ranking configuration"
        return _leave_uncalibrated(report, f"the version is calibrated for {fitted}, and another one serves")
    if not sample.queries:
        return report
    errors = Errors.measure(calibration.estimate_probability(sample.scores), sample)
    sizes = {"queries": sample.queries, "pairs": len(sample.scores), "relevant": int(sample.relevant.sum())}
    advice = errors.describe_large("the queries of this evaluation")
    return _add_finding(report, {**sizes, **asdict(errors)}, advice, errors.ece)


def _leave_uncalibrated(report: EvaluationReport, why: str) -> EvaluationReport:
    advice = f"searches give no relevance while it serves, and refuse min_relevance: {why}"
    return _add_finding(report, {"missing": why}, (advice,), None)


def _add_finding(
    report: EvaluationReport, told: dict[str, object], advice: tuple[str, ...], ece: float | None
) -> EvaluationReport:
    details = {**report.details, "calibration": told}
    return report.model_copy(update={"advice": (*report.advice, *advice), "details": details, "ece": ece})


def _limit_by_chance(probabilities: Float64) -> float:
    """Computes the error that right probabilities stay under, in ``LEVEL`` of draws of what is relevant."""
    random = np.random.default_rng(0)
    drawn = random.random((DRAWS, len(probabilities))) < probabilities
    errors = [measure_calibration_error(probabilities, labels, ECE_BINS) for labels in drawn]
    return float(np.quantile(errors, LEVEL))


def fit_platt(sample: CandidateSample) -> tuple[float, float]:
    """Fits the slope and intercept of the logistic curve.

    Labels are drawn a little together, after Platt, so that a sample that the score divides has finite ones.
    Raises NotCalibrated.
    """
    relevant, raw = sample.relevant, sample.scores
    positives, negatives = int(relevant.sum()), int((~relevant).sum())
    label = np.where(relevant, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    center, spread = float(raw.mean()), float(raw.std())
    if not spread:
        raise NotCalibrated("all candidates of the held-out queries have one score: it says nothing")
    scores = np.tile((raw - center) / spread, 2)[:, None]
    model = LogisticRegression(C=1e6, max_iter=1_000).fit(
        scores, np.repeat([1, 0], len(raw)), np.concatenate([label, 1 - label])
    )
    slope, intercept = float(model.coef_[0, 0]) / spread, float(model.intercept_[0])
    if slope <= 0:
        raise NotCalibrated(
            "of the held-out judged queries what scores higher is not more often relevant: train on more, or "
            "look whether the judgments are right"
        )
    return slope, intercept - slope * center


def _fit(sample: CandidateSample) -> CandidateSample:
    return sample.take(np.flatnonzero(sample.ranks <= FITTED))


def _estimate_out_of_fold(sample: CandidateSample) -> Float64:
    """Estimates each candidate's probability by a fit that saw no query of its question, float64, shape
    ``(n,)``."""
    found = np.empty(len(sample.scores))
    for rest, held in GroupKFold(FOLDS).split(sample.scores, groups=sample.questions):
        slope, intercept = fit_platt(_fit(sample.take(rest)))
        logits = slope * sample.scores[held] + intercept
        found[held] = np.exp(-np.logaddexp(0.0, -logits))
    return found
