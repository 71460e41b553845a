"""The noise of clicks: how often users choose what is not relevant, by a mixture of two kinds of pairs.

A (query, document) pair is a number of tries, the times that it was examined, and of successes, its clicks.
Pairs of one kind are chosen at the noise rate, those of the other at the rate of what is relevant. Both rates
are learned for each band of ranks: users trust what stands high, and where a click model knows examination
only up to the relevance of a rank, its error is the same for both kinds. Within a kind, rates spread about
their mean (beta-binomial), so grades and meanings of a query are not taken for noise, and a pair does not
pass because it was seen often enough to differ from a mean.

Source: two groups and the posterior of a case: Efron, Large-Scale Inference, 2010, chapters 2 and 5;
beta-binomial weights by moments: Kleinman, JASA 1973; what tells a mixture of binomials: Blischke, JASA 1964.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.special import betaln, expit, logit

from quarry.clicks.counts import Places
from quarry.clicks.fitting.alternating import accelerate
from quarry.clicks.log import Bool, ClickLog, Float64, Int64
from quarry.clicks.model import Estimates

LEAST_TRIES = 3.0
"""A pair with fewer tries does not tell noise from relevance: two binomials look alike."""
LEAST_PAIRS = 100
"""With fewer pairs of so many tries nothing is estimated."""
LIKELY = 0.8
"""A positive has at least this posterior. Its weight is its relevance times its posterior. Clicks are few: a
bound of 0.95 leaves out half of the relevant documents that ten searches show
(docs/explanation/click-noise.md)."""
SURE = 0.95
"""What is told as noise has at least this posterior of noise."""
MOST_PAIRS = 50_000
"""Pairs that the mixture is fitted to; of more, so many are drawn. All are judged by it."""

_BAND_CLICKS = 100
_RATE_PULL, _SHARE_PULL = 300.0, 2.0
"""Tries, and pairs, that count for the mean of all bands."""
_SPREADS = ((0.01, 0.1), (0.01, 1 / 3))
"""Least and most of either kind. The least is what no model explains; with the most, noise has one hump."""
_EDGE = 1e-4
_SEED = 0


@dataclass(frozen=True, slots=True, eq=False)
class Noise:
    """The findings of the mixture about the pairs of one log, in the order of ``Estimates``.

    Attributes:
        band: int64, shape ``(p,)``: band of ranks that each pair was shown in, from 0, the first ranks.
        relevant: float64 in [0, 1], shape ``(p,)``: probability that the pair is of the relevant kind; at
            most the share of such pairs where it is chosen no more often than noise is.
        noise_rate: float64 in (0, 1), shape ``(bands,)``: chance that an examined pair of the other kind is
            chosen. So is ``relevant_rate``, of a relevant one.
        share: float64 in (0, 1), shape ``(bands,)``: of pairs that are relevant.
        floor: float64, shape ``(bands,)``: rate of choice from which a pair that was seen very often is
            relevant with probability ``LIKELY``; 1 where there is none.
        pairs: how many had enough tries to tell the kinds apart.
    """

    band: Int64
    relevant: Float64
    noise_rate: Float64
    relevant_rate: Float64
    share: Float64
    floor: Float64
    pairs: int

    @property
    def likely(self) -> Bool:
        """Which pairs are relevant with probability ``LIKELY`` or more, shape ``(p,)``."""
        found: Bool = self.relevant >= LIKELY
        return found

    @property
    def refuted(self) -> Bool:
        """Which pairs are noise with probability ``SURE`` or more, shape ``(p,)``."""
        found: Bool = self.relevant <= 1 - SURE
        return found

    @property
    def note(self) -> str:
        """The rates and the floor, for people."""
        return (
            f"An examined hit that is not relevant is chosen with probability "
            f"{_write_range(self.noise_rate)}, a relevant one with {_write_range(self.relevant_rate)}, in "
            f"{len(self.share)} bands of ranks (two kinds of pairs, told by {self.pairs:,} that were "
            f"examined {LEAST_TRIES:g} times or more). A pair that is seen often is relevant with "
            f"probability {LIKELY:g} if it is chosen with {_write_range(self.floor)}: that floor follows "
            f"from the noise."
        )


def estimate_noise(log: ClickLog, estimates: Estimates) -> Noise | None:
    """Fits the mixture to ``estimates``, made of ``log``; None if too few pairs were examined often enough.

    Tries are what the model that made the estimates says was examined. Bands start at the first rank; each is
    closed when its pairs have 100 clicks. The share of relevant pairs is learned for each band, too; it does
    not rise with the rank, since rankings are better than chance. Rates of a band seldom examined are drawn
    to those of all, by 300 tries.
    """
    clicks = estimates.clicks.astype(np.float64)
    tries = estimates.examined
    told = int((tries >= LEAST_TRIES - _EDGE).sum())
    if told < LEAST_PAIRS:
        return None
    band = _find_bands(log, clicks)
    seen = tries > _EDGE
    pairs = _Pairs(clicks[seen], tries[seen], band[seen], int(band.max()) + 1)
    at = accelerate(_Step(pairs.draw()), _start(pairs))
    kinds = _Kinds.from_vector(at)
    relevant = kinds.share[band]
    above = clicks[seen] > kinds.rate[0][pairs.band] * pairs.tries
    # Of a wide kind few are chosen seldom, but more than of a narrow one: that is no sign of relevance.
    relevant[seen] = np.where(
        above, kinds.compute_posterior(pairs), np.minimum(kinds.compute_posterior(pairs), relevant[seen])
    )
    return Noise(band, relevant, *kinds.rate, kinds.share, kinds.compute_floors(), told)


@dataclass(frozen=True, slots=True, eq=False)
class _Pairs:
    """Pairs that were examined, all of shape ``(p,)``, and how many bands there are."""

    clicks: Float64
    tries: Float64
    band: Int64
    bands: int

    def draw(self) -> "_Pairs":
        """Draws at most ``MOST_PAIRS`` of them, the same ones each time."""
        if len(self.band) <= MOST_PAIRS:
            return self
        random = np.random.default_rng(_SEED)
        some = np.sort(random.choice(len(self.band), MOST_PAIRS, replace=False))
        return _Pairs(self.clicks[some], self.tries[some], self.band[some], self.bands)

    def sum_by_band(self, value: Float64) -> Float64:
        return np.bincount(self.band, value, self.bands).astype(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class _Kinds:
    """Mean rate of each kind in each band, the kind's spread (0: none, 1: all or nothing), and shares."""

    rate: tuple[Float64, Float64]
    spread: tuple[float, float]
    share: Float64

    @classmethod
    def from_vector(cls, at: Float64) -> "_Kinds":
        at = np.clip(at, _EDGE, 1 - _EDGE)
        noise, relevant, share = np.split(at[:-2], 3)
        return cls((noise, relevant), (float(at[-2]), float(at[-1])), share)

    def compute_posterior(self, pairs: _Pairs) -> Float64:
        """Computes the probability that each pair is of the relevant kind."""
        noise, relevant = (
            _compute_log_likelihood(pairs.clicks, pairs.tries, rate[pairs.band], spread)
            for rate, spread in zip(self.rate, self.spread, strict=True)
        )
        found: Float64 = expit(relevant - noise + logit(self.share)[pairs.band])
        return found

    def compute_floors(self) -> Float64:
        """Computes the least rate over the noise from which the posterior of a pair with endless tries is
        ``LIKELY``."""
        rate = np.linspace(_EDGE, 1 - _EDGE, 999)
        noise, relevant = (
            _compute_log_density(rate[None], mean[:, None], spread)
            for mean, spread in zip(self.rate, self.spread, strict=True)
        )
        likely = relevant - noise + logit(self.share)[:, None] >= logit(LIKELY)
        likely &= rate[None] > self.rate[0][:, None]
        return np.where(likely.any(axis=1), rate[likely.argmax(axis=1)], 1.0)


class _Step:
    """One step of expectation maximization; rates and spreads by moments, weighed by what a pair tells."""

    def __init__(self, pairs: _Pairs) -> None:
        self._pairs = pairs
        self._count = pairs.sum_by_band(np.ones(len(pairs.band)))

    def __call__(self, at: Float64) -> Float64:
        kinds = _Kinds.from_vector(at)
        relevant = kinds.compute_posterior(self._pairs)
        (noise_rate, noise_spread), (relevant_rate, relevant_spread) = (
            self._estimate_moments(weight, spread, limits)
            for weight, spread, limits in zip((1 - relevant, relevant), kinds.spread, _SPREADS, strict=True)
        )
        share = _pull(self._pairs.sum_by_band(relevant), self._count, _SHARE_PULL)
        share = isotonic_regression(share, weights=self._count + _SHARE_PULL, increasing=False).x
        return np.concatenate([noise_rate, relevant_rate, share, [noise_spread, relevant_spread]])

    def _estimate_moments(
        self, weight: Float64, spread: float, limits: tuple[float, float]
    ) -> tuple[Float64, float]:
        """Estimates the rate of each band, and the spread of all, of the kind that pairs belong to by
        ``weight``."""
        pairs = self._pairs
        tries, rate = pairs.tries, pairs.clicks / pairs.tries
        weight = weight * tries / (1 + (tries - 1) * spread).clip(_EDGE)
        mean = _pull(pairs.sum_by_band(weight * rate), pairs.sum_by_band(weight), _RATE_PULL)
        expected = mean[pairs.band]
        chance = expected * (1 - expected)
        beyond = float((weight * ((rate - expected) ** 2 - chance / tries)).sum())
        possible = float((weight * chance * (1 - 1 / np.maximum(tries, 1))).sum())
        return mean, float(np.clip(beyond / max(possible, _EDGE), *limits))


def _start(pairs: _Pairs) -> Float64:
    """Starts with noise at half of each band's rate of choice, and what is relevant far above it."""
    rate = pairs.sum_by_band(pairs.clicks) / pairs.sum_by_band(pairs.tries).clip(_EDGE)
    noise, relevant = np.clip(rate / 2, 1e-3, 0.5), np.clip(rate + 0.6 * (1 - rate), 0.2, 0.95)
    return np.concatenate([noise, relevant, np.full(pairs.bands, 0.3), [0.02, 0.1]])


def _find_bands(log: ClickLog, clicks: Float64) -> Int64:
    """Finds the band of each pair by its mean rank. What is left below the last full band belongs to it."""
    places = Places.from_log(log)
    rank = np.rint(places.sum_per_pair(places.rank) / places.sum_per_pair()).astype(np.int64)
    of_rank = np.bincount(rank, clicks)
    band, bands, gathered = np.zeros(len(of_rank), np.int64), 0, 0.0
    for number, count in enumerate(of_rank.tolist()):
        band[number] = bands
        gathered += count
        if gathered >= _BAND_CLICKS and of_rank[number + 1 :].sum() >= _BAND_CLICKS:
            bands, gathered = bands + 1, 0.0
    found: Int64 = band[rank]
    return found


def _pull(part: Float64, whole: Float64, strength: float) -> Float64:
    """Pulls ``part / whole`` of each band to that of all, as if they were seen ``strength`` times more."""
    mean = part.sum() / max(whole.sum(), _EDGE)
    found: Float64 = np.clip((part + strength * mean) / (whole + strength), _EDGE, 1 - _EDGE)
    return found


def _compute_log_likelihood(clicks: Float64, tries: Float64, rate: Float64, spread: float) -> Float64:
    """Computes the beta-binomial log-likelihood, without the factor that both kinds share."""
    strength = 1 / spread - 1
    a, b = rate * strength, (1 - rate) * strength
    found: Float64 = betaln(a + clicks, b + tries - clicks) - betaln(a, b)
    return found


def _compute_log_density(at: Float64, rate: Float64, spread: float) -> Float64:
    strength = 1 / spread - 1
    a, b = rate * strength, (1 - rate) * strength
    found: Float64 = (a - 1) * np.log(at) + (b - 1) * np.log1p(-at) - betaln(a, b)
    return found


def _write_range(values: Float64) -> str:
    low, high = f"{values.min():.2f}", f"{values.max():.2f}"
    return low if low == high else f"{low} to {high}"
