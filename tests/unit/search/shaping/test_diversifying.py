"""Hits that repeat those above them come later, and no score rises."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from quarry.ranking.ranking import RankedDocument
from quarry.ranking.score_scale import ScoreBasis, scale_score
from quarry.ranking.shaping import Diversity
from quarry.search.shaping.diversifying import order_by_novelty
from quarry.types import Docno

EAST, NORTH = (1.0, 0.0), (0.0, 1.0)


def ranked(number: int, score: float, basis: ScoreBasis = ScoreBasis.FUSED) -> RankedDocument:
    return RankedDocument(Docno(number), f"d{number}", 1, score, scored_by=basis)


def scale(document: RankedDocument) -> float:
    return scale_score(document.scored_by, document.score)


def vectors(*rows: tuple[float, float]) -> dict[Docno, NDArray[np.float32]]:
    return {Docno(n): np.array([row], dtype=np.float32) for n, row in enumerate(rows)}


def ids(documents: list[RankedDocument]) -> list[str]:
    return [document.id for document in documents]


LIST = [ranked(0, 0.9), ranked(1, 0.8), ranked(2, 0.5)]


def test_a_copy_of_the_first_hit_comes_after_what_is_new() -> None:
    found = order_by_novelty(LIST, vectors(EAST, EAST, NORTH), Diversity(0.5), scale)
    assert ids(found) == ["d0", "d2", "d1"]
    assert [document.shape.similarity for document in found] == [0.0, 0.0, 1.0]
    assert [document.shape.score for document in found] == [0.9, 0.5, 0.5]


def test_with_all_weight_on_relevance_nothing_moves() -> None:
    found = order_by_novelty(LIST, vectors(EAST, EAST, EAST), Diversity(1.0), scale)
    assert ids(found) == ["d0", "d1", "d2"]
    assert [document.shape.score for document in found] == [scale(document) for document in LIST]


def test_the_passage_that_matched_is_the_one_that_is_compared() -> None:
    two = np.array([EAST, NORTH], dtype=np.float32)
    other = RankedDocument(Docno(1), "d1", 1, 0.8, passage=1)
    found = order_by_novelty(
        [LIST[0], other, LIST[2]], {**vectors(EAST, EAST, EAST), Docno(1): two}, Diversity(), scale
    )
    assert ids(found) == ["d0", "d1", "d2"]


def test_what_has_no_vector_repeats_nothing() -> None:
    found = order_by_novelty(LIST, {}, Diversity(0.1), scale)
    assert ids(found) == ["d0", "d1", "d2"]


def test_only_what_the_same_model_read_changes_places() -> None:
    read = [ranked(0, 2.0, ScoreBasis.FIRST_STAGE), ranked(1, 1.0, ScoreBasis.FIRST_STAGE)]
    found = order_by_novelty([*read, ranked(2, 0.9)], vectors(EAST, EAST, NORTH), Diversity(0.1), scale)
    assert ids(found) == ["d0", "d1", "d2"]
    assert found[2].shape.similarity is None


def test_what_lies_below_the_depth_stays() -> None:
    found = order_by_novelty(LIST, vectors(EAST, EAST, NORTH), Diversity(0.1, depth=2), scale)
    assert ids(found) == ["d0", "d1", "d2"]


@pytest.mark.parametrize("documents", [[], LIST[:1]])
def test_a_list_of_one_hit_or_none_stays(documents: list[RankedDocument]) -> None:
    assert order_by_novelty(documents, {}, Diversity(), scale) == documents


@pytest.mark.parametrize("weight", [0.01, 0.3, 0.5, 0.9, 1.0])
def test_no_score_rises_and_the_order_is_the_greedy_one(weight: float) -> None:
    random = np.random.default_rng(18)
    for size in (2, 7, 60):
        rows = random.normal(size=(size, 8))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        scores = np.sort(random.random(size))[::-1]
        documents = [ranked(n, float(score)) for n, score in enumerate(scores)]
        held = {Docno(n): row[None].astype(np.float32) for n, row in enumerate(rows)}
        found = order_by_novelty(documents, held, Diversity(weight, 50), scale)
        given = [d.shape.score if d.shape.score is not None else scale(d) for d in found]
        assert all(above >= below for above, below in itertools.pairwise(given))
        first = min(size, 50)
        assert ids(found[first:]) == [f"d{n}" for n in range(first, size)]
        assert ids(found[:first]) == order_greedily(scores[:first], rows[:first], weight)


def order_greedily(scores: NDArray[np.float64], rows: NDArray[np.float64], weight: float) -> list[str]:
    """Chooses by the formula as the proto has it."""
    relevance = (scores - scores.min()) / np.ptp(scores)
    chosen: list[int] = []
    while len(chosen) < len(scores):
        values = {
            n: weight * relevance[n]
            - (1 - weight) * max([0.0, *(float(rows[n] @ rows[other]) for other in chosen)])
            for n in range(len(scores))
            if n not in chosen
        }
        chosen.append(max(values, key=lambda n: values[n]))
    return [f"d{n}" for n in chosen]
