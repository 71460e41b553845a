"""Judged queries choose when to stop and how to blend; without them a careful choice is made."""

from collections.abc import Sequence

import numpy as np
import pytest
from tests.unit.trainer.ranked import candidates

from quarry.models.base import PairScore
from quarry.models.blend import RERANKER_ALONE
from quarry_trainer.blending import LEAST_UNPROVEN
from quarry_trainer.development import Development


class ByText:
    """Scores a pair by a hash of its passage."""

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[PairScore]:
        return [PairScore(float(sum(passage.encode()) % 97), False) for _, passage in pairs]


def test_where_nothing_is_judged_the_blend_is_the_careful_one() -> None:
    others = candidates(20, depth=30)
    nobody = Development([], [], {}, blends=True, others=others)
    blend = nobody.blend(ByText())
    scores = [np.array([s.score for s in ByText().score([("", p) for p in q.passages])]) for q in others]
    unit = float(np.median([s.std() for s in scores]) / np.median([q.fused.std() for q in others]))
    assert nobody.ranked == []
    assert blend.rerank == 1
    assert blend.fused == pytest.approx(LEAST_UNPROVEN * unit, rel=0.01)


def test_what_is_not_blended_is_not_blended_carefully_either() -> None:
    assert Development([], [], {}, blends=False, others=candidates(3)).blend(ByText()) == RERANKER_ALONE
