"""Scores of candidates, batch by batch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tests.unit.trainer.ranked import ranked_query

from quarry.models.base import ModelInfo, PairScore
from quarry.models.cross_encoder import load_cross_encoder
from quarry.testing import make_tiny_cross_encoder
from quarry_trainer.data.live import RankedQuery
from quarry_trainer.evaluation import scoring
from quarry_trainer.evaluation.scoring import score_ranked


class LengthScorer:
    """Scores a pair by the length of its texts, and notes how many pairs came at once."""

    info = ModelInfo("length", "0" * 32, 64)

    def __init__(self) -> None:
        self.asked: list[int] = []

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[PairScore]:
        self.asked.append(len(pairs))
        return [PairScore(1_000.0 * len(query) + len(passage), False) for query, passage in pairs]


def test_each_query_gets_the_scores_of_its_own_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "PAIRS_AT_ONCE", 5)
    ranked = [
        ranked_query(str(n), ["d" * k for k in range(1, n + 1)], text="x" * n) for n in (0, 3, 2, 7, 0, 1)
    ]
    model, done = LengthScorer(), list[tuple[int, int]]()
    scores = score_ranked(model, ranked, lambda n, of: done.append((n, of)))
    assert [some.tolist() for some in scores] == [
        [1_000.0 * len(q.text) + len(passage) for passage in q.passages] for q in ranked
    ]
    assert model.asked == [5, 7, 1]
    assert done == [(3, 6), (4, 6), (6, 6)]
    assert score_ranked(model, []) == []


def test_scores_are_those_that_serve(tmp_path: Path) -> None:
    folder = make_tiny_cross_encoder(tmp_path / "model", seed=3)
    model = load_cross_encoder(str(folder), tmp_path / "data", "cpu")
    query = RankedQuery(
        "q",
        "bado ceda",
        ("a", "b"),
        np.array([0.9, 0.8]),
        ("tari sobi", "nolo " * 40),
        (("bm25",), ("dense",)),
    )
    (scores,) = score_ranked(model, [query])
    for score, passage in zip(scores, query.passages, strict=True):
        assert score == pytest.approx(model.score([("bado ceda", passage)])[0].score, abs=1e-4)


def test_a_ranked_query_has_as_many_scores_as_documents() -> None:
    with pytest.raises(ValueError, match="differ in number"):
        RankedQuery("q", "text", ("a", "b"), np.array([1.0]), ("x", "y"), ((), ()))
