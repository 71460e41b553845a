"""Maximum likelihood of examination and relevance together, by maximizing over each in turn.

The stationary point is that of expectation maximization with examination and relevance as missing data; but
EM moves by shares of the missing information and takes hundreds of steps, where solving each half exactly
takes tens.

Source: EM for the position-based model: Wang et al., WSDM 2018; extrapolation: SQUAREM, Varadhan and Roland,
Scandinavian Journal of Statistics 2008.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from quarry.clicks.counts import Cells
from quarry.clicks.fitting.linear import LEAST, Contexts
from quarry.clicks.fitting.shrinkage import BetaPrior, find_mode, fit_prior
from quarry.clicks.log import Bool, Float64

_PRIOR_ROUNDS = 3
_STEPS = 60
_TOLERANCE = 1e-6
_INNER_TOLERANCE = 1e-4  # Newton's error is about its square
_OFTEN = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Freedom:
    """The parameters of contexts that are to be learned.

    Attributes:
        free: bool, shape ``(contexts,)``: the others stay as they start.
        scaled: the best-examined free context is set to 1, for only ratios are told; else what stays fixed
            sets the scale.
        trust: irrelevant hits may be clicked, so ``beta`` is learned, too.
        pull: float64, shape ``(contexts,)``: what a context seen seldom is drawn to; None for nothing.
    """

    free: Bool
    scaled: bool
    trust: bool = False
    pull: Float64 | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """The point at which both halves agree.

    Attributes:
        contexts: how clicks follow from relevance.
        relevance: float64 in (0, 1), shape ``(p,)``: the mode of each pair.
        prior: of relevance, that it was learned with.
    """

    contexts: Contexts
    relevance: Float64
    prior: BetaPrior


def fit_contexts(cells: Cells, start: Contexts, freedom: Freedom, strength: float | None = None) -> Learned:
    """Fits the contexts and the relevance of each pair that make the clicks likeliest.

    Relevance has a Beta prior, refitted to the spread of the pairs between rounds if it is not held weak.

    Args:
        strength: most that the prior counts for, in displays; None: as fitted. Under a weak one the contexts
            are told by pairs that were seen in several; under the fitted one also by unlike pairs, as if
            hits were equally relevant in all contexts.
    """
    at = np.concatenate([start.alpha + start.beta, start.beta])
    relevance = None
    for _ in range(_PRIOR_ROUNDS if strength is None else 1):
        contexts = _read_contexts(at)
        prior = _limit_prior(fit_prior(cells, contexts.alpha, contexts.beta), strength)
        step = _Step(cells, freedom, prior, relevance)
        at = accelerate(step, at)
        relevance = step.relevance
    contexts = _read_contexts(at)
    return Learned(contexts, find_mode(cells, contexts.alpha, contexts.beta, prior, relevance), prior)


class _Step:
    """Both halves once: relevance given the contexts, then the contexts given relevance."""

    def __init__(self, cells: Cells, freedom: Freedom, prior: BetaPrior, relevance: Float64 | None) -> None:
        self.relevance = relevance
        self._cells, self._freedom, self._prior = cells, freedom, prior
        self._scaling = find_scaling_contexts(cells, freedom.free)

    def __call__(self, at: Float64) -> Float64:
        contexts = _read_contexts(at)
        self.relevance = find_mode(
            self._cells, contexts.alpha, contexts.beta, self._prior, self.relevance, _INNER_TOLERANCE
        )
        update = _step_trust if self._freedom.trust else _step_examination
        high, low = update(self._cells, contexts, self.relevance, self._freedom)
        free = self._freedom.free
        high = np.clip(np.where(free, high, at[: len(free)]), LEAST, None)
        low = np.where(free, low, at[len(free) :])
        if self._freedom.trust:
            told = Contexts(high - low, low).choose_least_trust(self._scaling, free)
            high, low = told.alpha + told.beta, told.beta
        elif self._freedom.scaled:
            high = high / np.where(free, high[self._scaling].max(), 1.0)
        high, low = np.clip(high, LEAST, 1), np.maximum(low, 0)
        return np.concatenate([high, np.minimum(low, high - LEAST / 2)])


def find_scaling_contexts(cells: Cells, free: Bool) -> Bool:
    """Finds the free contexts that may set the scale: clicked, and displayed a tenth as often as any, or
    more.

    A rank that was displayed once and clicked once would be examined best, and all others hardly.
    """
    shown = np.where(free, cells.sum_by_context(cells.shown), 0.0)
    clicked = free & (cells.sum_by_context(cells.clicked) > 0)
    often = clicked & (shown >= _OFTEN * shown.max(initial=0.0))
    return often if often.any() else clicked if clicked.any() else free


def _step_examination(
    cells: Cells, contexts: Contexts, relevance: Float64, freedom: Freedom
) -> tuple[Float64, Float64]:
    """Makes a scoring step for theta: observed clicks over those expected if all is examined."""
    attraction = relevance[cells.pair]
    precision = 1 / np.maximum(1 - contexts.alpha[cells.context] * attraction, LEAST)
    clicked = cells.sum_by_context(cells.clicked * precision)
    expected = cells.sum_by_context(cells.shown * attraction * precision)
    if freedom.pull is not None:
        clicked, expected = clicked + freedom.pull, expected + 1
    theta = clicked / np.maximum(expected, LEAST * LEAST)
    return theta, np.zeros_like(theta)


def _step_trust(
    cells: Cells, contexts: Contexts, relevance: Float64, freedom: Freedom
) -> tuple[Float64, Float64]:
    """Makes a scoring step for the click rates of relevant and of irrelevant hits in each context.

    The click probability is linear in both, so the step is weighted least squares, two unknowns a context.
    """
    g = relevance[cells.pair]
    clicking = np.clip(contexts.alpha[cells.context] * g + contexts.beta[cells.context], LEAST, 1 - LEAST)
    weight = 1 / (clicking * (1 - clicking))
    shown, clicked = cells.shown * weight, cells.clicked * weight
    hh, hl, ll = (cells.sum_by_context(shown * part) for part in (g * g, g * (1 - g), (1 - g) ** 2))
    ch, cl = cells.sum_by_context(clicked * g), cells.sum_by_context(clicked * (1 - g))
    ridge = LEAST * (1 + hh + ll)
    old_high, old_low = contexts.alpha + contexts.beta, contexts.beta
    hh, ll, ch, cl = hh + ridge, ll + ridge, ch + ridge * old_high, cl + ridge * old_low
    # Below 0 is no probability; but cut to 0 here, a rank could never become the one that is trusted least.
    low = (hh * cl - hl * ch) / (hh * ll - hl * hl)
    high = (ch - hl * low) / hh
    return np.maximum(high, low + LEAST), low


def accelerate(step: Callable[[Float64], Float64], at: Float64) -> Float64:
    """Finds the fixed point of a slowly converging ``step``: two steps, then a leap along them."""
    for _ in range(_STEPS):
        once = step(at)
        twice = step(once)
        first, second = once - at, twice - 2 * once + at
        if float(np.abs(twice - once).max(initial=0.0)) < _TOLERANCE:
            return twice
        length = max(float(np.linalg.norm(first)) / max(float(np.linalg.norm(second)), LEAST * LEAST), 1.0)
        leap = step(np.clip(at + 2 * length * first + length * length * second, LEAST / 2, 1))
        settled = np.linalg.norm(leap - twice) <= 10 * length * np.linalg.norm(first)
        at = leap if settled else twice
    return at


def _read_contexts(at: Float64) -> Contexts:
    high, low = np.split(at, 2)
    return Contexts(np.maximum(high - low, LEAST / 4), low)


def _limit_prior(prior: BetaPrior, strength: float | None) -> BetaPrior:
    if strength is None or prior.a + prior.b <= strength:
        return prior
    return BetaPrior(prior.mean * strength, (1 - prior.mean) * strength)
