"""Users made by program, who examine, trust and click as the click models say that people do.

Everything is drawn from the generator given, so a seed gives the same clicks again. Dwell and satisfaction
come with the clicks. These users test the estimators and drive the loop where there are no people; what is
learned from them says nothing of people.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

UserModel = Literal["pbm", "cascade", "dbn"]
_MOST_TRUST = 0.9


@dataclass(frozen=True, slots=True)
class UserBehaviour:
    """The behaviour of simulated users.

    Attributes:
        model: ``pbm``: each rank is examined by chance, whatever was clicked above. ``cascade``: from the
            top, until the first click. ``dbn``: from the top, until satisfied by a click or out of patience.
        eta: pbm examines rank k with probability ``1 / k ** eta``; 0 or more. 0: all ranks alike.
        noise: probability that an examined hit of relevance 0 is clicked, [0, 1).
        trust: adds ``trust / k`` to ``noise`` at rank k, for a high place is taken for a recommendation; [0,
            1). The sum is cut at 0.9.
        satisfaction: probability that a chosen hit of relevance 1 satisfies; it falls with relevance; [0, 1].
        persistence: dbn: probability of going on to the next hit if not satisfied, (0, 1].
        intent_shares: how often each meaning of a query is what the user means; over 0, sum 1.
        dwell_s: median seconds spent on a chosen hit of relevance 0, and of relevance 1; both over 0.

    Raises:
        ValueError: one of them is outside its range.
    """

    model: UserModel = "pbm"
    eta: float = 1.0
    noise: float = 0.1
    trust: float = 0.1
    satisfaction: float = 0.7
    persistence: float = 0.9
    intent_shares: tuple[float, ...] = (1.0,)
    dwell_s: tuple[float, float] = (8.0, 60.0)

    def __post_init__(self) -> None:
        if self.model not in _EXAMINERS:
            raise ValueError(f"model must be one of {', '.join(_EXAMINERS)}")
        if not (self.eta >= 0 and 0 <= self.noise < 1 and 0 <= self.trust < 1):
            raise ValueError("eta must be 0 or more, noise and trust in [0, 1)")
        if not (0 <= self.satisfaction <= 1 and 0 < self.persistence <= 1):
            raise ValueError("satisfaction must lie in [0, 1], persistence in (0, 1]")
        if not self.intent_shares or min(self.intent_shares) <= 0 or abs(sum(self.intent_shares) - 1) > 1e-9:
            raise ValueError("intent shares must be over 0 and sum to 1")
        if min(self.dwell_s) <= 0:
            raise ValueError("dwell must be over 0 seconds")

    def examine(self, rank: Int64) -> Float64:
        """Computes how likely pbm users examine a rank, in (0, 1]."""
        return np.maximum(rank, 1).astype(np.float64) ** -self.eta

    def compute_irrelevant_clicks(self, rank: Int64) -> Float64:
        """Computes the probability that an examined hit of relevance 0 is clicked at a rank: noise and
        trust."""
        return np.minimum(self.noise + self.trust / np.maximum(rank, 1), _MOST_TRUST)


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedClicks:
    """The clicks of users on ``n`` pages of up to ``r`` hits; all of shape ``(n, r)``.

    Attributes:
        examined: whether the user looked at the hit.
        clicked: whether it was chosen; only what was examined is.
        satisfied: whether the choice answered the user's need.
        dwell_s: float64: seconds spent there; 0 where not clicked.
    """

    examined: Bool
    clicked: Bool
    satisfied: Bool
    dwell_s: Float64


def simulate_page(
    relevance: Float64, behaviour: UserBehaviour, random: np.random.Generator, first_rank: int = 1
) -> SimulatedClicks:
    """Simulates one user and one page; the arrays have a single row.

    Args:
        relevance: float64 in [0, 1], shape ``(r,)``, in the order shown; or ``(intents, r)``.
        first_rank: rank of the first hit.
    """
    pages = relevance[None]
    ranks = np.arange(first_rank, first_rank + relevance.shape[-1])[None]
    return simulate_pages(pages, behaviour, random, ranks=ranks)


def simulate_pages(
    relevance: Float64,
    behaviour: UserBehaviour,
    random: np.random.Generator,
    *,
    ranks: Int64 | None = None,
    shown: Bool | None = None,
) -> SimulatedClicks:
    """Simulates many users at once, a page each; each means one intent, drawn by its share.

    Args:
        relevance: float64 in [0, 1], in the order shown, shape ``(n, r)`` if all intents are alike, or
            ``(n, intents, r)``.
        ranks: int64 from 1, shape ``(n, r)`` or ``(1, r)``; 1, 2, ... if None.
        shown: bool, shape ``(n, r)``: which places hold a hit; all if None.

    Raises:
        ValueError: a relevance outside [0, 1], or another number of intents than shares.
    """
    if not ((relevance >= 0) & (relevance <= 1)).all():
        raise ValueError("relevance must lie in [0, 1]")
    intended = _draw_relevance(relevance, behaviour, random)
    if ranks is None:
        ranks = np.arange(1, intended.shape[1] + 1)[None]
    if shown is None:
        shown = np.ones(intended.shape, bool)
    irrelevant = behaviour.compute_irrelevant_clicks(ranks)
    attraction = np.where(shown, irrelevant + (1 - irrelevant) * intended, 0.0)
    would_click = random.random(intended.shape) < attraction
    would_satisfy = random.random(intended.shape) < behaviour.satisfaction * intended
    by_chance = random.random(intended.shape)
    examined = _EXAMINERS[behaviour.model](behaviour, ranks, would_click, would_satisfy, by_chance) & shown
    clicked = examined & would_click
    low, high = behaviour.dwell_s
    dwell = low * (high / low) ** intended * np.exp(0.5 * random.standard_normal(intended.shape))
    return SimulatedClicks(examined, clicked, clicked & would_satisfy, np.where(clicked, dwell, 0.0))


def spread_relevance(relevance: Float64, intent: Int64, intents: int, elsewhere: float = 0.2) -> Float64:
    """Spreads relevance over intents, shape ``(intents, r)``, of hits that answer one intent each.

    Args:
        relevance: shape ``(r,)``, to the users who mean the hit's own intent.
        intent: shape ``(r,)``, in [0, ``intents``); below 0: the hit answers all.
        elsewhere: share of its relevance that a hit has for users who mean something else, [0, 1].
    """
    mine = (intent[None] == np.arange(intents)[:, None]) | (intent[None] < 0)
    return np.where(mine, relevance[None], elsewhere * relevance[None])


def _draw_relevance(relevance: Float64, behaviour: UserBehaviour, random: np.random.Generator) -> Float64:
    """Draws relevance of each hit to the one who sees it, shape ``(n, r)``."""
    intents = len(behaviour.intent_shares)
    meant = random.choice(intents, size=len(relevance), p=behaviour.intent_shares)
    if relevance.ndim == 2:
        return relevance
    if relevance.shape[1] != intents:
        raise ValueError(f"relevance is given for {relevance.shape[1]} intents, and shares for {intents}")
    chosen: Float64 = relevance[np.arange(len(relevance)), meant]
    return chosen


def _click_by_position(
    behaviour: UserBehaviour, ranks: Int64, would_click: Bool, would_satisfy: Bool, by_chance: Float64
) -> Bool:
    examined: Bool = by_chance < behaviour.examine(ranks)
    return examined


def _click_until_click(
    behaviour: UserBehaviour, ranks: Int64, would_click: Bool, would_satisfy: Bool, by_chance: Float64
) -> Bool:
    return _has_none_above(would_click)


def _click_until_satisfied(
    behaviour: UserBehaviour, ranks: Int64, would_click: Bool, would_satisfy: Bool, by_chance: Float64
) -> Bool:
    return _has_none_above((would_click & would_satisfy) | (by_chance >= behaviour.persistence))


def _has_none_above(stops: Bool) -> Bool:
    """Tells whether no hit above stops the user, shape as ``stops``."""
    above: Int64 = np.cumsum(stops, axis=1) - stops
    free: Bool = above == 0
    return free


_EXAMINERS: Mapping[UserModel, Callable[[UserBehaviour, Int64, Bool, Bool, Float64], Bool]] = {
    "pbm": _click_by_position,
    "cascade": _click_until_click,
    "dbn": _click_until_satisfied,
}
