"""The worth of a ranking to users, estimated from their clicks on another one.

The worth of a ranking for a search is the sum over its first ten documents of ``1 / log2(1 + rank)`` times
the document's attraction, the probability that it is clicked where it is surely seen: the clicks to expect
of readers who look down the list as DCG has it. Clicks at a rank are attraction times the rank's examination
(position-based model), and examination is from exploration.

Sources: inverse propensity scoring and its clipping, Joachims, Swaminathan and Schnabel, WSDM 2017; SNIPS,
Swaminathan and Joachims, NeurIPS 2015; doubly robust for clicks, Oosterhuis, TOIS 2023.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from quarry.clicks.counts import make_pair_keys
from quarry.clicks.log import Bool, ClickLog, Float64, Int64
from quarry.training.spec import OffPolicyEstimate, Subject
from quarry_trainer.evaluation.examination import Explored
from quarry_trainer.evaluation.resampling import UNKNOWN, Interval, make_percentile_interval
from quarry_trainer.measures import Orders

TOP = 10
CLIP = 0.05
"""Least exposure divided by: no click counts for more than 20 searches."""
PRIOR = 2.0
"""Examinations that the prior attraction is worth, beside a document's own."""
RESAMPLES = 1_000
_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class OffPolicyBasis:
    """The part of a log that an estimate rests on, whatever the rankings are.

    Attributes:
        queries: held-out queries with a click that counts.
        owner_share: of the held-out clicks, those of whoever has most; 0 if there are none.
        explored_clicks: on hits that exploration had moved, held out or not, at ranks whose examination can
            be told.
    """

    queries: int
    owner_share: float
    explored_clicks: int

    @classmethod
    def from_displays(cls, log: ClickLog, held_out: Bool, explored: Explored) -> "OffPolicyBasis":
        """Keeps the log; ``held_out`` says which pages count, shape ``(n,)``."""
        page, _ = np.nonzero(log.clicked & held_out[:, None])
        counts = np.bincount(log.owner[page])
        share = float(counts.max() / counts.sum()) if counts.sum() else 0.0
        return cls(len(np.unique(log.query[page])), share, explored.clicks)


@dataclass(frozen=True, slots=True)
class OffPolicy:
    """Estimates, and what they rest on.

    Attributes:
        estimates: of every subject by both estimators; none without exploration.
        doubly_robust: difference, in clicks for a search. So is ``snips``, between -1 and 1.
        effective_sample: the least of the subjects'; ``support`` likewise.
        examination: of ranks 1, 2, ...; relative to rank 1.
    """

    basis: OffPolicyBasis
    estimates: tuple[OffPolicyEstimate, ...] = ()
    doubly_robust: Interval = UNKNOWN
    snips: Interval = UNKNOWN
    effective_sample: float = 0.0
    support: float = 0.0
    examination: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Pairs:
    """Pairs of query and document that were displayed, or that a subject has in its top ten.

    Attributes:
        query: int64, shape ``(p,)``, ascending.
        shown: float64, shape ``(p, depth)``: held-out displays at each rank. ``earlier_shown`` likewise.
        clicked: float64, shape ``(p, depth)``: held-out clicks at each rank. ``earlier_clicked`` likewise.
        gain: by subject, float64, shape ``(p,)``: ``1 / log2(1 + rank)``, 0 below the top ten.
        ever: bool, shape ``(p,)``: displayed at such a rank, held out or not.
    """

    query: Int64
    shown: Float64
    clicked: Float64
    earlier_shown: Float64
    earlier_clicked: Float64
    gain: Mapping[Subject, Float64]
    ever: Bool


def estimate(
    log: ClickLog,
    held_out: Bool,
    candidate: Orders,
    base: Orders,
    base_name: Subject = "serving",
    seed: int = 0,
) -> OffPolicy:
    """Estimates the worth of both rankings, and of their difference, on held-out searches.

    Attraction for the doubly robust estimate's regression is learned from the other searches; what was never
    displayed is taken to be as attractive as what stood in the lower half of pages. Intervals are by
    bootstrap over queries, and learn examination anew each time.

    Args:
        held_out: which searches count, shape ``(s,)``.
        candidate: documents of each query, best first, by ``log.queries``. So is ``base``. Only queries that
            both name are estimated.
        base_name: ``serving`` or ``fused``.
    """
    explored = Explored.from_displays(log)
    chosen = np.array([query in candidate and query in base for query in log.queries], bool)
    counted = held_out & chosen[log.query]
    basis = OffPolicyBasis.from_displays(log, counted, explored)
    if explored.depth < 2 or not basis.queries:
        return OffPolicy(basis)
    pairs = _make_pairs(log, counted, chosen, {"candidate": candidate, base_name: base}, explored.depth)
    searches = np.bincount(log.query[counted & log.first_pages], minlength=len(log.queries)).astype(
        np.float64
    )
    asked = int((searches > 0).sum())
    one = np.ones((1, len(log.queries)))
    theta = explored.estimate_curve(one)
    whole = _compute_values(pairs, searches, theta, one)
    samples = _resample(pairs, searches, explored, seed)
    estimates: list[OffPolicyEstimate] = []
    differences: dict[str, Interval] = {}
    for (estimator, subject), value in whole.items():
        interval = make_percentile_interval(float(value[0]), samples[estimator, subject], max(2, asked))
        if subject == "difference":
            differences[estimator] = interval
        estimates.append(
            OffPolicyEstimate(
                estimator="snips" if estimator == "snips" else "doubly_robust",
                subject=subject,
                value=interval.value,
                lower=interval.lower,
                upper=interval.upper,
                effective_sample_size=_measure_effective_sample(
                    pairs, searches, theta[0], pairs.gain[subject]
                ),
                support=_measure_support(pairs, searches, pairs.gain[subject]),
            )
        )
    return OffPolicy(
        basis,
        tuple(estimates),
        differences["doubly_robust"],
        differences["snips"],
        min(e.effective_sample_size for e in estimates),
        min(e.support for e in estimates if e.subject != "difference"),
        tuple(theta[0].tolist()),
    )


def _make_pairs(
    log: ClickLog, held_out: Bool, chosen: Bool, subjects: Mapping[Subject, Orders], depth: int
) -> _Pairs:
    """Makes pairs. Hits below the ranks whose examination is known are left out: their clicks cannot be
    weighed."""
    numbers = {id: number for number, id in enumerate(log.documents)}
    tops: dict[Subject, tuple[list[int], list[float]]] = {}
    for name, orders in subjects.items():
        keys, gains = tops.setdefault(name, ([], []))
        for query in np.flatnonzero(chosen).tolist():
            for place, id in enumerate(orders[log.queries[query]][:TOP]):
                keys.append((query << 32) + numbers.setdefault(id, len(numbers)))
                gains.append(1 / float(np.log2(place + 2)))
    page, _ = np.nonzero(log.shown)
    key, rank, clicks = make_pair_keys(log)[log.shown], log.rank[log.shown], log.clicked[log.shown]
    own = chosen[log.query[page]]
    known = np.unique(np.concatenate([key[own], *(np.array(keys, np.int64) for keys, _ in tops.values())]))
    size = len(known)

    def make_table(cells: Int64) -> Float64:
        return np.bincount(cells, minlength=size * depth).reshape(size, depth).astype(np.float64)

    def count(some: Bool) -> tuple[Float64, Float64]:
        some = some & own & (rank <= depth)
        pair = np.searchsorted(known, key[some])
        cell = pair * depth + rank[some] - 1
        return make_table(cell), make_table(cell[clicks[some]])

    gain: dict[Subject, Float64] = {}
    for name, (keys, gains) in tops.items():
        gain[name] = np.zeros(size)
        gain[name][np.searchsorted(known, np.array(keys, np.int64))] = gains
    candidate, base = gain.values()
    gain["difference"] = candidate - base
    now = held_out[page]
    shown, clicked = count(now)
    earlier_shown, earlier_clicked = count(~now)
    ever: Bool = (shown + earlier_shown).sum(axis=1) > 0
    return _Pairs(known >> 32, shown, clicked, earlier_shown, earlier_clicked, gain, ever)


def _resample(
    pairs: _Pairs, searches: Float64, explored: Explored, seed: int
) -> dict[tuple[str, Subject], Float64]:
    """Resamples the queries; returns the values of each estimator and subject."""
    random = np.random.default_rng(seed)
    queries = len(searches)
    found: dict[tuple[str, Subject], list[Float64]] = {}
    for start in range(0, RESAMPLES, _AT_ONCE):
        size = min(_AT_ONCE, RESAMPLES - start)
        weights = random.multinomial(queries, np.full(queries, 1 / queries), size=size).astype(np.float64)
        for name, values in _compute_values(
            pairs, searches, explored.estimate_curve(weights), weights
        ).items():
            found.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in found.items()}


def _compute_values(
    pairs: _Pairs, searches: Float64, theta: Float64, weights: Float64
) -> dict[tuple[str, Subject], Float64]:
    """Computes values by estimator and subject, shape ``(resamples,)``.

    A pair's *exposure* is the mean examination over its query's held-out searches, 0 where it was not shown.

    Args:
        theta: examination, shape ``(resamples, depth)``.
        weights: of the queries, shape ``(resamples, queries)``.
    """
    weight = weights[:, pairs.query]
    asked = searches[pairs.query]
    exposure = theta @ pairs.shown.T / np.maximum(asked, 1)
    rate = pairs.clicked.sum(axis=1) / np.maximum(asked, 1)
    clipped = np.maximum(exposure, CLIP)
    attraction = _compute_attraction(pairs, theta, weight)
    robust = attraction + (rate - exposure * attraction) / clipped
    inverse = rate / clipped
    total = np.maximum(weights @ searches, 1)
    mass = np.einsum("rp,rp->r", weight, inverse * asked)
    values: dict[tuple[str, Subject], Float64] = {}
    for subject, gain in pairs.gain.items():
        values["doubly_robust", subject] = np.einsum("rp,rp->r", weight, robust * (gain * asked)) / total
        earned = np.einsum("rp,rp->r", weight, inverse * (gain * asked))
        values["snips", subject] = np.where(mass > 0, earned / np.where(mass > 0, mass, 1), 0.0)
    return values


def _compute_attraction(pairs: _Pairs, theta: Float64, weight: Float64) -> Float64:
    """Computes the attraction of each pair by the searches that are not held out, shape ``(resamples, p)``.

    The prior is the mean of the lower half of pages: what was never displayed stood below all of them.
    """
    low = theta.shape[1] // 2
    clicks = weight @ pairs.earlier_clicked[:, low:].sum(axis=1)
    seen = np.einsum("rp,rp->r", weight, theta[:, low:] @ pairs.earlier_shown[:, low:].T)
    prior = np.where(seen > 0, clicks / np.where(seen > 0, seen, 1), 0.0)[:, None]
    examined = theta @ pairs.earlier_shown.T
    attraction: Float64 = (pairs.earlier_clicked.sum(axis=1) + PRIOR * prior) / (examined + PRIOR)
    return attraction


def _measure_effective_sample(pairs: _Pairs, searches: Float64, theta: Float64, gain: Float64) -> float:
    """Measures the clicks on what the ranking gains by: ``(sum of weights)^2 / sum of squared weights``."""
    exposure = pairs.shown @ theta / np.maximum(searches[pairs.query], 1)
    weight = np.abs(gain) / np.maximum(exposure, CLIP)
    clicks = pairs.clicked.sum(axis=1)
    squared = float(clicks @ weight**2)
    return float(clicks @ weight) ** 2 / squared if squared else 0.0


def _measure_support(pairs: _Pairs, searches: Float64, gain: Float64) -> float:
    """Measures the share of top-ten places whose document was ever displayed where clicks tell something;
    each search counts alike."""
    places = searches[pairs.query] * (gain != 0)
    return float(places @ pairs.ever / places.sum()) if places.sum() else 0.0
