"""Simplified dynamic Bayesian network: users read from the top until a click satisfies them."""

import numpy as np

from quarry.clicks.counts import Cells, Places, spread_over_places
from quarry.clicks.fitting.linear import bound_probability
from quarry.clicks.fitting.shrinkage import BetaPosterior, approximate_posterior, fit_prior, match_beta
from quarry.clicks.log import Bool, ClickLog, Float64, Int64
from quarry.clicks.model import Estimates, FittedModel

_NOTES = (
    "It is assumed that users read from the top and look at everything down to their last click.",
    "On a page without a click all hits count as seen when attraction is estimated, as the model has it, and "
    "none as refused, for nothing shows that anyone looked.",
)


class SimplifiedDbn:
    """Closed form: attraction is clicks by displays seen, satisfaction last clicks by clicks.

    A display is seen if it is at or above the page's last click, or if the page has none. Relevance is
    attraction times satisfaction. Both have Beta posteriors under priors fitted to all pairs; of the product,
    mean and variance are exact, and the interval is that of the Beta that has them. A refusal is a display
    passed over above the last click, or one that is said to be refused.

    Source: Chapelle and Zhang, WWW 2009, section 5; pages without a click: Chuklin, Markov and de Rijke,
    Click Models for Web Search, 2015, section 4.1.2.
    """

    name = "sdbn"

    def fit(self, log: ClickLog) -> FittedModel:
        places = Places.from_log(log)
        shown = log.shown
        clicked = log.clicked & shown
        above, last = _find_above_last_click(clicked)
        has_click = clicked.any(axis=1, keepdims=True)
        refused = log.refused & shown & ~clicked
        seen = places.sum_per_pair((above | last | ~has_click | refused)[shown])
        clicks = places.sum_per_pair(clicked[shown])
        attraction = _estimate_rate(seen, clicks)
        satisfaction = _estimate_rate(clicks, places.sum_per_pair(last[shown]))
        mean = attraction.mean * satisfaction.mean
        square_a = attraction.variance + attraction.mean**2
        square_s = satisfaction.variance + satisfaction.mean**2
        lower, upper = match_beta(mean, square_a * square_s - mean**2).find_interval()
        estimates = Estimates(
            query=places.query,
            document=places.document,
            relevance=mean,
            lower=np.minimum(lower, mean),  # the matched mean is off by rounding
            upper=np.maximum(upper, mean),
            impressions=places.sum_per_pair().astype(np.int64),
            clicks=clicks.astype(np.int64),
            refusals=places.sum_per_pair(((above & ~clicked) | refused)[shown]),
            examined=seen,
        )
        parameters = {"attraction": attraction.mean, "satisfaction": satisfaction.mean}
        unseen = _estimate_rate(np.append(seen, 0.0), np.append(clicks, 0.0)).mean[-1:]
        sated = _estimate_rate(np.append(clicks, 0.0), np.append(places.sum_per_pair(last[shown]), 0.0)).mean[
            -1:
        ]
        parameters |= {"mean_attraction": unseen, "mean_satisfaction": sated}
        return FittedModel(self.name, estimates, None, _NOTES, parameters)

    def predict_clicks(self, fitted: FittedModel, log: ClickLog) -> Float64:
        values = fitted.parameters
        attraction, satisfaction = (
            spread_over_places(log, fitted.estimates, values[name], float(values[f"mean_{name}"][0]))
            for name in ("attraction", "satisfaction")
        )
        examined = np.ones(len(log))
        clicking: Float64 = np.empty_like(attraction)
        for place in range(log.rank.shape[1]):
            a = attraction[:, place]
            clicking[:, place] = examined * a
            passed = examined * (1 - a) / np.maximum(1 - examined * a, 1e-12)
            after = np.where(log.clicked[:, place], 1 - satisfaction[:, place], passed)
            examined = np.where(log.shown[:, place], after, examined)
        return bound_probability(clicking)


def _find_above_last_click(clicked: Bool) -> tuple[Bool, Bool]:
    """Finds which places have a click below them on their page, and which hold its last; shape ``(n, r)``."""
    from_here = np.cumsum(clicked[:, ::-1], axis=1)[:, ::-1]
    below: Int64 = from_here - clicked
    above: Bool = below > 0
    return above, clicked & ~above


def _estimate_rate(tries: Float64, successes: Float64) -> BetaPosterior:
    """Estimates each pair's rate under a prior fitted to all that were tried; exact."""
    pairs = np.arange(len(tries))
    cells = Cells(pairs, np.zeros_like(pairs), tries, successes, pairs, 1)
    known, nothing = np.ones(1), np.zeros(1)
    return approximate_posterior(cells, known, nothing, fit_prior(cells, known, nothing))
