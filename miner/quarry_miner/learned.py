"""What a mining job learns from clicks before it mines: positives, evidence, relevance of what was shown."""

from dataclasses import dataclass

import numpy as np

from quarry.errors import NoFeedbackError
from quarry.mining.spec import ClickModelName, FeedbackPositives
from quarry.questions import question_key
from quarry_miner.clicks.base import ClickLog, ClickModel, Estimates
from quarry_miner.clicks.pbm import PositionBased
from quarry_miner.clicks.propensity import best_examination
from quarry_miner.clicks.registry import CLICK_MODELS
from quarry_miner.corpus import Corpus
from quarry_miner.evidence import Feedback
from quarry_miner.false_negative_rows import RelativeRelevance
from quarry_miner.logs import OwnedClicks, clicks_digest, span_us
from quarry_miner.positives import LEAST_OWNERS, Clicked, above_floor, by_several

LEAST_EXAMINATIONS = 5.0
"""Expected, of a pair whose relevance is held against a negative."""


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """From one click log.

    Attributes:
        estimates: None if nothing was clicked.
        digest: of the log.
        positives: clicked pairs that are relevant enough, by the clicks of several.
        notes: for people.
    """

    clicks: ClickLog
    digest: str
    estimates: Estimates | None
    positives: tuple[Clicked, ...]
    notes: tuple[str, ...]

    @property
    def span_us(self) -> tuple[int, int] | None:
        return span_us(self.clicks)

    def evidence(self, corpus: Corpus) -> Feedback | None:
        return None if self.estimates is None else Feedback(self.clicks, self.estimates, corpus)

    def relevance(self) -> RelativeRelevance | None:
        """Of pairs examined often enough, relative to the positives. None where no click makes a positive.

        Of the others the estimate is little more than the mean of what is shown, and negatives are not like
        what is shown.
        """
        if self.estimates is None or not self.positives:
            return None
        examined = self.estimates.clicks + self.estimates.refusals >= LEAST_EXAMINATIONS
        found = {
            (question_key(self.clicks.queries[query]), self.clicks.documents[document]): relevance
            for query, document, relevance in zip(
                self.estimates.query[examined].tolist(),
                self.estimates.document[examined].tolist(),
                self.estimates.relevance[examined].tolist(),
                strict=True,
            )
        }
        return RelativeRelevance(found, float(np.mean([pair.relevance for pair in self.positives])))


def learn(owned: OwnedClicks, asked: FeedbackPositives) -> Learned:
    """Fits the click model that is asked for. A log without a click teaches nothing, and that is said."""
    clicks, digest = owned.log, clicks_digest(owned)
    try:
        model, source = click_model(asked.model, clicks)
        fitted = model.fit(clicks)
    except NoFeedbackError as error:
        return Learned(clicks, digest, None, (), (str(error),))
    above = above_floor(clicks, fitted.estimates, asked.floor)
    positives = by_several(above, owned)
    notes = [f"clicks are read by {fitted.name}", *source, *fitted.notes]
    if left_out := len(above) - len(positives):
        notes.append(
            f"{left_out:,} clicked pairs are no positives: fewer than {LEAST_OWNERS} users clicked them"
        )
    return Learned(clicks, digest, fitted.estimates, tuple(positives), tuple(notes))


def click_model(name: ClickModelName, log: ClickLog) -> tuple[ClickModel, tuple[str, ...]]:
    """The model to fit to ``log``, and what its examination rests on.

    The position-based model is given the curve that exploration or moves between ranks tell. Without them it
    learns its own, as the other models always do.

    Raises:
        NoFeedbackError: nothing was clicked.
    """
    model = CLICK_MODELS[name]
    if name != PositionBased.name:
        return model, ()
    chosen = best_examination(log)
    if chosen.source == "pbm":
        return model, ()
    return PositionBased(chosen.examination), (f"Source of examination: {chosen.source}.", *chosen.notes)
