"""Exact search over passages: equal to trying everything, whatever the blocks and the company."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarry_miner.members import matrix as subject
from quarry_miner.members.lsa import normalize
from quarry_miner.members.matrix import NO_VECTOR, DocumentMatrix


def any_matrix(seed: int, documents: int, most_passages: int) -> DocumentMatrix:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0 if most_passages > 1 else 1, most_passages + 1, documents)
    vectors = normalize(rng.normal(size=(int(lengths.sum()), 8)).astype(np.float32))
    return DocumentMatrix(vectors, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def by_hand(matrix: DocumentMatrix, query: np.ndarray) -> np.ndarray:
    bounds = zip(matrix.offsets[:-1], matrix.offsets[1:], strict=True)
    return np.array([max((matrix.vectors[a:b] @ query).tolist(), default=NO_VECTOR) for a, b in bounds])


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "BLOCK_PASSAGES", 5)
    monkeypatch.setattr(subject, "BLOCK_QUERIES", 2)
    monkeypatch.setattr(subject, "SLACK", 2)


@pytest.mark.parametrize("most_passages", [1, 4])
def test_search_in_blocks_finds_what_trying_everything_finds(small_blocks: None, most_passages: int) -> None:
    for seed in range(30):
        matrix = any_matrix(seed, documents=23, most_passages=most_passages)
        queries = normalize(np.random.default_rng(seed + 1).normal(size=(5, 8)).astype(np.float32))
        documents, scores = matrix.find_nearest(queries, 7)
        for row, query in enumerate(queries):
            every = by_hand(matrix, query)
            assert scores[row] == pytest.approx(np.sort(every)[::-1][:7], abs=1e-6)
            assert every[documents[row]] == pytest.approx(scores[row], abs=1e-6)


def test_equal_documents_come_by_number() -> None:
    vector = normalize(np.ones((1, 8), np.float32))
    documents, _ = DocumentMatrix.from_vectors(np.repeat(vector, 6, axis=0)).find_nearest(vector, 4)
    assert documents.tolist() == [[0, 1, 2, 3]]


@given(seed=st.integers(0, 1_000), company=st.integers(1, 9))
def test_a_querys_answer_is_the_same_to_the_last_bit_in_any_company(seed: int, company: int) -> None:
    matrix = any_matrix(seed, documents=40, most_passages=3)
    queries = normalize(np.random.default_rng(seed).normal(size=(company, 8)).astype(np.float32))
    together, alone = matrix.find_nearest(queries, 6), matrix.find_nearest(queries[-1:], 6)
    assert together[0][-1].tolist() == alone[0][0].tolist()
    assert together[1][-1].tolist() == alone[1][0].tolist()


def test_two_documents_are_as_similar_as_their_most_similar_passages() -> None:
    vectors = np.eye(4, dtype=np.float32)[[0, 1, 1, 2, 3]]
    matrix = DocumentMatrix(vectors, np.array([0, 2, 4, 4, 5]))
    assert matrix.compare_documents(0, np.array([1, 2, 3], np.int32)).tolist() == [1.0, NO_VECTOR, 0.0]
    assert matrix.compare_documents(2, np.array([0], np.int32)).tolist() == [NO_VECTOR]


def test_offsets_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="offsets"):
        DocumentMatrix(np.ones((3, 2), np.float32), np.array([0, 2]))
