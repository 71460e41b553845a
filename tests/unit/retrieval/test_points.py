"""Vectors that a store takes, and documents put together from the points that an engine finds."""

import numpy as np
import pytest
from numpy.typing import NDArray

from quarry.retrieval.points import Fetch, check_vector, collect_documents, make_point_id
from quarry.types import Candidate, Docno

UNIT = np.array([0.6, 0.8], np.float32)


def test_a_unit_vector_is_taken_as_float32() -> None:
    taken = check_vector(UNIT.astype(np.float64), 2)
    assert taken.dtype == np.float32
    assert taken.tolist() == UNIT.tolist()


@pytest.mark.parametrize(
    "vector",
    [UNIT[:1], UNIT[None, :], 2 * UNIT, 0 * UNIT, UNIT * np.nan, np.array([np.inf, 0], np.float32)],
    ids=["short", "a matrix", "long", "zero", "nan", "infinite"],
)
def test_what_is_no_unit_vector_is_refused(vector: NDArray[np.float32]) -> None:
    with pytest.raises(ValueError, match="vector"):
        check_vector(vector, 2)


def test_a_document_has_its_best_passage_and_ties_go_by_docno() -> None:
    rounds = collect_documents(2)
    assert next(rounds) == Fetch(4, ())
    hits = [(make_point_id(9, 1), 0.5), (make_point_id(9, 0), 0.5), (make_point_id(3, 2), 0.5)]
    with pytest.raises(StopIteration) as done:
        rounds.send(hits)
    assert done.value.value == [Candidate(Docno(3), 0.5, 2), Candidate(Docno(9), 0.5, 0)]


def test_documents_that_tie_with_the_last_place_are_all_fetched() -> None:
    rounds = collect_documents(1)
    next(rounds)
    again = rounds.send([(make_point_id(9, 0), 0.5), (make_point_id(8, 0), 0.5)])
    assert (again.limit, set(again.found)) == (8, {Docno(8), Docno(9)})
    with pytest.raises(StopIteration) as done:
        rounds.send([(make_point_id(2, 0), 0.5)])
    assert done.value.value == [Candidate(Docno(2), 0.5)]
