"""The orders that scores make of the candidates of queries."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from quarry.models.blend import RERANKER_ALONE, Blend
from quarry_trainer.data.live import Float64, RankedQuery
from quarry_trainer.evaluation.scoring import FUSED_ALONE, order_by_blend


class Scored(NamedTuple):
    """The scores of a model for ranked queries.

    Attributes:
        scores: of each query's candidates, as ``score_ranked`` gives them.
        blend: how they order.
    """

    scores: Sequence[Float64]
    blend: Blend = RERANKER_ALONE


def score_by_fusion(ranked: Sequence[RankedQuery]) -> Scored:
    return Scored([np.zeros(len(query)) for query in ranked], FUSED_ALONE)


def order_by_scores(ranked: Sequence[RankedQuery], scored: Scored) -> dict[str, tuple[str, ...]]:
    return {
        query.query_id: order_by_blend(query, scores, scored.blend)
        for query, scores in zip(ranked, scored.scores, strict=True)
    }
