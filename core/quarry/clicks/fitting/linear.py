"""Models in which a click has probability ``alpha * relevance + beta``, both of the context alone."""

from dataclasses import dataclass

import numpy as np

from quarry.clicks.counts import Cells, Places
from quarry.clicks.fitting.shrinkage import BetaPrior, approximate_posterior, fit_prior
from quarry.clicks.log import Bool, Float64
from quarry.clicks.model import Estimates

LEAST = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Contexts:
    """The click probabilities in each context, as functions of relevance.

    Attributes:
        alpha: float64, shape ``(contexts,)``: how much likelier a click becomes as relevance goes from 0 to
            1. Without trust, the probability that a hit is examined.
        beta: float64, shape ``(contexts,)``: probability that an irrelevant hit is clicked.
    """

    alpha: Float64
    beta: Float64

    @classmethod
    def make_examined(cls, theta: Float64) -> "Contexts":
        """Makes contexts without trust: what is examined and relevant is clicked, and nothing else."""
        return cls(theta, np.zeros_like(theta))

    def choose_least_trust(self, told: Bool, free: Bool) -> "Contexts":
        """Chooses the same click probabilities in another zero and unit of relevance, which clicks do not
        tell.

        At the context of ``told`` that is trusted least an irrelevant hit is never clicked; at the one that
        draws most a relevant one always is.

        Args:
            free: the contexts that are meant; the others stay as they are.
        """
        told = told & (self.alpha > 2 * LEAST)
        if not told.any():
            return self
        zero = -float((self.beta / np.maximum(self.alpha, LEAST))[told].min())
        unit = float(((1 - self.beta) / np.maximum(self.alpha, LEAST))[told].min())
        beta = np.clip(self.beta + self.alpha * zero, 0, 1)
        alpha = np.clip(self.alpha * (unit - zero), 0, 1 - beta)
        return Contexts(np.where(free, alpha, self.alpha), np.where(free, beta, self.beta))


def estimate(places: Places, cells: Cells, contexts: Contexts) -> tuple[Estimates, BetaPrior]:
    """Estimates the relevance of each pair: posterior mean and 95 % interval.

    And the prior that was fitted for it.
    """
    prior = fit_prior(cells, contexts.alpha, contexts.beta)
    belief = approximate_posterior(cells, contexts.alpha, contexts.beta, prior)
    lower, upper = belief.find_interval()
    mean = belief.mean
    clicks, refused = cells.sum_by_pair(cells.clicked), count_refusals(cells, contexts, mean)
    estimates = Estimates(
        query=places.query,
        document=places.document,
        relevance=mean,
        lower=lower,
        upper=upper,
        impressions=cells.sum_by_pair(cells.shown).astype(np.int64),
        clicks=clicks.astype(np.int64),
        refusals=refused,
        examined=clicks + refused,
    )
    return estimates, prior


def count_refusals(cells: Cells, contexts: Contexts, relevance: Float64) -> Float64:
    """Counts how often each pair was examined and not chosen, expected: P(E=1 | c=0) over displays without a
    click.

    It is ``alpha (1 - g) / (1 - alpha g - beta)``, which is ``theta (1 - g) / (1 - theta g)`` without trust.
    """
    alpha, beta = contexts.alpha[cells.context], contexts.beta[cells.context]
    g = relevance[cells.pair]
    examined = alpha * (1 - g) / np.maximum(1 - alpha * g - beta, LEAST * LEAST)
    return cells.sum_by_pair((cells.shown - cells.clicked) * np.clip(examined, 0, 1))


def make_rank_contexts(places: Places, max_rank: int) -> tuple[Cells, int]:
    """Makes cells whose context is the rank, from 0.

    What is said to be refused was examined, the last context.
    """
    context = np.where(places.refused, max_rank, places.rank - 1)
    return Cells.from_contexts(places, context, max_rank + 1), max_rank


def bound_probability(probability: Float64) -> Float64:
    """Moves probabilities off 0 and 1, so that no outcome is held impossible."""
    return np.clip(probability, LEAST, 1 - LEAST)
