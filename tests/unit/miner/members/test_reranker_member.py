"""A re-ranker as judge: what it scores, and its order as a member's."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from tests.unit.miner.small import make_corpus, task_of

from quarry.errors import FailedPreconditionError
from quarry.models.base import ModelInfo, PairScore
from quarry.models.blend import Blend
from quarry.models.calibration import Calibration
from quarry_miner.members.reranker_member import Belief, Reranker
from quarry_miner.mining.candidates import Gatherer
from quarry_miner.mining.mining import mine
from quarry_miner.presets.registry import make_preset


class WordOverlap:
    """A cross-encoder that counts shared words."""

    info = ModelInfo("overlap", "0" * 32, 64)

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[PairScore]:
        return [PairScore(float(len({*q.split()} & {*p.split()})) - 2, False) for q, p in pairs]


def test_each_query_is_scored_with_its_own_documents() -> None:
    reranker = Reranker(WordOverlap(), make_corpus(["red apple", "green apple pie", "blue"]))
    first, none, second = reranker.compute_logits(
        ["red apple", "x", "apple pie"],
        [np.array([0, 1], np.int32), np.array([], np.int32), np.array([2, 1], np.int32)],
    )
    assert (first.tolist(), none.tolist(), second.tolist()) == ([0, -1], [], [-2, 0])


def test_it_reads_the_passage_that_matches_the_query_not_the_beginning() -> None:
    long = " ".join(["blue sky over the sea."] * 60) + " A red apple. " + " ".join(["grey rock."] * 60)
    reranker = Reranker(WordOverlap(), make_corpus([long]))
    (logits,) = reranker.compute_logits(["red apple."], [np.array([0], np.int32)])
    assert logits.tolist() == [0]

    cut = Reranker(
        WordOverlap(), make_corpus(["red apple. green pear."]), lambda source: source.text.split(". ")
    )
    (logits,) = cut.compute_logits(["green pear."], [np.array([0], np.int32)])
    assert logits.tolist() == [0]


def test_as_a_member_it_ranks_what_the_others_list_by_its_score() -> None:
    task = task_of(documents=60, queries=5)
    judge = Reranker(WordOverlap(), task.corpus)
    judged = dataclasses.replace(task, judge=judge, judge_is_member=True)
    pairs = Gatherer(judged, judged=True).gather(0, 5).pairs
    assert pairs
    for pair in pairs:
        own = pair.members.index("reranker")
        logits = judge.compute_logits([task.queries[pair.query].text], [pair.documents])[0]
        best_first = np.lexsort((pair.documents, -logits))
        listed = best_first[: int((pair.ranks[own] > 0).sum())]
        assert pair.ranks[own][listed].tolist() == list(range(1, task.depth + 1))
        np.testing.assert_allclose(pair.scores[own][listed], logits[listed])
        np.testing.assert_array_equal(pair.judged, logits)
        assert np.isnan(pair.rerank).all() and np.isnan(pair.rerank_positive)


CALIBRATION = Calibration(
    slope=2.0, intercept=-1.0, source="judgments", queries=40, pairs=400, relevant=40, ece=0.02, ece_all=0.01
)


def test_probabilities_are_those_of_the_versions_calibration() -> None:
    scores = np.array([-2.0, 0.0, 1.0], np.float32)
    belief = Belief(Blend(rerank=0.5), CALIBRATION)
    np.testing.assert_allclose(belief.estimate_probabilities(scores), 1 / (1 + np.exp(1 - scores)), rtol=1e-5)
    assert not belief.lacking


@pytest.mark.parametrize(
    ("belief", "why"),
    [(Belief(), "no calibration"), (Belief(Blend(rerank=1, fused=30), CALIBRATION), "fused score")],
)
def test_a_score_that_tells_no_probability_drops_refutes_and_relabels_nothing(
    belief: Belief, why: str
) -> None:
    """A split model gives 20 times a cosine, whose sigmoid is near 1 for every candidate."""
    task = task_of(documents=60, queries=5)

    class Cosines(WordOverlap):
        def score(self, pairs: Sequence[tuple[str, str]]) -> list[PairScore]:
            return [PairScore(10 + one.score, one.truncated) for one in super().score(pairs)]

    judge = Reranker(Cosines(), task.corpus, belief=belief)
    judged = dataclasses.replace(task, judge=judge, judge_is_member=True)
    found = mine(judged, make_preset("quarry"), 4, seed=7)
    assert found.examples and all(one.label == 0 and "rerank" not in one.evidence for one in found.examples)
    assert not {one.rule for one in found.examples} & {"refuted:rerank", "relabelled:rerank"}
    for preset in ("denoised", "relabelled"):
        with pytest.raises(FailedPreconditionError, match=why) as caught:
            mine(judged, make_preset(preset), 4, seed=7)
        assert caught.value.metadata["need"] == "calibration"
    assert mine(judged, make_preset("refresh"), 4, seed=7).examples
