"""Models in which a click has probability ``alpha * relevance + beta``, both of the context alone."""

from dataclasses import dataclass

import numpy as np

from quarry.clicks.counts import Cells, Places
from quarry.clicks.fitting.shrinkage import BetaPrior, fit_prior, posterior
from quarry.clicks.log import Bool, Float64
from quarry.clicks.model import Estimates

LEAST = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Contexts:
    """How clicks follow from relevance in each context.

    Attributes:
        alpha: float64, shape ``(contexts,)``: how much likelier a click becomes as relevance goes from 0 to
            1. Without trust, the probability that a hit is examined.
        beta: float64, shape ``(contexts,)``: probability that an irrelevant hit is clicked.
    """

    alpha: Float64
    beta: Float64

    @classmethod
    def examined(cls, theta: Float64) -> "Contexts":
        """Without trust: what is examined and relevant is clicked, and nothing else."""
        return cls(theta, np.zeros_like(theta))

    def least_trust(self, told: Bool, free: Bool) -> "Contexts":
        """The same click probabilities in another zero and unit of relevance, which clicks do not tell.

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
    """Relevance of each pair: posterior mean and 95 % interval; and the prior that was fitted for it."""
    prior = fit_prior(cells, contexts.alpha, contexts.beta)
    belief = posterior(cells, contexts.alpha, contexts.beta, prior)
    lower, upper = belief.interval()
    mean = belief.mean
    clicks, refused = cells.by_pair(cells.clicked), refusals(cells, contexts, mean)
    estimates = Estimates(
        query=places.query,
        document=places.document,
        relevance=mean,
        lower=lower,
        upper=upper,
        impressions=cells.by_pair(cells.shown).astype(np.int64),
        clicks=clicks.astype(np.int64),
        refusals=refused,
        examined=clicks + refused,
    )
    return estimates, prior


def refusals(cells: Cells, contexts: Contexts, relevance: Float64) -> Float64:
    """How often each pair was examined and not chosen, expected: P(E=1 | c=0) over displays without a click.

    It is ``alpha (1 - g) / (1 - alpha g - beta)``, which is ``theta (1 - g) / (1 - theta g)`` without trust.
    """
    alpha, beta = contexts.alpha[cells.context], contexts.beta[cells.context]
    g = relevance[cells.pair]
    examined = alpha * (1 - g) / np.maximum(1 - alpha * g - beta, LEAST * LEAST)
    return cells.by_pair((cells.shown - cells.clicked) * np.clip(examined, 0, 1))


def by_rank_contexts(places: Places, max_rank: int) -> tuple[Cells, int]:
    """Cells whose context is the rank, from 0; what is said to be refused was examined, the last context."""
    context = np.where(places.refused, max_rank, places.rank - 1)
    return Cells.of(places, context, max_rank + 1), max_rank


def bounded(probability: Float64) -> Float64:
    """Probabilities moved off 0 and 1, so that no outcome is held impossible."""
    return np.clip(probability, LEAST, 1 - LEAST)
