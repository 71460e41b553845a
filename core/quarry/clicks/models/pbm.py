"""Position-based model: a hit is clicked if it is examined, by its rank alone, and relevant."""

import numpy as np

from quarry.clicks.counts import Cells, Places
from quarry.clicks.examination.harvest import harvest_examination
from quarry.clicks.examination.ranks import (
    count_impressions_by_rank,
    is_conclusive,
    make_relative_curve,
    predict_clicks_by_rank,
)
from quarry.clicks.fitting.alternating import Freedom, Learned, fit_contexts
from quarry.clicks.fitting.information import compute_covariance
from quarry.clicks.fitting.linear import Contexts, estimate, make_rank_contexts
from quarry.clicks.log import Bool, ClickLog, Float64
from quarry.clicks.model import Examination, FittedModel

_WEAK = 0.01


class PositionBased:
    """P(click) = theta of the rank times relevance, by expectation maximization.

    Only products are seen: theta is relative to rank 1, and relevance is the probability that a hit is
    clicked at the rank that is examined most. Relevance has a Beta prior fitted to the spread of pairs, its
    intervals are the posterior's with theta taken as known; those of theta come from the Fisher information,
    relevance unknown.

    Args:
        examination: a curve known from elsewhere, such as from swaps. Ranks where it is NaN are learned, the
            others held.

    Source: Richardson et al., WWW 2007; Craswell et al., WSDM 2008; EM as in Wang et al., WSDM 2018.
    """

    name = "pbm"

    def __init__(self, examination: Examination | None = None) -> None:
        self._given = examination

    def fit(self, log: ClickLog) -> FittedModel:
        places = Places.from_log(log)
        cells, ranks = make_rank_contexts(places, log.max_rank)
        theta, told, notes = self._start(places, ranks)
        contexts, examination = Contexts.make_examined(np.append(theta, 1.0)), self._given
        if not told.all():
            learned, examination, note = _learn(log, cells, contexts, told)
            contexts, notes = learned.contexts, (*notes, note)
        estimates, prior = estimate(places, cells, contexts)
        parameters = {
            "weak_prior": np.array([float(_ASSUMED not in notes)]),
            "alpha": contexts.alpha[:ranks],
            "beta": np.zeros(ranks),
            "mean": np.array([prior.mean]),
        }
        return FittedModel(self.name, estimates, examination, notes, parameters)

    def predict_clicks(self, fitted: FittedModel, log: ClickLog) -> Float64:
        return predict_clicks_by_rank(fitted, log)

    def _start(self, places: Places, ranks: int) -> tuple[Float64, Bool, tuple[str, ...]]:
        """Chooses where theta starts, which ranks are held there, and what to say of it."""
        given = np.full(ranks, np.nan)
        if self._given is not None:
            value = self._given.value[:ranks]
            given[: len(value)] = value
        told = np.isfinite(given) & (given > 0)
        if told.any():
            note = f"Examination of {int(told.sum())} of {ranks} ranks was given, not learned."
            scaled = given / given[told].max()
            return np.where(told, scaled, 0.5 * scaled[told].min()), told, (note,)
        shown = np.bincount(places.rank - 1, minlength=ranks)
        clicked = np.bincount(places.rank[places.clicked] - 1, minlength=ranks)
        rate = (clicked + 1) / (shown + 2)
        return rate / rate.max(), told, ()


def estimate_position_based(log: ClickLog) -> tuple[Examination, tuple[str, ...]]:
    """Estimates the curve alone, learned from this log, and what it rests on.

    Raises:
        NoFeedbackError: nothing was clicked.
    """
    places = Places.from_log(log)
    cells, ranks = make_rank_contexts(places, log.max_rank)
    theta, told, _ = PositionBased()._start(places, ranks)
    _, examination, note = _learn(log, cells, Contexts.make_examined(np.append(theta, 1.0)), told)
    return examination, (note,)


def choose_prior_strength(fitted: FittedModel) -> float | None:
    """Chooses what ``fit_contexts`` should be told for another model of the log that ``fitted`` is of."""
    return _WEAK if fitted.parameters["weak_prior"][0] else None


def _learn(log: ClickLog, cells: Cells, start: Contexts, told: Bool) -> tuple[Learned, Examination, str]:
    """Learns theta of the ranks that are not ``told``, and says what it rests on.

    If interventions tell the curve, from pairs shown at several ranks alone, under a prior too weak to
    matter (0.01 displays). Else under the fitted prior, which compares unlike pairs; without it, pairs
    displayed once would each be explained by a relevance of 0 or 1, and all ranks seem to be examined.
    """
    freedom = Freedom(np.append(~told, False), scaled=not told.any())
    clicks = cells.sum_by_context(cells.clicked)[: len(told)]
    linked = is_conclusive(harvest_examination(log), clicks)
    learned = fit_contexts(cells, start, freedom, _WEAK if linked else None)
    return learned, _make_examination(log, cells, learned), _LINKED if linked else _ASSUMED


_LINKED = "Examination rests on pairs that were shown at several ranks."
_ASSUMED = (
    "Too few pairs were shown at several ranks to tell examination: it is assumed that hits of all ranks are "
    "equally relevant, so the better documents of a rank pass for better examination."
)


def _make_examination(log: ClickLog, cells: Cells, learned: Learned) -> Examination:
    ranks = log.max_rank
    known = cells.sum_by_context(cells.clicked)[:ranks] > 0
    spread = compute_covariance(cells, learned.contexts, learned.relevance, learned.prior)[:ranks, :ranks]
    spread[~known] = spread[:, ~known] = np.nan
    value = np.log(np.where(known, learned.contexts.alpha[:ranks], np.nan))
    return make_relative_curve(value, spread, count_impressions_by_rank(log))
