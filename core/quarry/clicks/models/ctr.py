"""Click-through rate: clicks by displays, whatever the rank. The baseline that others must beat."""

import numpy as np

from quarry.clicks.counts import Cells, Places, spread_over_places
from quarry.clicks.fitting.linear import Contexts, bound_probability, estimate
from quarry.clicks.log import ClickLog, Float64
from quarry.clicks.model import FittedModel

_NOTES = (
    "Relevance is the rate of clicks wherever the hit stood: a document that was shown high looks better "
    "than it is.",
)


class ClickThroughRate:
    """Every display counts as examined. Intervals: Beta posterior, exact."""

    name = "ctr"

    def fit(self, log: ClickLog) -> FittedModel:
        places = Places.from_log(log)
        cells = Cells.from_contexts(places, np.zeros_like(places.pair), 1)
        estimates, prior = estimate(places, cells, Contexts.make_examined(np.ones(1)))
        return FittedModel(self.name, estimates, None, _NOTES, {"mean": np.array([prior.mean])})

    def predict_clicks(self, fitted: FittedModel, log: ClickLog) -> Float64:
        mean = float(fitted.parameters["mean"][0])
        return bound_probability(spread_over_places(log, fitted.estimates, fitted.estimates.relevance, mean))
