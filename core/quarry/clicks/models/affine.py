"""Trust bias: a hit shown high is clicked more even if it is not relevant; corrected by a line."""

from dataclasses import replace

import numpy as np

from quarry.clicks.counts import Cells, Places
from quarry.clicks.examination.ranks import impressions_by_rank, rank_probabilities, relative_curve
from quarry.clicks.fitting.alternating import Freedom, Learned, fit_contexts, scaling_contexts
from quarry.clicks.fitting.linear import Contexts, by_rank_contexts, estimate
from quarry.clicks.fitting.replicates import moves
from quarry.clicks.log import ClickLog, Float64
from quarry.clicks.model import Examination, FittedModel
from quarry.clicks.models.pbm import PositionBased, prior_strength

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
        strength = prior_strength(by_rank)
        if strength is None:  # then beta would be told by the prior's shape, which is a convenience
            return replace(by_rank, name=self.name, notes=(*by_rank.notes, _UNTOLD))
        places = Places.of(log)
        cells, ranks = by_rank_contexts(places, log.max_rank)
        theta = by_rank.parameters["alpha"]
        start = Contexts(np.append((1 - _START) * theta, 1.0), np.append(_START * theta, 0.0))
        freedom = Freedom(np.arange(ranks + 1) < ranks, scaled=True, trust=True)
        learned = fit_contexts(cells, start, freedom, strength)
        examination = _alpha_curve(log, cells, learned, freedom, strength)
        contexts = learned.contexts.least_trust(scaling_contexts(cells, freedom.free), freedom.free)
        estimates, prior = estimate(places, cells, contexts)
        parameters = {
            "alpha": contexts.alpha[:ranks],
            "beta": contexts.beta[:ranks],
            "mean": np.array([prior.mean]),
        }
        return FittedModel(self.name, estimates, examination, (*by_rank.notes, *_NOTES), parameters)

    def click_probabilities(self, fitted: FittedModel, log: ClickLog) -> Float64:
        return rank_probabilities(fitted, log)


def _alpha_curve(
    log: ClickLog, cells: Cells, learned: Learned, freedom: Freedom, strength: float
) -> Examination:
    """Alpha by rank relative to rank 1, less its bias."""
    ranks = log.max_rank
    clicked = cells.by_context(cells.clicked)[:ranks] > 0

    def of(contexts: Contexts) -> Float64:
        relative = np.log(contexts.alpha[:ranks])
        return np.where(clicked, relative - relative[0], 0.0)

    found = moves(
        cells, learned, lambda some: of(fit_contexts(some, learned.contexts, freedom, strength).contexts)
    )
    spread = found.covariance
    spread[~clicked] = spread[:, ~clicked] = np.nan
    value = np.where(clicked, of(learned.contexts) - found.bias, np.nan)
    return relative_curve(value, spread, impressions_by_rank(log), found.quantile)
