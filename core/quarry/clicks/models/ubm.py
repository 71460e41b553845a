"""User browsing model: examination depends on the rank and on where the last click above it was."""

import numpy as np

from quarry.clicks.counts import Cells, Places, spread_over_places
from quarry.clicks.examination.ranks import count_impressions_by_rank, make_relative_curve
from quarry.clicks.fitting.alternating import Freedom, Learned, fit_contexts
from quarry.clicks.fitting.information import compute_covariance
from quarry.clicks.fitting.linear import Contexts, bound_probability, estimate
from quarry.clicks.log import ClickLog, Float64, Int64
from quarry.clicks.model import Examination, FittedModel
from quarry.clicks.models.pbm import PositionBased, choose_prior_strength

_MOST_CONTEXTS = 1_500
_NOTES = (
    "Examination of a rank is the mean over the last clicks above it that this log has; what is clicked "
    "above changes it.",
    "Trust in high ranks is no part of this model: what it makes of clicks on irrelevant hits looks like "
    "examination and relevance.",
)
_NO_INTERVALS = f"There are over {_MOST_CONTEXTS:,} contexts: the curve of examination has no intervals."


class UserBrowsing:
    """P(click) = theta of (rank, rank of the last click above) times relevance, by expectation maximization.

    Contexts seen seldom are drawn to the position-based curve, by one expected click's worth. Intervals as
    for the position-based model; those of the curve are of its mean over the contexts displayed.

    Source: Dupret and Piwowarski, SIGIR 2008.
    """

    name = "ubm"

    def fit(self, log: ClickLog) -> FittedModel:
        by_rank = PositionBased().fit(log)
        places = Places.from_log(log)
        keys, context = np.unique(_make_context_keys(log)[log.shown], return_inverse=True)
        refused = len(keys)
        context = np.where(places.refused, refused, context)
        cells = Cells.from_contexts(places, context, refused + 1)
        curve = by_rank.parameters["alpha"][_read_rank(keys) - 1]
        freedom = Freedom(np.arange(refused + 1) < refused, scaled=True, pull=np.append(curve, 1.0))
        learned = fit_contexts(
            cells, Contexts.make_examined(np.append(curve, 1.0)), freedom, choose_prior_strength(by_rank)
        )
        estimates, prior = estimate(places, cells, learned.contexts)
        parameters = {
            "contexts": keys.astype(np.float64),
            "theta": learned.contexts.alpha[:refused],
            "by_rank": by_rank.parameters["alpha"],
            "mean": np.array([prior.mean]),
        }
        examination = _average_over_contexts(log, cells, learned, _read_rank(keys))
        unsure = (_NO_INTERVALS,) if refused > _MOST_CONTEXTS else ()
        notes = (*by_rank.notes, *_NOTES, *unsure)
        return FittedModel(self.name, estimates, examination, notes, parameters)

    def predict_clicks(self, fitted: FittedModel, log: ClickLog) -> Float64:
        known, theta = fitted.parameters["contexts"].astype(np.int64), fitted.parameters["theta"]
        by_rank = fitted.parameters["by_rank"]
        wanted = _make_context_keys(log)
        at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        elsewhere = by_rank[np.clip(log.rank - 1, 0, len(by_rank) - 1)]
        mean = float(fitted.parameters["mean"][0])
        relevance = spread_over_places(log, fitted.estimates, fitted.estimates.relevance, mean)
        return bound_probability(np.where(known[at] == wanted, theta[at], elsewhere) * relevance)


def _make_context_keys(log: ClickLog) -> Int64:
    """Makes one number of the rank, and of the rank of the last click above on the page (0: none), shape
    ``(n, r)``."""
    clicked_at = np.where(log.clicked & log.shown, log.rank, 0).astype(np.int64)
    last = np.maximum.accumulate(clicked_at, axis=1)
    above = np.concatenate([np.zeros((len(log), 1), np.int64), last[:, :-1]], axis=1)[:, : log.rank.shape[1]]
    key: Int64 = (log.rank.astype(np.int64) << 32) | above
    return key


def _read_rank(keys: Int64) -> Int64:
    rank: Int64 = keys >> 32
    return rank


def _average_over_contexts(log: ClickLog, cells: Cells, learned: Learned, rank: Int64) -> Examination:
    """Averages theta over contexts to the curve of ranks, weighed by displays; by the delta method."""
    contexts, ranks = len(rank), log.max_rank
    theta = learned.contexts.alpha[:contexts]
    shown = cells.sum_by_context(cells.shown)[:contexts]
    part = np.zeros((ranks, contexts))
    part[rank - 1, np.arange(contexts)] = shown * theta
    total = part.sum(axis=1)
    impressions = count_impressions_by_rank(log)
    clicked = np.bincount(rank - 1, cells.sum_by_context(cells.clicked)[:contexts], ranks) > 0
    mean = np.where(clicked, total / np.maximum(impressions, 1), np.nan)
    if contexts > _MOST_CONTEXTS:
        spread = np.full((ranks, ranks), np.nan)
    else:
        # Theta's pull to the curve of ranks ends in its variance as it does in its value: not at all, or
        # little.
        of_context = compute_covariance(cells, learned.contexts, learned.relevance, learned.prior)
        part /= np.maximum(total, 1e-300)[:, None]
        spread = part @ of_context[:contexts, :contexts] @ part.T
    spread[~clicked] = spread[:, ~clicked] = np.nan
    return make_relative_curve(np.log(mean), spread, impressions)
