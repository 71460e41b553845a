"""Clicks over expected clicks: a pair's clicks by those that its ranks usually draw."""

import numpy as np

from quarry.clicks.counts import Places
from quarry.clicks.examination.ranks import predict_clicks_by_rank
from quarry.clicks.fitting.alternating import find_scaling_contexts
from quarry.clicks.fitting.linear import Contexts, estimate, make_rank_contexts
from quarry.clicks.log import ClickLog, Float64
from quarry.clicks.model import FittedModel

_NOTES = (
    "The rate of clicks of a rank is taken for how well it is seen. It also holds how relevant hits of that "
    "rank are, so good documents of the first ranks are rated too low.",
)


class ClicksOverExpected:
    """Relevance is COEC times the rate of clicks at the rank that draws most: in [0, 1], and in COEC's order.

    Intervals: Beta posterior, the rates of the ranks taken as known.

    Source: Zhang and Jones, WWW 2007.
    """

    name = "coec"

    def fit(self, log: ClickLog) -> FittedModel:
        places = Places.from_log(log)
        cells, ranks = make_rank_contexts(places, log.max_rank)
        shown = np.bincount(places.rank - 1, minlength=ranks)
        clicked = np.bincount(places.rank[places.clicked] - 1, minlength=ranks)
        rate = clicked / np.maximum(shown, 1)
        curve = np.minimum(
            rate / rate[find_scaling_contexts(cells, np.arange(ranks + 1) < ranks)[:ranks]].max(), 1
        )
        estimates, prior = estimate(places, cells, Contexts.make_examined(np.append(curve, 1.0)))
        parameters = {"mean": np.array([prior.mean]), "alpha": curve, "beta": np.zeros(ranks)}
        return FittedModel(self.name, estimates, None, _NOTES, parameters)

    def predict_clicks(self, fitted: FittedModel, log: ClickLog) -> Float64:
        return predict_clicks_by_rank(fitted, log)
