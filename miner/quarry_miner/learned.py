"""What a mining job learns from clicks before it mines: positives, evidence, relevance of what was shown."""

from dataclasses import dataclass

import numpy as np

from quarry.errors import NoFeedbackError
from quarry.mining.spec import FeedbackPositives
from quarry_miner.clicks.base import ClickLog, Estimates
from quarry_miner.clicks.registry import CLICK_MODELS
from quarry_miner.corpus import Corpus
from quarry_miner.evidence import Feedback, query_key
from quarry_miner.false_negative_rows import RelativeRelevance
from quarry_miner.logs import clicks_digest, span_us
from quarry_miner.positives import Clicked, above_floor

LEAST_EXAMINATIONS = 5.0
"""Expected, of a pair whose relevance is held against a negative."""


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """From one click log.

    Attributes:
        estimates: None if nothing was clicked.
        positives: clicked pairs that are relevant enough.
        notes: for people.
    """

    clicks: ClickLog
    estimates: Estimates | None
    positives: tuple[Clicked, ...]
    notes: tuple[str, ...]

    @property
    def digest(self) -> str:
        return clicks_digest(self.clicks)

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
            (query_key(self.clicks.queries[query]), self.clicks.documents[document]): relevance
            for query, document, relevance in zip(
                self.estimates.query[examined].tolist(),
                self.estimates.document[examined].tolist(),
                self.estimates.relevance[examined].tolist(),
                strict=True,
            )
        }
        return RelativeRelevance(found, float(np.mean([pair.relevance for pair in self.positives])))


def learn(clicks: ClickLog, asked: FeedbackPositives) -> Learned:
    """Fits the click model that is asked for. A log without a click teaches nothing, and that is said."""
    try:
        fitted = CLICK_MODELS[asked.model].fit(clicks)
    except NoFeedbackError as error:
        return Learned(clicks, None, (), (str(error),))
    positives = tuple(above_floor(clicks, fitted.estimates, asked.floor))
    notes = (f"clicks are read by {fitted.name}", *fitted.notes)
    return Learned(clicks, fitted.estimates, positives, notes)
