"""A re-ranker as judge: what it scores, and its order as a member's."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from tests.unit.miner.core.small import corpus_of, task_of

from quarry.models.base import ModelInfo, PairScore
from quarry_miner.candidates import Gatherer
from quarry_miner.reranker import Reranker, probability


class WordOverlap:
    """A cross-encoder that counts shared words."""

    info = ModelInfo("overlap", "0" * 32, 64)

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[PairScore]:
        return [PairScore(float(len({*q.split()} & {*p.split()})) - 2, False) for q, p in pairs]


def test_each_query_is_scored_with_its_own_documents() -> None:
    reranker = Reranker(WordOverlap(), corpus_of(["red apple", "green apple pie", "blue"]))
    first, none, second = reranker.logits(
        ["red apple", "x", "apple pie"],
        [np.array([0, 1], np.int32), np.array([], np.int32), np.array([2, 1], np.int32)],
    )
    assert (first.tolist(), none.tolist(), second.tolist()) == ([0, -1], [], [-2, 0])


def test_it_reads_the_passage_that_matches_the_query_not_the_beginning() -> None:
    long = " ".join(["blue sky over the sea."] * 60) + " A red apple. " + " ".join(["grey rock."] * 60)
    reranker = Reranker(WordOverlap(), corpus_of([long]))
    (logits,) = reranker.logits(["red apple."], [np.array([0], np.int32)])
    assert logits.tolist() == [0]

    cut = Reranker(
        WordOverlap(), corpus_of(["red apple. green pear."]), lambda source: source.text.split(". ")
    )
    (logits,) = cut.logits(["green pear."], [np.array([0], np.int32)])
    assert logits.tolist() == [0]


def test_as_a_member_it_ranks_what_the_others_list_by_its_score() -> None:
    task = task_of(documents=60, queries=5)
    judge = Reranker(WordOverlap(), task.corpus)
    judged = dataclasses.replace(task, judge=judge, judge_is_member=True)
    pairs = Gatherer(judged, judged=True).of(0, 5).pairs
    assert pairs
    for pair in pairs:
        own = pair.members.index("reranker")
        logits = judge.logits([task.queries[pair.query].text], [pair.documents])[0]
        best_first = np.lexsort((pair.documents, -logits))
        listed = best_first[: int((pair.ranks[own] > 0).sum())]
        assert pair.ranks[own][listed].tolist() == list(range(1, task.depth + 1))
        np.testing.assert_allclose(pair.scores[own][listed], logits[listed])
        np.testing.assert_allclose(pair.rerank, probability(logits))
