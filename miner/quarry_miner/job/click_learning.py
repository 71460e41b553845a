"""The lessons of clicks before mining: positives, evidence, relevance of what was shown."""

from dataclasses import dataclass, replace

import numpy as np

from quarry.clicks.counts import spread_over_places
from quarry.clicks.log import ClickLog
from quarry.clicks.model import ClickModel, Estimates
from quarry.clicks.models.pbm import PositionBased
from quarry.clicks.noise import LEAST_PAIRS, LEAST_TRIES, Noise, estimate_noise
from quarry.clicks.propensity import choose_examination
from quarry.clicks.registry import CLICK_MODELS
from quarry.errors import NoFeedbackError
from quarry.mining.spec import ClickModelName, FeedbackPositives
from quarry.questions import make_question_key
from quarry_miner.corpus import Corpus
from quarry_miner.evidence.logs import compute_clicks_digest
from quarry_miner.evidence.pair_evidence import FeedbackEvidence
from quarry_miner.evidence.positives import (
    FALLBACK_FLOOR,
    LEAST_OWNERS,
    ClickedDocument,
    keep_agreed,
    select_above_floor,
    select_clicked,
)
from quarry_miner.report.false_negative_rows import RelativeRelevance

_LEARN_EXAMINATION = ("ubm", "affine")
_OWN_EXAMINATION = (
    "This model learns examination itself: exploration counts only as pairs that were shown at several "
    "ranks, and its probabilities are not used."
)
LEAST_EXAMINATIONS = 5.0
"""Expected, of a pair whose relevance is held against a negative."""


@dataclass(frozen=True, slots=True, eq=False)
class LearnedFromClicks:
    """From one click log.

    Attributes:
        estimates: None if nothing was clicked.
        noise: None if nothing tells it.
        digest: of the log.
        positives: clicked pairs that are relevant enough, by the clicks of several.
        notes: for people.
    """

    clicks: ClickLog
    digest: str
    estimates: Estimates | None
    noise: Noise | None
    positives: tuple[ClickedDocument, ...]
    notes: tuple[str, ...]

    @property
    def span_us(self) -> tuple[int, int] | None:
        return self.clicks.span_us

    def make_evidence(self, corpus: Corpus) -> FeedbackEvidence | None:
        """Makes what is known of each pair. Clicks on pairs that are noise are no evidence, if the noise is
        known.

        Without that, whatever is shown long enough would count as clicked, and as clicked together.
        """
        if self.estimates is None:
            return None
        if self.noise is None:
            return FeedbackEvidence(self.clicks, self.estimates, corpus)
        likely = ~self.noise.refuted
        meant = spread_over_places(self.clicks, self.estimates, likely.astype(np.float64), 0.0) > 0
        log = replace(self.clicks, clicked=self.clicks.clicked & meant)
        return FeedbackEvidence(log, replace(self.estimates, clicks=self.estimates.clicks * likely), corpus)

    def make_relevance(self) -> RelativeRelevance | None:
        """Makes the relevance of pairs examined often enough, relative to the positives. None where no click
        makes a positive.

        It is the probability of being relevant where the noise is known, else the click model's estimate. Of
        the other pairs the estimate is little more than the mean of what is shown, and negatives are not like
        what is shown.
        """
        if self.estimates is None or not self.positives:
            return None
        examined = self.estimates.clicks + self.estimates.refusals >= LEAST_EXAMINATIONS
        relevance = self.estimates.relevance if self.noise is None else self.noise.relevant
        found = {
            (make_question_key(self.clicks.queries[query]), self.clicks.documents[document]): relevance
            for query, document, relevance in zip(
                self.estimates.query[examined].tolist(),
                self.estimates.document[examined].tolist(),
                relevance[examined].tolist(),
                strict=True,
            )
        }
        if self.noise is not None:
            return RelativeRelevance(found, 1.0)
        return RelativeRelevance(found, float(np.mean([pair.relevance for pair in self.positives])))


def learn(clicks: ClickLog, asked: FeedbackPositives) -> LearnedFromClicks:
    """Fits the click model that is asked for. A log without a click teaches nothing, and that is said."""
    digest = compute_clicks_digest(clicks)
    try:
        model, source = choose_click_model(asked.model, clicks)
        fitted = model.fit(clicks)
    except NoFeedbackError as error:
        return LearnedFromClicks(clicks, digest, None, None, (), (str(error),))
    noise = estimate_noise(clicks, fitted.estimates)
    above, note = _select_likely_relevant(clicks, fitted.estimates, noise, asked.floor)
    positives = keep_agreed(above, clicks)
    notes = [f"clicks are read by {fitted.name}", *source, *fitted.notes, note]
    if left_out := len(above) - len(positives):
        notes.append(
            f"{left_out:,} clicked pairs are no positives: fewer than {LEAST_OWNERS} users clicked them"
        )
    return LearnedFromClicks(clicks, digest, fitted.estimates, noise, tuple(positives), tuple(notes))


def _select_likely_relevant(
    log: ClickLog, estimates: Estimates, noise: Noise | None, floor: float | None
) -> tuple[list[ClickedDocument], str]:
    """Selects the clicked pairs that stand out from the noise, or are above the floor asked for; and a
    note."""
    if floor is not None:
        found, note = select_above_floor(log, estimates, floor), f"positives are above the floor of {floor:g}"
        if noise is not None and floor <= noise.noise_rate.max():
            note += ": what is not relevant gets above it, too, if it is shown often enough"
        return found, note if noise is None else f"{note}. {noise.note}"
    if noise is not None:
        weighed = replace(estimates, relevance=estimates.relevance * noise.relevant)
        return select_clicked(log, weighed, noise.likely), noise.note
    return select_above_floor(log, estimates, FALLBACK_FLOOR), (
        f"too few pairs were examined {LEAST_TRIES:g} times or more to tell how often users choose what is "
        f"not relevant (it takes {LEAST_PAIRS}): positives have a relevance of {FALLBACK_FLOOR:g} or more by "
        "the lower end of its interval"
    )


def choose_click_model(name: ClickModelName, log: ClickLog) -> tuple[ClickModel, tuple[str, ...]]:
    """Chooses the model to fit to ``log``, and what its examination rests on.

    The position-based model is given the curve that exploration or moves between ranks tell. Without them it
    learns its own, as the other models always do.

    Raises:
        NoFeedbackError: nothing was clicked.
    """
    model = CLICK_MODELS[name]
    if name in _LEARN_EXAMINATION:
        return model, (_OWN_EXAMINATION,)
    if name != PositionBased.name:
        return model, ()
    chosen = choose_examination(log)
    if chosen.source == "pbm":
        return model, ()
    return PositionBased(chosen.examination), (f"Source of examination: {chosen.source}.", *chosen.notes)
