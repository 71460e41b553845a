"""Trust bias: a hit shown high is clicked more even if it is not relevant; corrected by a line."""

from dataclasses import replace

import numpy as np

from quarry.clicks.counts import Cells, Places
from quarry.clicks.examination.ranks import (
    count_impressions_by_rank,
    make_relative_curve,
    predict_clicks_by_rank,
)
from quarry.clicks.fitting.alternating import Freedom, Learned, find_scaling_contexts, fit_contexts
from quarry.clicks.fitting.linear import Contexts, estimate, make_rank_contexts
from quarry.clicks.fitting.replicates import measure_moves
from quarry.clicks.log import ClickLog, Float64
from quarry.clicks.model import Examination, FittedModel
from quarry.clicks.models.pbm import PositionBased, choose_prior_strength

_START = 0.1
_NOTES = (
    "Alpha and beta are told by pairs of unlike click rates that were shown at the same two ranks: the line "
    "from one rate to the other. Any other unit and zero of relevance explains clicks as well; these are "
    "chosen: at the rank that is trusted least an irrelevant hit is never clicked, at the rank that draws "
    "most a relevant one always is. So beta is the least trust that explains the clicks, and ratios of "
    "alpha depend on neither.",
    "A corrected label, (click - beta) / alpha cut to [0, 1], is a weight, not a probability.",
    "The curve of this model is less sure than its intervals say: on simulated logs it was off by some "
    "2.5 % at deep ranks, and 95 % intervals held the truth in 89 to 94 % of cases.",
)
_UNTOLD = (
    "What does not tell examination tells no trust: none is assumed, and the model is the position-based."
)


class TrustBiasAffine:
    """P(click) = alpha of the rank times relevance + beta of the rank, by expectation maximization.

    The examination curve holds alpha relative to rank 1, corrected for bias, with intervals, by a parametric
    bootstrap: clicks of one session are taken for independent once relevance and rank are given. Relevance
    is a posterior mean under alpha and beta taken as known.

    Source: Agarwal et al., WWW 2019; Vardasbi, Oosterhuis and de Rijke, CIKM 2020.
    """

    name = "affine"

    def fit(self, log: ClickLog) -> FittedModel:
        by_rank = PositionBased().fit(log)
        strength = choose_prior_strength(by_rank)
        if strength is None:  # then beta would be told by the prior's shape, which is a convenience
            return replace(by_rank, name=self.name, notes=(*by_rank.notes, _UNTOLD))
        places = Places.from_log(log)
        cells, ranks = make_rank_contexts(places, log.max_rank)
        theta = by_rank.parameters["alpha"]
        start = Contexts(np.append((1 - _START) * theta, 1.0), np.append(_START * theta, 0.0))
        freedom = Freedom(np.arange(ranks + 1) < ranks, scaled=True, trust=True)
        learned = fit_contexts(cells, start, freedom, strength)
        examination = _make_alpha_curve(log, cells, learned, freedom, strength)
        contexts = learned.contexts.choose_least_trust(
            find_scaling_contexts(cells, freedom.free), freedom.free
        )
        estimates, prior = estimate(places, cells, contexts)
        parameters = {
            "alpha": contexts.alpha[:ranks],
            "beta": contexts.beta[:ranks],
            "mean": np.array([prior.mean]),
        }
        return FittedModel(self.name, estimates, examination, (*by_rank.notes, *_NOTES), parameters)

    def predict_clicks(self, fitted: FittedModel, log: ClickLog) -> Float64:
        return predict_clicks_by_rank(fitted, log)


def _make_alpha_curve(
    log: ClickLog, cells: Cells, learned: Learned, freedom: Freedom, strength: float
) -> Examination:
    """Makes the curve of alpha by rank relative to rank 1, less its bias."""
    ranks = log.max_rank
    clicked = cells.sum_by_context(cells.clicked)[:ranks] > 0

    def read_alpha(contexts: Contexts) -> Float64:
        relative = np.log(contexts.alpha[:ranks])
        return np.where(clicked, relative - relative[0], 0.0)

    found = measure_moves(
        cells,
        learned,
        lambda some: read_alpha(fit_contexts(some, learned.contexts, freedom, strength).contexts),
    )
    spread = found.covariance
    spread[~clicked] = spread[:, ~clicked] = np.nan
    value = np.where(clicked, read_alpha(learned.contexts) - found.bias, np.nan)
    return make_relative_curve(value, spread, count_impressions_by_rank(log), found.quantile)
