"""Two figures that need no feedback: how hard a candidate is, and how likely the geometry makes it an answer.

Cosines do not carry over between corpora, so all that is compared here is in standard deviations among the
pair's own candidates. A hidden answer is near the positive and near the query at once; and where the
positive itself is not near the query, more of what is nearer is right. Both figures were chosen on half of
the queries of three judged collections (benchmarks/mining_quality.py), where s(p,d) alone and s(q,d) alone
told less.
"""

import numpy as np

from quarry_miner.examples import Float32, PairCandidates

LEAST_SPREAD = 1e-6


def suspicion(pair: PairCandidates, near_query: float, positive_first: float) -> Float32:
    """z(s_pd) + near_query z(s_qd) - positive_first z(s_qp), shape ``(c,)``."""
    if not len(pair):
        return np.zeros(0, np.float32)
    to_query, positive = standardized(pair.s_qd, pair.s_qp_least)
    to_positive, _ = standardized(pair.s_pd, 0.0)
    doubts: Float32 = to_positive + np.float32(near_query) * to_query - np.float32(positive_first * positive)
    return doubts


def hardness(pair: PairCandidates, lexical: float) -> Float32:
    """z(s_qd) + lexical times the mean of the other members' z-scores, shape ``(c,)``.

    What a member does not list has its lowest listed score. A dense member is left out: it is s_qd already.
    """
    if not len(pair):
        return np.zeros(0, np.float32)
    found, _ = standardized(pair.s_qd, 0.0)
    listed = np.isfinite(pair.scores)
    others = [m for m, name in enumerate(pair.members) if name != "dense" and listed[m].any()]
    if not others or not lexical:
        return found
    scores = pair.scores[others]
    filled = np.where(np.isnan(scores), np.nanmin(scores, axis=1, keepdims=True), scores)
    mean = np.mean([standardized(row, 0.0)[0] for row in filled], axis=0)
    combined: Float32 = (found + np.float32(lexical) * mean).astype(np.float32)
    return combined


def standardized(values: Float32, other: float) -> tuple[Float32, float]:
    """``values`` and ``other`` less the mean of ``values``, in their standard deviations."""
    mean, spread = values.mean(), max(float(values.std()), LEAST_SPREAD)
    return ((values - mean) / np.float32(spread)).astype(np.float32), float((other - mean) / spread)
